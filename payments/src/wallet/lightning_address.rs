//! Lightning addresses (LUD-16), `name@domain`: their form, and asking one's server for an invoice (LNURL-pay, LUD-06).
//!
//! Whoever gives an address chooses a server that we then talk to. So: https only, public addresses only (also after
//! redirects, and by the address that a name resolves to at that moment), little time, little text, and an invoice that is
//! looked at as any other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::{Msat, causes};

use super::{Invoice, InvoiceError, Network};

/// How long one request may take, redirects included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer. It may hold a picture.
const MAX_ANSWER: usize = 256 << 10;

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 3;

/// Longest address: 64 characters of a name, 253 of a domain, the sign between.
const MAX_TEXT: usize = 64 + 1 + 253;

/// An address whose form is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LightningAddress {
    name: String,
    host: String,
}

/// Why an address is not paid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not `name@domain`.
    #[error("{0:?} is no Lightning address; it has the form name@domain")]
    Form(String),
    /// A server that we do not talk to.
    #[error("{0} is not asked: only https to public addresses is")]
    Private(String),
    /// No answer.
    #[error("{host} does not answer: {reason}")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("the answer of {host} is not LNURL-pay: {reason}")]
    Answer {
        /// Whose.
        host: String,
        /// Why.
        reason: String,
    },
    /// More than is read.
    #[error("{0} answers with more than is read")]
    Long(String),
    /// In its words.
    #[error("{host} refuses: {reason}")]
    Refused {
        /// Who.
        host: String,
        /// Why.
        reason: String,
    },
    /// Too little or too much for it.
    #[error("the address takes {least} to {most}, not {amount}")]
    Amount {
        /// Least.
        least: Msat,
        /// Most.
        most: Msat,
        /// To be paid.
        amount: Msat,
    },
    /// The invoice that it gave.
    #[error("the invoice of {host} is not what was asked for: {source}")]
    Invoice {
        /// Whose.
        host: String,
        /// What is wrong.
        source: InvoiceError,
    },
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A domain with at least one dot; or, for tests, 127.0.0.1 with a port.
fn is_host(host: &str) -> bool {
    if let Ok(at) = host.parse::<SocketAddr>() {
        return at.ip().is_loopback();
    }
    let labels: Vec<&str> = host.split('.').collect();
    // A last label of digits would be read as an IPv4 address.
    let last = labels.last().is_some_and(|l| l.bytes().any(|b| b.is_ascii_lowercase()));
    host.len() <= 253 && labels.len() >= 2 && last && labels.into_iter().all(is_label)
}

impl FromStr for LightningAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Form(text.chars().take(80).collect());
        if text.len() > MAX_TEXT + 16 {
            return Err(bad());
        }
        let text = text.trim();
        let text = text.strip_prefix("lightning:").unwrap_or(text).to_ascii_lowercase();
        let (name, host) = text.split_once('@').ok_or_else(bad)?;
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'+');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) || !is_host(host) {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), host: host.to_owned() })
    }
}

impl LightningAddress {
    /// Whether it names this machine, which only tests do.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<SocketAddr>().is_ok()
    }

    fn url(&self) -> String {
        let scheme = if self.is_loopback() { "http" } else { "https" };
        format!("{scheme}://{}/.well-known/lnurlp/{}", self.host, self.name)
    }
}

impl TryFrom<String> for LightningAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<LightningAddress> for String {
    fn from(address: LightningAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for LightningAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.host)
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, ..] = ip.segments();
    // Only 2000::/3 is given out; of it, 2001::/23 and 2002::/16 are tunnels and the like, 2001:db8::/32 documentation.
    (0x2000..0x4000).contains(&a) && a != 0x2002 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Names are looked up here, so that what is connected to is what was checked.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|at| is_public(at.ip())).collect();
            if public.is_empty() {
                return Err("it has no public address".into());
            }
            Ok::<Addrs, Box<dyn std::error::Error + Send + Sync>>(Box::new(public.into_iter()))
        })
    }
}

