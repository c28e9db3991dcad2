//! Which routes cost what. Routes that are not listed are free.

use std::num::NonZeroU32;

use axum::http::Method;
use thiserror::Error;
use watershed_protocol::Msat;

use super::pattern;

/// How many requests one payment buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// As many as fit in the time.
    Unlimited,
    /// That many; they are counted by a [`Spent`](super::Spent) store.
    Times(NonZeroU32),
}

impl Uses {
    /// One request.
    pub const ONCE: Self = Self::Times(NonZeroU32::MIN);
}

/// What one route costs, and what paying for it buys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The method; all of them if none. `HEAD` is sold as `GET`, because axum answers both with the same handler.
    pub method: Option<Method>,
    /// The path as axum's router has it, for example `/runs/{id}/join`, with every prefix under which it is nested. A
    /// nested service is reached at its bare prefix too, which `/prefix/{*rest}` does not cover: list both.
    pub path: String,
    /// For one payment. Some clients refuse amounts below one satoshi.
    pub amount: Msat,
    /// The service that sells it: lowercase letters, digits and `-`.
    pub service: String,
    /// The tier of the service; 0 is the base tier. Tokens of another tier are not good here.
    pub tier: u8,
    /// What is bought: lowercase letters, digits, `-` and `_`. Routes with one capability share their tokens.
    pub capability: String,
    /// How many requests it buys.
    pub uses: Uses,
    /// How long it is good, in seconds, counted from the last moment at which the invoice could be paid.
    pub valid_s: u32,
    /// What the payer's wallet shows. At most 639 bytes (BOLT 11).
    pub description: String,
}

/// A table that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PriceError {
    /// A path without its slash.
    #[error("the path {0:?} does not start with `/`")]
    Path(String),
    /// A name that would not survive in a caveat.
    #[error(
        "{0:?} is no name of a service or capability: use 1 to 64 of a-z, 0-9 and `-` (in a capability also `_`)"
    )]
    Name(String),
    /// An invoice of nothing would let the payer choose.
    #[error("{0} costs nothing: leave it out of the table to make it free")]
    Free(String),
    /// More text than an invoice holds.
    #[error("the description of {path} takes {found} bytes and an invoice holds 639")]
    Description {
        /// Of which route.
        path: String,
        /// In bytes.
        found: usize,
    },
    /// Two prices for one request.
    #[error("{0} is listed twice for the same method")]
    Twice(String),
    /// One token would open routes that cost more than it did.
    #[error(
        "{0} and {1} sell the same capability on different terms: make amount, tier, uses and time the same"
    )]
    Terms(String, String),
}

/// The prices of all routes that cost something.
#[derive(Clone, Debug, Default)]
pub struct PriceTable(Vec<Price>);

impl PriceTable {
    /// Checks the prices and keeps them; the first that fits a request counts.
    ///
    /// # Errors
    /// [`PriceError`]; among others, routes that share a capability must share their terms.
    pub fn new(prices: Vec<Price>) -> Result<Self, PriceError> {
        for (n, price) in prices.iter().enumerate() {
            price.check()?;
            for other in prices.iter().take(n) {
                let overlap =
                    price.method == other.method || price.method.is_none() || other.method.is_none();
                if overlap && price.path == other.path {
                    return Err(PriceError::Twice(price.path.clone()));
                }
                if (&price.service, &price.capability) == (&other.service, &other.capability)
                    && price.terms() != other.terms()
                {
                    return Err(PriceError::Terms(other.path.clone(), price.path.clone()));
                }
            }
        }
        Ok(Self(prices))
    }

    /// The price of a request, none if it is free. `matched` is the path pattern that a router chose, if one did. The path
    /// itself is looked at too, since within nested services the router's pattern is only the beginning.
    pub(crate) fn find(&self, method: &Method, matched: Option<&str>, path: &str) -> Option<&Price> {
        self.0.iter().find(|price| {
            price.sells(method)
                && (matched.is_some_and(|matched| matched == price.path)
                    || pattern::matches(&price.path, path))
        })
    }

