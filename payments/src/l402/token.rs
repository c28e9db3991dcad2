//! The macaroon that is sold: made, written as text, read back and its signature checked.
//!
//! It never looks at what the caveats say, nor at the time. The macaroon library logs macaroons at debug level without
//! their signatures, so that a log cannot be spent.

use std::fmt;

use libmacaroon::{Caveat, Format, Macaroon, MacaroonError, Verifier};
use watershed_protocol::PaymentHash;

use super::refusal::Refusal;
use super::secret::{RootSecret, TokenId};

/// The identifier's version, its only one so far.
const VERSION: [u8; 2] = [0, 0];
/// Version, payment hash, token id.
const IDENTIFIER_BYTES: usize = 2 + 32 + 32;

/// A macaroon in the form in which they are sold here; whether it is good is another question.
pub(crate) struct Token {
    macaroon: Macaroon,
    pub(crate) payment_hash: PaymentHash,
    pub(crate) id: TokenId,
}

impl Token {
    /// Makes the token for a payment, as text.
    ///
    /// # Errors
    /// For locations and caveats that a macaroon cannot hold (65535 bytes).
    pub(crate) fn mint(
        secret: &RootSecret,
        location: &str,
        payment_hash: PaymentHash,
        caveats: &[String],
    ) -> Result<String, MacaroonError> {
        let id = secret.token_id(payment_hash);
        let identifier = [&VERSION[..], &payment_hash.to_bytes(), &id.to_bytes()].concat();
        let mut macaroon = Macaroon::create(Some(location), &secret.macaroon_key(id), identifier)?;
        for caveat in caveats {
            macaroon.add_first_party_caveat(caveat)?;
        }
        to_text(&macaroon)
    }

    /// Reads a token in the one form in which they are sold, save that either base64 alphabet will do and padding may be
    /// left out, as some libraries with which holders add caveats change these.
    ///
    /// # Errors
    /// [`Refusal::MacaroonUndecodable`]. Third-party caveats are refused here: their discharges have no place in L402.
    pub(crate) fn from_text(text: &str) -> Result<Self, Refusal> {
        let macaroon = Macaroon::deserialize(text)
            .map_err(|_| Refusal::MacaroonUndecodable("it is not base64 of a version 2 macaroon"))?;
        // the library reads other formats, and more than one text of some of them; here one token has one text
        let canonical = to_text(&macaroon).is_ok_and(|again| normal(&again).eq(normal(text)));
        if !canonical {
            return Err(Refusal::MacaroonUndecodable("it is not in the binary format of version 2"));
        }
        if macaroon.caveats().iter().any(|caveat| matches!(caveat, Caveat::ThirdParty(_))) {
            return Err(Refusal::MacaroonUndecodable("it has a third-party caveat"));
        }
        let (payment_hash, id) = identifier(macaroon.identifier())
            .ok_or(Refusal::MacaroonUndecodable("its identifier is not that of L402 version 0"))?;
        Ok(Self { macaroon, payment_hash, id })
    }

    /// Whether it was made with this secret, and only narrowed since.
    pub(crate) fn is_signed(&self, secret: &RootSecret) -> bool {
        let mut verifier = Verifier::default();
        // only the signature is asked for: the library would refuse caveats of other services, which L402 skips
        verifier.satisfy_general(|_| true);
        verifier.verify(&self.macaroon, &secret.macaroon_key(self.id), &[]).is_ok()
    }

    /// Where it is good. The signature does not cover it.
    pub(crate) fn location(&self) -> Option<&str> {
        self.macaroon.location()
    }

    /// The caveats in their order.
    pub(crate) fn predicates(&self) -> impl Iterator<Item = &[u8]> {
        self.macaroon.caveats().iter().filter_map(|caveat| Some(caveat.as_first_party()?.predicate()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(for {})", self.payment_hash)
    }
}

/// Padded base64 in the standard alphabet. The library writes the URL-safe one,
/// which is not what the L402 specification shows, and which older clients do not read.
fn to_text(macaroon: &Macaroon) -> Result<String, MacaroonError> {
    Ok(macaroon.serialize(Format::V2)?.replace('-', "+").replace('_', "/"))
}

/// Base64 without what the alphabets and the padding make different.
fn normal(text: &str) -> impl Iterator<Item = u8> {
    text.trim_end_matches('=').bytes().map(|b| match b {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    })
}

fn identifier(bytes: &[u8]) -> Option<(PaymentHash, TokenId)> {
    let bytes: &[u8; IDENTIFIER_BYTES] = bytes.try_into().ok()?;
    let (hash, id) = bytes.strip_prefix(&VERSION)?.split_first_chunk::<32>()?;
    Some((PaymentHash::from_bytes(*hash), TokenId::from_bytes(id.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmacaroon::MacaroonKey;

    fn secret() -> RootSecret {
        RootSecret::from_entropy([7; 32])
    }

    fn minted() -> (PaymentHash, String) {
        let hash = PaymentHash::from_bytes([0xfb; 32]);
        (hash, Token::mint(&secret(), "shop.example", hash, &["services=shop:0".to_owned()]).unwrap())
    }

    #[test]
    fn a_minted_token_is_read_back_and_only_its_own_secret_signed_it() {
        let (hash, text) = minted();
        let token = Token::from_text(&text).unwrap();
        assert_eq!((token.payment_hash, token.location()), (hash, Some("shop.example")));
        assert_eq!(token.predicates().collect::<Vec<_>>(), [b"services=shop:0"]);
        assert!(token.is_signed(&secret()) && !token.is_signed(&RootSecret::from_entropy([8; 32])));
        assert_eq!(format!("{token:?}"), format!("Token(for {hash})"));
        assert!(text.contains(['+', '/']) && !text.contains(['-', '_']) && text.len() % 4 == 0);
    }

    #[test]
    fn the_other_alphabet_and_no_padding_are_the_same_token() {
        let (_, text) = minted();
        for other in [text.replace('+', "-").replace('/', "_"), text.trim_end_matches('=').to_owned()] {
            assert!(Token::from_text(&other).unwrap().is_signed(&secret()));
        }
    }

    #[test]
    fn other_formats_identifiers_and_third_parties_are_not_read() {
        let (hash, text) = minted();
        let good = Macaroon::deserialize(&text).unwrap();
        for format in [Format::V1, Format::V2JSON] {
            assert!(Token::from_text(&good.serialize(format).unwrap()).is_err());
        }
        let key = MacaroonKey::generate(b"key");
        let mut discharged = good.clone();
        discharged.add_third_party_caveat("elsewhere", &key, "id").unwrap();
        assert!(Token::from_text(&to_text(&discharged).unwrap()).is_err());
        for wrong in
            [[&[0, 1][..], &hash.to_bytes(), &[0; 32]].concat(), vec![0; 65], vec![0; 67], b"id".to_vec()]
        {
            let other = Macaroon::create(Some("shop.example"), &key, wrong).unwrap();
            assert!(Token::from_text(&to_text(&other).unwrap()).is_err());
        }
        for hostile in ["", "=", "A", "{}", "Ag==", "AgAAAA", "\u{e9}", "AgIBAQAABiA", "MDAxY2"] {
            assert!(matches!(Token::from_text(hostile), Err(Refusal::MacaroonUndecodable(_))), "{hostile}");
        }
    }
}
