//! The one secret that all tokens come from, and what is derived from it.

use std::fmt;

use libmacaroon::MacaroonKey;
use sha2::{Digest as _, Sha256};
use watershed_protocol::PaymentHash;

/// 32 secret bytes from which the key of every token is derived. Who has them can make tokens; a new one makes all sold
/// tokens worthless.
#[derive(Clone)]
pub struct RootSecret([u8; 32]);

/// Names a token and everything narrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl RootSecret {
    /// From 32 bytes of entropy.
    pub fn from_entropy(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of the token that is sold for this payment. To others it is as good as random, and no source of randomness
    /// is needed: a payment hash is used once.
    pub(crate) fn token_id(&self, payment_hash: PaymentHash) -> TokenId {
        TokenId(self.derive(b"watershed/l402/token-id", payment_hash.to_bytes()))
    }

    /// The root key of the macaroon with this id.
    pub(crate) fn macaroon_key(&self, token: TokenId) -> MacaroonKey {
        self.derive(b"watershed/l402/macaroon-key", token.0).into()
    }

    /// A hash with a tag (as in BIP 340) over two parts of fixed length, so no input is the beginning of another.
    fn derive(&self, tag: &[u8], message: [u8; 32]) -> [u8; 32] {
        let tag = Sha256::digest(tag);
        let hasher = Sha256::new().chain_update(tag).chain_update(tag);
        hasher.chain_update(self.0).chain_update(message).finalize().into()
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payment_has_its_own_token_and_every_token_its_own_key() {
        let (a, b) = (RootSecret::from_entropy([1; 32]), RootSecret::from_entropy([2; 32]));
        let (one, two) = (PaymentHash::from_bytes([1; 32]), PaymentHash::from_bytes([2; 32]));
        let ids = [a.token_id(one), a.token_id(two), b.token_id(one)];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && a.token_id(one) == ids[0]);
        let id = ids[0];
        assert!(a.macaroon_key(id) != a.macaroon_key(ids[1]) && a.macaroon_key(id) != b.macaroon_key(id));
        assert_ne!(a.macaroon_key(id), MacaroonKey::from(a.token_id(PaymentHash::from_bytes(id.0)).0));
        assert_eq!(format!("{a:?}"), "RootSecret(..)");
    }
}
