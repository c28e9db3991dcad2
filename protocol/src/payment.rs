//! What of a Lightning payment crosses the wire: hashes, preimages, and the payee's receipt.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::amount::Msat;
use crate::bytes::{HexError, hex_text};
use crate::codec::Wire;

/// The SHA-256 of a preimage: names a payment (BOLT 2, `update_add_htlc`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentHash([u8; 32]);

impl PaymentHash {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

hex_text!(PaymentHash, 32, HexError, |bytes| Ok::<_, HexError>(PaymentHash::from_bytes(bytes)));

/// The secret that releases a payment. It is shown as its hash only; [`Preimage::reveal`] is for handing it out.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PreimageBytes", into = "PreimageBytes")]
pub struct Preimage([u8; 32]);

impl Preimage {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The hash that it releases.
    pub fn hash(self) -> PaymentHash {
        PaymentHash(Sha256::digest(self.0).into())
    }

    /// The secret as hex.
    pub fn reveal(self) -> String {
        hex::encode(self.0)
    }

    /// Reads what [`Preimage::reveal`] gave.
    ///
    /// # Errors
    /// [`HexError`].
    pub fn parse(text: &str) -> Result<Self, HexError> {
        crate::bytes::parse::<32>(text).map(Self)
    }
}

impl std::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Preimage(of {})", self.hash())
    }
}

/// The form of a preimage in files and messages.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PreimageBytes([u8; 32]);

impl PreimageBytes {
    fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

hex_text!(PreimageBytes, 32, HexError, |bytes| Ok::<_, HexError>(PreimageBytes(bytes)));

impl From<PreimageBytes> for Preimage {
    fn from(bytes: PreimageBytes) -> Self {
        Self(bytes.0)
    }
}

impl From<Preimage> for PreimageBytes {
    fn from(preimage: Preimage) -> Self {
        Self(preimage.0)
    }
}

/// What a payment was for: 32 bytes that payments carry and never look into.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject([u8; 32]);

impl Subject {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

hex_text!(Subject, 32, HexError, |bytes| Ok::<_, HexError>(Subject::from_bytes(bytes)));

/// A payee's word that it was paid, signed with the key of its Lightning node.
///
/// A preimage proves nothing here: whoever locks an escrow may learn it in other ways. The node's key also signed the
/// invoice with this payment hash, so the two together are evidence against the payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which payment.
    pub payment_hash: PaymentHash,
    /// What was received.
    pub amount: Msat,
    /// What for.
    pub subject: Subject,
}

impl Wire for Receipt {
    const NAME: &'static str = "watershed/receipt";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 128;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preimage_is_shown_by_its_hash_and_travels_as_itself() {
        let preimage = Preimage::from_bytes([7; 32]);
        let shown = format!("{preimage:?}");
        assert!(shown.contains(&preimage.hash().to_string()) && !shown.contains("0707"));
        assert_eq!(Preimage::parse(&preimage.reveal()), Ok(preimage));
        let json = serde_json::to_string(&preimage).unwrap();
        assert_eq!(serde_json::from_str::<Preimage>(&json).unwrap(), preimage);
        // FIPS 180-4 through BOLT 11's first example: the hash of zeros
        assert_eq!(
            Preimage::from_bytes([0; 32]).hash().to_string(),
            "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
        );
    }
}
