//! Reads the `Authorization` header: which credential is presented, before anything is known of its worth.

use std::fmt;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use watershed_protocol::Preimage;

use super::refusal::Refusal;

/// A macaroon as text and the preimage that should go with it.
pub(crate) struct Credential<'a> {
    pub(crate) macaroon: &'a str,
    pub(crate) preimage: Preimage,
}

impl<'a> Credential<'a> {
    /// The credential of a request. Credentials of other schemes are none, so that they may stand beside.
    ///
    /// # Errors
    /// In this order: nothing presented, too long, malformed.
    pub(crate) fn of(headers: &'a HeaderMap, max_bytes: usize) -> Result<Self, Refusal> {
        let mut ours = headers.get_all(AUTHORIZATION).iter().filter(|value| is_l402(value));
        let value = ours.next().ok_or(Refusal::PaymentRequired)?;
        if value.len() > max_bytes {
            return Err(Refusal::HeaderTooLong { found: value.len(), max: max_bytes });
        }
        if ours.next().is_some() {
            return Err(Refusal::HeaderMalformed("it is given more than once"));
        }
        let text = value.to_str().map_err(|_| Refusal::HeaderMalformed("it is not plain ASCII"))?;
        let credential = text.split_once(' ').map_or("", |(_scheme, rest)| rest.trim());
        let (macaroon, preimage) =
            credential.split_once(':').ok_or(Refusal::HeaderMalformed("there is no `:` in it"))?;
        if macaroon.is_empty() {
            return Err(Refusal::HeaderMalformed("the macaroon is missing"));
        }
        // wallets that give their hex in capitals have paid all the same
        let preimage = Preimage::parse(&preimage.to_ascii_lowercase())
            .map_err(|_| Refusal::HeaderMalformed("the preimage is not 64 hex digits"))?;
        Ok(Self { macaroon, preimage })
    }
}

/// The scheme is `L402`, or `LSAT` as it was called before; it may be in any case (RFC 9110 section 11.1).
fn is_l402(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|&b| b == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"L402") || scheme.eq_ignore_ascii_case(b"LSAT")
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<(String, String), Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let credential = Credential::of(&headers, 100)?;
        assert_eq!(format!("{credential:?}"), "Credential(..)");
        Ok((credential.macaroon.to_owned(), credential.preimage.reveal()))
    }

    #[test]
    fn both_schemes_in_any_case_are_read_and_others_are_none() {
        let preimage = "ab".repeat(32);
        for scheme in ["L402", "l402", "LSAT", "lsat"] {
            let header = format!("{scheme} Agx+/w==:{preimage}");
            assert_eq!(read(&[&header]), Ok(("Agx+/w==".into(), preimage.clone())));
            assert_eq!(read(&["Bearer x", &header]), Ok(("Agx+/w==".into(), preimage.clone())));
        }
        assert_eq!(read(&[&format!("L402 A:{}", "AB".repeat(32))]), Ok(("A".into(), preimage.clone())));
        for other in [&["Bearer x"][..], &["L4022 a:b"], &["Basic TDQwMg=="], &[""], &[]] {
            assert_eq!(read(other), Err(Refusal::PaymentRequired));
        }
    }

    #[test]
    fn what_is_not_one_macaroon_and_one_preimage_is_malformed() {
        let preimage = "ab".repeat(32);
        let good = format!("L402 A:{preimage}");
        let many = [
            "L402".to_owned(),
            "L402 ".to_owned(),
            "L402 A".to_owned(),
            format!("L402 :{preimage}"),
            "L402 A:".to_owned(),
            format!("L402 A:{}", "ab".repeat(31)),
            format!("L402 A:{}", "zz".repeat(32)),
            format!("L402 A:B:{preimage}"),
            format!("L402 \u{e9}:{preimage}"),
        ];
        for header in many {
            assert!(matches!(read(&[&header]), Err(Refusal::HeaderMalformed(_))), "{header}");
        }
        assert!(matches!(read(&[&good, &good]), Err(Refusal::HeaderMalformed(_))));
        assert_eq!(read(&[&"L402 ".repeat(21)]), Err(Refusal::HeaderTooLong { found: 105, max: 100 }));
    }
}
