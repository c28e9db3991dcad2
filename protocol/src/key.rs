//! Keys and signatures: BIP-340 (Schnorr over secp256k1, x-only public keys).

use secp256k1::{Keypair, SECP256K1, XOnlyPublicKey, schnorr};
use thiserror::Error;

use crate::bytes::{HexError, hex_text};
use crate::hash::Digest;

/// Bytes or text that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the x coordinate of a point of the curve.
    #[error("these 32 bytes are no public key")]
    NotAPoint,
    /// Zero, or not below the order of the curve.
    #[error("these 32 bytes are no secret key; draw others")]
    NotAScalar,
    /// Text of another form.
    #[error("a key is 64 lowercase hex digits")]
    Text,
}

impl From<HexError> for KeyError {
    fn from(_: HexError) -> Self {
        Self::Text
    }
}

/// Who signs. Kept as bytes, which were checked to be a key: keys are compared far more often than they verify.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        XOnlyPublicKey::from_slice(&bytes).map(|_| Self(bytes)).map_err(|_| KeyError::NotAPoint)
    }

    /// The 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &Digest, signature: &Signature) -> bool {
        let message = secp256k1::Message::from_digest(message.0);
        let (signature, key) =
            (schnorr::Signature::from_slice(&signature.0), XOnlyPublicKey::from_slice(&self.0));
        match (signature, key) {
            (Ok(signature), Ok(key)) => SECP256K1.verify_schnorr(&signature, &message, &key).is_ok(),
            _ => false,
        }
    }
}

hex_text!(PublicKey, 32, KeyError, PublicKey::from_bytes);

/// The secret half. It has no text form; [`SecretKey::to_bytes`] is for a key file only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKey(Keypair);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

impl SecretKey {
    /// From 32 random bytes of the caller's.
    ///
    /// # Errors
    /// [`KeyError::NotAScalar`], which random bytes are once in 2^128.
    pub fn from_entropy(bytes: [u8; 32]) -> Result<Self, KeyError> {
        Keypair::from_seckey_slice(SECP256K1, &bytes).map(Self).map_err(|_| KeyError::NotAScalar)
    }

    /// The secret bytes, to be stored.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.secret_bytes()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.x_only_public_key().0.serialize())
    }

    /// Signs with auxiliary randomness of zeros: the same message gets the same signature, so a process that repeats a
    /// journalled step after a crash repeats it to the byte. BIP-340 allows it; the nonce still depends on the key.
    pub fn sign(&self, message: &Digest) -> Signature {
        let message = secp256k1::Message::from_digest(message.0);
        Signature(SECP256K1.sign_schnorr_with_aux_rand(&message, &self.0, &[0; 32]).serialize())
    }
}

/// 64 bytes that [`PublicKey::verifies`] judges.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its bytes; whether they verify is another question.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; 64] {
        self.0
    }
}

hex_text!(Signature, 64, HexError, |bytes| Ok::<_, HexError>(Signature::from_bytes(bytes)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_0_of_bip_340() {
        let mut secret = [0; 32];
        secret[31] = 3;
        let key = SecretKey::from_entropy(secret).unwrap();
        let public = "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
        assert_eq!(key.public().to_string(), public);
        let signature = key.sign(&Digest([0; 32]));
        assert_eq!(
            signature.to_string(),
            "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca821525f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0"
        );
        assert!(key.public().verifies(&Digest([0; 32]), &signature));
        assert!(!key.public().verifies(&Digest([1; 32]), &signature));
    }

    #[test]
    fn what_is_no_key_is_refused_and_secrets_are_not_shown() {
        assert_eq!(SecretKey::from_entropy([0; 32]), Err(KeyError::NotAScalar));
        assert_eq!(SecretKey::from_entropy([255; 32]), Err(KeyError::NotAScalar));
        assert_eq!(PublicKey::from_bytes([255; 32]), Err(KeyError::NotAPoint));
        assert_eq!("00".parse::<PublicKey>(), Err(KeyError::Text));
        let key = SecretKey::from_entropy([9; 32]).unwrap();
        assert!(!format!("{key:?}").contains("0909"));
    }
}
