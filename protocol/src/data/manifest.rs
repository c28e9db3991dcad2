//! The manifest of a deposit: everything that is said about a text, without the text.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::consent::ConsentTier;
use super::kind::{CoreCode, License, Register};
use crate::codec::{DecodeError, EncodeError, Wire, decode, encode};
use crate::envelope::{Envelope, EnvelopeError};
use crate::id::{ManifestId, TextId};
use crate::key::{PublicKey, SecretKey};

/// What a contributor says of a text.
///
/// It holds no time, so the same person saying the same of the same text makes the same manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Who deposits it, and signs.
    pub contributor: PublicKey,
    /// Hash of the normalised text.
    pub text: TextId,
    /// Bytes of the normalised text.
    pub bytes: u64,
    /// How often this contributor has withdrawn the same text before.
    pub revision: u32,
    /// What it is called; 1 to 300 bytes, without control characters.
    pub title: String,
    /// Who wrote it, if that is not the contributor, or is known; at most 300 bytes.
    pub author: String,
    /// BCP 47 language tag, at most 35 bytes; `und` if it is not known.
    pub language: String,
    /// What kind of text it is.
    pub register: Register,
    /// Finer kinds, ascending; at most 8.
    #[serde(deserialize_with = "crate::list")]
    pub core: Vec<CoreCode>,
    /// On what terms; 1 to 1000 bytes.
    pub license: License,
    /// What it may be used for.
    pub tier: ConsentTier,
    /// Where it comes from: an address, a citation, or empty; at most 500 bytes.
    pub source: String,
}

impl Wire for Manifest {
    const NAME: &'static str = "watershed/manifest";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 4096;
}

/// A field of a manifest that holds what it must not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// Too short or too long.
    #[error("{field} has {found} bytes; {least} to {most} are allowed")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes it has.
        found: usize,
        /// Fewest.
        least: usize,
        /// Most.
        most: usize,
    },
    /// A control character.
    #[error("{field} has a control character at byte {position}")]
    Control {
        /// The field.
        field: &'static str,
        /// Where.
        position: usize,
    },
    /// Not the shape of a language tag.
    #[error("{0:?} is no language tag such as en, pt-BR or und (BCP 47)")]
    Language(String),
    /// CORE codes not ascending, repeated, or too many.
    #[error("CORE codes are listed once each, in the order of the list, at most 8")]
    Core,
    /// A text of no bytes.
    #[error("the text is empty")]
    Empty,
    /// A deposit that allows nothing.
    #[error("a deposit with consent tier none would be of no use")]
    NoConsent,
}

/// Whether `tag` has the outline of BCP 47: subtags of 1 to 8 letters or digits, the first of 2 to 8 letters.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let alphanumeric = |s: &str| (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric());
    let first = subtags.next().is_some_and(|s| s.len() >= 2 && s.bytes().all(|b| b.is_ascii_alphabetic()));
    first && tag.split('-').all(alphanumeric) && tag.len() <= 35
}

fn check_text(field: &'static str, text: &str, least: usize, most: usize) -> Result<(), FieldError> {
    if !(least..=most).contains(&text.len()) {
        return Err(FieldError::Length { field, found: text.len(), least, most });
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((position, _)) => Err(FieldError::Control { field, position }),
        None => Ok(()),
    }
}

impl Manifest {
    /// Most bytes of a title.
    pub const MAX_TITLE: usize = 300;

    /// Checks every field.
    ///
    /// # Errors
    /// [`FieldError`] for the first that holds what it must not.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("the title", &self.title, 1, Self::MAX_TITLE)?;
        check_text("the author", &self.author, 0, 300)?;
        check_text("the licence", self.license.text(), 1, 1000)?;
        check_text("the source", &self.source, 0, 500)?;
        if !is_language(&self.language) {
            return Err(FieldError::Language(self.language.chars().take(40).collect()));
        }
        if self.core.len() > 8 || !self.core.is_sorted_by(|a, b| a < b) {
            return Err(FieldError::Core);
        }
        if self.bytes == 0 {
            return Err(FieldError::Empty);
        }
        if self.tier == ConsentTier::None {
            return Err(FieldError::NoConsent);
        }
        Ok(())
    }
}

