//! What the caveats of a macaroon leave of what was sold.
//!
//! Responsible for the rules of reading: keys of this service must be understood and may only narrow, keys of others are
//! skipped. It does not know the time, nor which request is at hand.

use super::refusal::Refusal;

/// What is left after all caveats.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant<'a> {
    services: Vec<&'a str>,
    capabilities: Vec<&'a str>,
    /// Not valid from then on, in Unix seconds.
    pub(crate) valid_until: u64,
    /// The same as it was sold, before any holder narrowed it.
    pub(crate) sold_until: u64,
}

impl Grant<'_> {
    /// Whether `NAME:TIER` is among the services.
    pub(crate) fn has_service(&self, name: &str, tier: u8) -> bool {
        self.services.contains(&format!("{name}:{tier}").as_str())
    }

    /// Whether the capability is among them.
    pub(crate) fn has_capability(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// The caveats with which a token of this service is sold.
pub(crate) fn sold(service: &str, tier: u8, capability: &str, valid_until: u64) -> [String; 3] {
    [
        format!("services={service}:{tier}"),
        format!("{service}_capabilities={capability}"),
        format!("{service}_valid_until={valid_until}"),
    ]
}

/// Reads the caveats of a macaroon whose signature was verified, in their order. `concerns` says which keys are of this
/// service.
///
/// # Errors
/// [`Refusal::CaveatRefused`] for a caveat of this service that is not understood or widens an earlier one, and for one
/// that is no `key=value`, as nobody can say whom it concerns; [`Refusal::TokenForeign`] for a token that was not sold for
/// this service.
pub(crate) fn read<'a>(
    predicates: impl IntoIterator<Item = &'a [u8]>,
    service: &str,
    concerns: impl Fn(&str) -> bool,
) -> Result<Grant<'a>, Refusal> {
    let mut services = None;
    let mut capabilities = None;
    let mut times: Option<(u64, u64)> = None;
    for (n, predicate) in predicates.into_iter().enumerate() {
        let refuse = |why| Refusal::CaveatRefused { number: n + 1, why };
        let text = std::str::from_utf8(predicate).map_err(|_| refuse("it is not text"))?;
        let (key, value) = text.split_once('=').ok_or_else(|| refuse("it is not `key=value`"))?;
        // spaces are no part of a key: else a caveat that a holder means for this service would be skipped
        let (key, value) = (key.trim(), value.trim());
        if !concerns(key) {
            continue;
        }
        match key.strip_prefix(service) {
            _ if key == "services" => services = Some(narrowed(services, value).map_err(refuse)?),
            Some("_capabilities") => capabilities = Some(narrowed(capabilities, value).map_err(refuse)?),
            Some("_valid_until") => {
                let until = seconds(value).ok_or_else(|| refuse("its value is not a number of seconds"))?;
                let (sold, before) = times.unwrap_or((until, until));
                if until > before {
                    return Err(refuse("it allows more time than an earlier one"));
                }
                times = Some((sold, until));
            }
            _ => return Err(refuse("it concerns this service, which does not know its key")),
        }
    }
    let (Some(services), Some(capabilities), Some((sold_until, valid_until))) =
        (services, capabilities, times)
    else {
        return Err(Refusal::TokenForeign("service"));
    };
    Ok(Grant { services, capabilities, valid_until, sold_until })
}

/// A list that must hold nothing that an earlier one did not.
fn narrowed<'a>(earlier: Option<Vec<&'a str>>, value: &'a str) -> Result<Vec<&'a str>, &'static str> {
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    if names.contains(&"") {
        return Err("a name in its list is empty");
    }
    match earlier {
        Some(earlier) if names.iter().any(|name| !earlier.contains(name)) => {
            Err("it allows what an earlier one does not")
        }
        _ => Ok(names),
    }
}

/// Digits only: `u64::from_str` would take a sign too.
fn seconds(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(added: &[&'static str]) -> Result<Grant<'static>, Refusal> {
        let sold = ["services=shop:0,shop:1", "shop_capabilities=read,write", "shop_valid_until=100"];
        let all = sold.into_iter().chain(added.iter().copied()).map(str::as_bytes);
        read(all, "shop", |key| {
            key == "services" || ["shop_", "read_", "write_"].iter().any(|name| key.starts_with(name))
        })
    }

    fn why(added: &[&'static str]) -> &'static str {
        match with(added) {
            Err(Refusal::CaveatRefused { number, why }) => {
                assert_eq!(number, 3 + added.len());
                why
            }
            other => panic!("{added:?} gave {other:?}"),
        }
    }

    #[test]
    fn what_is_sold_is_what_is_granted() {
        let texts = sold("shop", 1, "read", 100);
        let grant = read(texts.iter().map(String::as_bytes), "shop", |_| true).unwrap();
        assert!(
            grant.has_service("shop", 1) && !grant.has_service("shop", 0) && !grant.has_service("sho", 1)
        );
        assert!(grant.has_capability("read") && !grant.has_capability("write") && !grant.has_capability(""));
        assert_eq!((grant.valid_until, grant.sold_until), (100, 100));
    }

    #[test]
    fn later_caveats_narrow_and_the_time_that_was_sold_is_kept() {
        let grant = with(&[
            "shop_capabilities=write",
            "services = shop:1",
            " shop_valid_until = 60 ",
            "shop_valid_until=50",
        ])
        .unwrap();
        assert!(grant.has_capability("write") && !grant.has_capability("read"));
        assert!(grant.has_service("shop", 1) && !grant.has_service("shop", 0));
        assert_eq!((grant.valid_until, grant.sold_until), (50, 100));
    }

    #[test]
    fn later_caveats_cannot_widen() {
        for added in [
            &["shop_capabilities=read,write,admin"][..],
            &["shop_capabilities=read", "shop_capabilities=read,write"],
            &["services=shop:2"],
            &["services=shop:0", "services=shop:1"],
        ] {
            assert_eq!(why(added), "it allows what an earlier one does not");
        }
        assert_eq!(why(&["shop_valid_until=101"]), "it allows more time than an earlier one");
        assert_eq!(
            why(&["shop_valid_until=50", "shop_valid_until=60"]),
            "it allows more time than an earlier one"
        );
    }

    #[test]
    fn other_services_are_skipped_and_own_riddles_are_refused() {
        let untouched =
            with(&["mail_capabilities=send", "mail_valid_until=1", "shopping=x", "=", "x=y=z"]).unwrap();
        assert_eq!(untouched, with(&[]).unwrap());
        for own in ["shop_colour=red", "shop_=x", "read_monthly_bytes=5", "shop_capabilities_=read"] {
            assert_eq!(why(&[own]), "it concerns this service, which does not know its key");
        }
        assert_eq!(why(&["account"]), "it is not `key=value`");
        for list in ["shop_capabilities=", "shop_capabilities=read,", "services=,"] {
            assert_eq!(why(&[list]), "a name in its list is empty");
        }
        for time in ["shop_valid_until=", "shop_valid_until=+5", "shop_valid_until=5.0"] {
            assert_eq!(why(&[time]), "its value is not a number of seconds");
        }
    }

    #[test]
    fn a_token_that_was_not_sold_by_this_service_is_foreign() {
        for missing in 0..3 {
            let mut texts = sold("shop", 0, "read", 100).to_vec();
            texts.remove(missing);
            let grant = read(texts.iter().map(String::as_bytes), "shop", |_| true);
            assert_eq!(grant, Err(Refusal::TokenForeign("service")));
        }
    }
}
