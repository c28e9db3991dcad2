//! Signed messages. A value that came through [`Envelope::open`] is known to be signed; there is no other way to a
//! [`Verified`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{DecodeError, EncodeError, Wire, decode, encode};
use crate::hash::{Digest, Domain, TaggedHasher};
use crate::key::{PublicKey, SecretKey, Signature};

/// An encoded value with its signer's signature over the type's name and the encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    signer: PublicKey,
    signature: Signature,
    #[serde(deserialize_with = "crate::codec::bytes")]
    payload: Vec<u8>,
}

impl Wire for Envelope {
    const NAME: &'static str = "watershed/envelope";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 1 << 20;
}

/// A message that is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// The signature is not the signer's over this type and payload.
    #[error("the signature is not that of {signer} over a {name}")]
    Signature {
        /// Who it claims to be from.
        signer: PublicKey,
        /// The type that was expected.
        name: &'static str,
    },
    /// The payload is not a value of this type.
    #[error(transparent)]
    Payload(#[from] DecodeError),
}

/// A value whose signature has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signer: PublicKey,
    digest: Digest,
}

impl<T> Verified<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }
    /// Takes the value out.
    pub fn into_value(self) -> T {
        self.value
    }
    /// Who signed it.
    pub fn signer(&self) -> PublicKey {
        self.signer
    }
    /// What was signed: the name of this message in the record.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// The signed hash: name with its length, then payload (whose first byte is the version).
fn digest(name: &str, payload: &[u8]) -> Digest {
    let mut hasher = TaggedHasher::new(Domain::Envelope);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(payload);
    hasher.finish()
}

impl Envelope {
    /// Signs `value`.
    ///
    /// # Errors
    /// What [`encode`] refuses.
    pub fn sign<T: Wire>(value: &T, key: &SecretKey) -> Result<Self, EncodeError> {
        let payload = encode(value)?;
        let signature = key.sign(&digest(T::NAME, &payload));
        Ok(Self { signer: key.public(), signature, payload })
    }

    /// Who it claims to be from; nothing is checked.
    pub fn claimed_signer(&self) -> PublicKey {
        self.signer
    }

    /// Checks the signature, then decodes.
    ///
    /// # Errors
    /// [`EnvelopeError`]. A payload of another type fails at the signature, which covers the type's name.
    pub fn open<T: Wire>(&self) -> Result<Verified<T>, EnvelopeError> {
        let digest = digest(T::NAME, &self.payload);
        if !self.signer.verifies(&digest, &self.signature) {
            return Err(EnvelopeError::Signature { signer: self.signer, name: T::NAME });
        }
        Ok(Verified { value: decode(&self.payload)?, signer: self.signer, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! note {
        ($name:ident) => {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            struct $name(String);
            impl Wire for $name {
                const NAME: &'static str = stringify!($name);
                const VERSION: u8 = 1;
                const MAX_BYTES: usize = 100;
            }
        };
    }
    note!(Offer);
    note!(Verdict);

    fn signed() -> Envelope {
        Envelope::sign(&Offer("1000 sat".to_owned()), &SecretKey::from_entropy([5; 32]).unwrap()).unwrap()
    }

    #[test]
    fn a_signed_value_opens_as_its_own_type_only() {
        let envelope = signed();
        let opened = envelope.open::<Offer>().unwrap();
        assert_eq!(opened.value().0, "1000 sat");
        assert_eq!(opened.signer(), envelope.claimed_signer());
        assert!(matches!(envelope.open::<Verdict>(), Err(EnvelopeError::Signature { name: "Verdict", .. })));
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let bytes = encode(&signed()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = decode::<Envelope>(&flipped).ok().and_then(|e| e.open::<Offer>().ok());
            assert_eq!(opened, None, "bit {bit}");
        }
    }

    #[test]
    fn another_signer_cannot_take_the_credit() {
        let mut envelope = signed();
        envelope.signer = SecretKey::from_entropy([6; 32]).unwrap().public();
        assert!(matches!(envelope.open::<Offer>(), Err(EnvelopeError::Signature { .. })));
    }
}