/// Whether a URL may be asked.
fn is_allowed(url: &Url, loopback: bool) -> bool {
    let ip = url.host_str().and_then(|h| h.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let here = loopback && url.scheme() == "http" && ip.is_some_and(|ip| ip.is_loopback());
    let there = url.scheme() == "https" && ip.is_none_or(is_public) && url.host_str().is_some();
    (here || there) && url.username().is_empty() && url.password().is_none()
}

/// Asks the servers of Lightning addresses.
#[derive(Clone, Debug)]
pub struct AddressClient {
    http: reqwest::Client,
    loopback: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayRequest {
    tag: String,
    callback: String,
    min_sendable: u64,
    max_sendable: u64,
}

#[derive(Deserialize)]
struct Answered {
    pr: String,
}

#[derive(Deserialize)]
struct Failure {
    status: String,
    #[serde(default)]
    reason: String,
}

impl AddressClient {
    /// `loopback` also allows http to this machine, for tests.
    ///
    /// # Errors
    /// [`AddressError::Unreachable`] if the system has no usable certificates.
    pub fn new(loopback: bool) -> Result<Self, AddressError> {
        // An error says that the cryptography was chosen before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirects = Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else if !is_allowed(attempt.url(), loopback) {
                attempt.error("it redirects to what is not asked")
            } else {
                attempt.follow()
            }
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirects)
            .dns_resolver(std::sync::Arc::new(PublicOnly))
            .timeout(PATIENCE)
            .connect_timeout(PATIENCE / 2)
            .referer(false)
            .build();
        let http = http
            .map_err(|e| AddressError::Unreachable { host: "this machine".to_owned(), reason: causes(&e) })?;
        Ok(Self { http, loopback })
    }

    /// Whether an address would be asked at all.
    ///
    /// # Errors
    /// [`AddressError::Private`].
    pub fn check(&self, address: &LightningAddress) -> Result<(), AddressError> {
        let private = || AddressError::Private(address.host.clone());
        let url = Url::parse(&address.url()).map_err(|_| private())?;
        if is_allowed(&url, self.loopback) { Ok(()) } else { Err(private()) }
    }

    /// An invoice of exactly `amount`. `now` is the time since 1970.
    ///
    /// # Errors
    /// [`AddressError`].
    pub async fn invoice(
        &self,
        address: &LightningAddress,
        amount: Msat,
        network: Network,
        now: Duration,
    ) -> Result<Invoice, AddressError> {
        self.check(address)?;
        let answer = |reason: String| AddressError::Answer { host: address.host.clone(), reason };
        let url = Url::parse(&address.url()).map_err(|e| answer(e.to_string()))?;
        let terms: PayRequest = self.ask(address, url).await?;
        if terms.tag != "payRequest" {
            return Err(answer(format!("its tag is {:?}", terms.tag.chars().take(40).collect::<String>())));
        }
        let (least, most) = (Msat::new(terms.min_sendable), Msat::new(terms.max_sendable));
        if amount < least || amount > most {
            return Err(AddressError::Amount { least, most, amount });
        }
        let mut callback = Url::parse(&terms.callback).map_err(|e| answer(e.to_string()))?;
        if !is_allowed(&callback, self.loopback) {
            return Err(AddressError::Private(callback.host_str().unwrap_or_default().to_owned()));
        }
        callback.query_pairs_mut().append_pair("amount", &amount.msat().to_string());
        let answered: Answered = self.ask(address, callback).await?;
        let wrong = |source| AddressError::Invoice { host: address.host.clone(), source };
        let invoice: Invoice = answered.pr.parse().map_err(wrong)?;
        invoice.check_payable(network, now).map_err(wrong)?;
        if invoice.amount() != amount {
            return Err(wrong(InvoiceError::Amount { found: invoice.amount(), wanted: amount }));
        }
        Ok(invoice)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        address: &LightningAddress,
        url: Url,
    ) -> Result<T, AddressError> {
        let host = || address.host.clone();
        let unreachable = |e: reqwest::Error| AddressError::Unreachable {
            host: host(),
            reason: causes(&e.without_url()).chars().take(300).collect(),
        };
        let mut answer = self.http.get(url).send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(AddressError::Long(host()));
            }
            body.extend_from_slice(&chunk);
        }
        // LUD-06: an error has status ERROR, whatever the code of the answer is.
        if let Ok(Failure { status, reason }) = serde_json::from_slice(&body)
            && status.eq_ignore_ascii_case("error")
        {
            let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(AddressError::Refused { host: host(), reason });
        }
        if !status.is_success() {
            return Err(AddressError::Answer { host: host(), reason: format!("it answers {status}") });
        }
        serde_json::from_slice(&body)
            .map_err(|e| AddressError::Answer { host: host(), reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_a_name_and_a_domain() {
        for text in ["ada@example.org", "a.b+c_d-1@x-y.example.org", "ada@127.0.0.1:8080", " Ada@Example.org"]
        {
            let address: LightningAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text.trim().to_lowercase());
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@localhost",
            "ada@example",
            "ada@-a.org",
            "ada@a..org",
            "ada@example.org/x",
            "ada@example.org:80",
            "ada@10.0.0.1",
            "ada@10.0.0.1:80",
            "ada@1.2.3.4",
            "ada@[::1]",
            "a b@example.org",
            "ada@exa mple.org",
            "ada@b@example.org",
            "ada@example.org?x",
            &long,
        ] {
            assert!(matches!(text.parse::<LightningAddress>(), Err(AddressError::Form(_))), "{text}");
        }
    }

    #[test]
    fn only_public_addresses_are_asked() {
        for private in [
            "10.1.2.3",
            "127.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "193.99.144.80", "2606:4700::1111", "2a02:2e0::1", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let allowed = |url: &str, loopback| is_allowed(&Url::parse(url).unwrap(), loopback);
        assert!(allowed("https://example.org/a", false) && allowed("http://127.0.0.1:80/", true));
        for url in [
            "http://example.org/",
            "http://127.0.0.1/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "ftp://example.org/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://a:b@example.org/",
            "https://[::ffff:10.0.0.1]/",
        ] {
            assert!(!allowed(url, false), "{url}");
        }
        assert!(!allowed("http://example.org/", true) && !allowed("http://10.0.0.1/", true));
        assert!(!allowed("https://10.0.0.1/", true));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_not_asked() {
        let client = AddressClient::new(true).unwrap();
        let asked = client.http.get("https://localhost/").send().await.unwrap_err();
        assert!(causes(&asked).contains("no public address"), "{}", causes(&asked));
        let closed = AddressClient::new(false).unwrap();
        let here: LightningAddress = "ada@127.0.0.1:9".parse().unwrap();
        assert!(matches!(closed.check(&here), Err(AddressError::Private(_))));
        assert_eq!(client.check(&here), Ok(()));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,120}") {
            let _ = text.parse::<LightningAddress>();
            let _ = format!("a@{text}").parse::<LightningAddress>();
        }
    }
}