    /// Whether a caveat's key concerns the service: then it must be understood.
    pub(crate) fn concerns(&self, service: &str, key: &str) -> bool {
        let begins = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
        key == "services"
            || begins(service)
            || self.0.iter().any(|price| price.service == service && begins(&price.capability))
    }
}

impl Price {
    fn check(&self) -> Result<(), PriceError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let name = |text: &str, also: u8| {
            (1..=64).contains(&text.len()) && text.bytes().all(|b| plain(b) || b == also)
        };
        if !self.path.starts_with('/') {
            return Err(PriceError::Path(self.path.clone()));
        }
        if !name(&self.service, b'-') {
            return Err(PriceError::Name(self.service.clone()));
        }
        if !name(&self.capability, b'_') {
            return Err(PriceError::Name(self.capability.clone()));
        }
        if self.amount == Msat::ZERO {
            return Err(PriceError::Free(self.path.clone()));
        }
        if self.description.len() > 639 {
            return Err(PriceError::Description { path: self.path.clone(), found: self.description.len() });
        }
        Ok(())
    }

    fn terms(&self) -> (Msat, u8, Uses, u32) {
        (self.amount, self.tier, self.uses, self.valid_s)
    }

    fn sells(&self, method: &Method) -> bool {
        self.method
            .as_ref()
            .is_none_or(|sold| sold == method || (sold == Method::GET && method == Method::HEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(method: Option<Method>, path: &str, capability: &str, sat: u64) -> Price {
        Price {
            method,
            path: path.into(),
            amount: Msat::new(sat * 1000),
            service: "shop".into(),
            tier: 0,
            capability: capability.into(),
            uses: Uses::ONCE,
            valid_s: 60,
            description: String::new(),
        }
    }

    #[test]
    fn a_request_is_found_by_method_and_by_pattern_or_path() {
        let table = PriceTable::new(vec![
            price(Some(Method::GET), "/a/{id}", "read", 1),
            price(Some(Method::POST), "/a/{id}", "write", 2),
            price(None, "/all/{*rest}", "all", 3),
        ])
        .unwrap();
        let find = |method, matched, path| table.find(&method, matched, path).map(|p| p.capability.as_str());
        assert_eq!(find(Method::GET, Some("/a/{id}"), "/a/7"), Some("read"));
        assert_eq!(find(Method::HEAD, None, "/a/7"), Some("read"));
        assert_eq!(find(Method::POST, None, "/a/7"), Some("write"));
        assert_eq!(find(Method::PUT, Some("/a/{id}"), "/a/7"), None);
        assert_eq!(find(Method::DELETE, Some("/all/{*nested}"), "/all/7/8"), Some("all"));
        assert_eq!(find(Method::GET, Some("/b/{id}"), "/b/7"), None);
    }

    #[test]
    fn a_table_that_would_sell_one_thing_on_two_terms_is_refused() {
        let new = |prices| PriceTable::new(prices).map(|_| ());
        let get = Some(Method::GET);
        let same = vec![price(get.clone(), "/a", "c", 1), price(get.clone(), "/b", "c", 1)];
        assert_eq!(new(same), Ok(()));
        let dearer = vec![price(get.clone(), "/a", "c", 1), price(get.clone(), "/b", "c", 2)];
        assert_eq!(new(dearer), Err(PriceError::Terms("/a".into(), "/b".into())));
        let twice = vec![price(get.clone(), "/a", "c", 1), price(None, "/a", "d", 1)];
        assert_eq!(new(twice), Err(PriceError::Twice("/a".into())));
        assert_eq!(new(vec![price(None, "/a", "c", 0)]), Err(PriceError::Free("/a".into())));
        assert_eq!(new(vec![price(None, "a", "c", 1)]), Err(PriceError::Path("a".into())));
        for name in ["", "a,b", "a:0", "a=b", "A", "a b", "a\""] {
            assert_eq!(new(vec![price(None, "/a", name, 1)]), Err(PriceError::Name(name.into())));
        }
        let long = Price { description: "x".repeat(640), ..price(None, "/a", "c", 1) };
        assert!(matches!(new(vec![long]), Err(PriceError::Description { found: 640, .. })));
    }
}