/// Bytes that are no deposit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DepositError {
    /// Not an envelope.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Not a manifest, or not signed by who it says.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Signed by one, speaking for another.
    #[error("signed by {signer} in the name of {contributor}")]
    Signer {
        /// Who signed.
        signer: PublicKey,
        /// Whom it names.
        contributor: PublicKey,
    },
    /// A field.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Larger than a manifest may be.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A manifest whose signature and fields have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    id: ManifestId,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Deposit {
    /// Signs a manifest.
    ///
    /// # Errors
    /// [`DepositError::Field`] for what must not be in it, [`DepositError::Signer`] for another's key.
    pub fn sign(manifest: Manifest, key: &SecretKey) -> Result<Self, DepositError> {
        manifest.check()?;
        if key.public() != manifest.contributor {
            return Err(DepositError::Signer { signer: key.public(), contributor: manifest.contributor });
        }
        let bytes = encode(&Envelope::sign(&manifest, key)?)?;
        Ok(Self { id: ManifestId::of(&encode(&manifest)?), manifest, bytes })
    }

    /// Reads a signed manifest and checks all of it.
    ///
    /// # Errors
    /// [`DepositError`].
    pub fn open(bytes: &[u8]) -> Result<Self, DepositError> {
        let opened = decode::<Envelope>(bytes)?.open::<Manifest>()?;
        let signer = opened.signer();
        let manifest = opened.into_value();
        if signer != manifest.contributor {
            return Err(DepositError::Signer { signer, contributor: manifest.contributor });
        }
        manifest.check()?;
        Ok(Self { id: ManifestId::of(&encode(&manifest)?), manifest, bytes: bytes.to_vec() })
    }

    /// Its name: the hash of the manifest. Whoever signed the same manifest, it is the same deposit.
    pub fn id(&self) -> ManifestId {
        self.id
    }

    /// What is said.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signed form.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a library signs when it has stored a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The deposit.
    pub manifest: ManifestId,
    /// Its text.
    pub text: TextId,
    /// When it was stored, in seconds since 1970.
    pub stored_at: u64,
}

impl Wire for Receipt {
    const NAME: &'static str = "watershed/deposit-receipt";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 128;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_entropy([3; 32]).unwrap()
    }

    fn manifest() -> Manifest {
        Manifest {
            contributor: key().public(),
            text: TextId::of(b"Call me Ishmael."),
            bytes: 16,
            revision: 0,
            title: "Moby-Dick".to_owned(),
            author: "Herman Melville".to_owned(),
            language: "en".to_owned(),
            register: Register::Narrative,
            core: vec![CoreCode::Lyrical, CoreCode::Narrative],
            license: License::Spdx("CC0-1.0".to_owned()),
            tier: ConsentTier::TrainIndex,
            source: "https://example.org/moby".to_owned(),
        }
    }

    #[test]
    fn a_deposit_reads_back_and_every_flipped_bit_is_noticed() {
        let deposit = Deposit::sign(manifest(), &key()).unwrap();
        assert_eq!(Deposit::open(deposit.bytes()).unwrap(), deposit);
        for bit in 0..deposit.bytes().len() * 8 {
            let mut flipped = deposit.bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Deposit::open(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn nobody_deposits_in_another_name() {
        let other = SecretKey::from_entropy([4; 32]).unwrap();
        assert!(matches!(Deposit::sign(manifest(), &other), Err(DepositError::Signer { .. })));
        let forged = encode(&Envelope::sign(&manifest(), &other).unwrap()).unwrap();
        assert!(matches!(Deposit::open(&forged), Err(DepositError::Signer { .. })));
    }

    #[test]
    fn each_field_is_checked() {
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            let signed = encode(&Envelope::sign(&manifest, &key()).unwrap()).unwrap();
            let refused = Deposit::open(&signed).unwrap_err();
            assert_eq!(Deposit::sign(manifest, &key()), Err(refused.clone()));
            refused.to_string()
        };
        assert!(refused(|m| m.title.clear()).contains("title"));
        assert!(refused(|m| m.title = "a\nb".to_owned()).contains("byte 1"));
        assert!(refused(|m| m.language = "english language".to_owned()).contains("BCP 47"));
        assert!(refused(|m| m.core.reverse()).contains("CORE"));
        assert!(refused(|m| m.license = License::Words(String::new())).contains("licence"));
        assert!(refused(|m| m.source = "x".repeat(501)).contains("501"));
        assert!(refused(|m| m.bytes = 0).contains("empty"));
        assert!(refused(|m| m.tier = ConsentTier::None).contains("none"));
        for good in ["en", "pt-BR", "zh-Hant-TW", "und", "de-1901", "x-y"] {
            assert_eq!(is_language(good), good != "x-y", "{good}");
        }
    }
}
