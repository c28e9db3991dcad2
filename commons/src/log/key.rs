//! The keys that sign and verify a log's checkpoints.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{SECRET_KEY_LENGTH, SignatureError, Signer as _, SigningKey, VerifyingKey};
use signed_note::{StandardVerifier, Verifier, VerifierError};

use super::error::KeyError;

const MAX_ORIGIN: usize = 255;

/// The secret key of a log, with the origin name that its checkpoints bear.
#[derive(Clone)]
pub struct LogKey {
    key: SigningKey,
    verifier: LogVerifier,
}

impl LogKey {
    /// Makes the key of the log `origin` from 32 bytes of entropy, which must be secret and random.
    ///
    /// The same bytes and origin always give the same key. The origin is a URL without its scheme, such as
    /// `example.com/log`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Origin`] if the origin cannot stand in a signed note.
    pub fn new(origin: &str, entropy: &[u8; SECRET_KEY_LENGTH]) -> Result<LogKey, KeyError> {
        let key = SigningKey::from_bytes(entropy);
        let verifier = LogVerifier::new(origin, key.verifying_key())?;
        Ok(LogKey { key, verifier })
    }

    /// The log's origin name.
    pub fn origin(&self) -> &str {
        self.verifier.origin()
    }

    /// The public key that belongs to this key.
    pub fn verifier(&self) -> LogVerifier {
        self.verifier.clone()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogKey").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl signed_note::Signer for LogKey {
    fn name(&self) -> &str {
        self.origin()
    }

    fn key_id(&self) -> u32 {
        self.verifier.note.key_id()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.key.try_sign(message)?.to_vec())
    }
}

/// The public key of a log, with its origin name: all that a reader must know of a log beforehand.
///
/// Its text, by `Display` and `FromStr`, is the verifier key of <https://c2sp.org/signed-note>:
/// `origin+hash+key`.
#[derive(Clone)]
pub struct LogVerifier {
    text: String,
    note: StandardVerifier,
}

impl LogVerifier {
    fn new(origin: &str, key: VerifyingKey) -> Result<LogVerifier, KeyError> {
        // The note format alone lets control characters stand in a name but not in a note.
        if !signed_note::is_key_name_valid(origin)
            || origin.len() > MAX_ORIGIN
            || origin.chars().any(char::is_control)
        {
            return Err(KeyError::Origin(origin.chars().take(MAX_ORIGIN).collect()));
        }
        let text = signed_note::new_ed25519_verifier_key(origin, &key);
        let note = StandardVerifier::new(&text).map_err(KeyError::Verifier)?;
        Ok(LogVerifier { text, note })
    }

    /// The log's origin name.
    pub fn origin(&self) -> &str {
        self.note.name()
    }

    pub(super) fn note(&self) -> &StandardVerifier {
        &self.note
    }
}

impl FromStr for LogVerifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<LogVerifier, KeyError> {
        let text = text.trim();
        let note = StandardVerifier::new(text).map_err(KeyError::Verifier)?;
        let malformed = || KeyError::Verifier(VerifierError::Format);
        // The key itself is taken out again so that two spellings of one key become one text.
        let key = text.splitn(3, '+').nth(2).ok_or_else(malformed)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| malformed())?;
        let key = key.get(1..).and_then(|key| key.try_into().ok()).ok_or_else(malformed)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| malformed())?;
        LogVerifier::new(note.name(), key)
    }
}

impl fmt::Display for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogVerifier").field(&self.text).finish()
    }
}

impl PartialEq for LogVerifier {
    fn eq(&self, other: &LogVerifier) -> bool {
        self.text == other.text
    }
}

impl Eq for LogVerifier {}
