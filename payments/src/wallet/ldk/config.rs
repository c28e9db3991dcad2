//! `wallet.toml`: which chain, where its data comes from, and whom this node trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wallet::{ChannelPolicy, Network, NodeAddress, WalletError, listen};

/// Where blocks come from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChainSource {
    /// A bitcoind's JSON-RPC.
    Bitcoind {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// `rpcuser`.
        user: String,
        /// `rpcpassword`.
        password: String,
    },
    /// An Esplora server, by URL.
    Esplora(String),
    /// An Electrum server, as `tcp://` or `ssl://`.
    Electrum(String),
}

// The password is a secret: Debug and Display leave it out.
impl fmt::Debug for ChainSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ChainSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bitcoind { host, port, .. } => write!(f, "bitcoind at {host}:{port}"),
            Self::Esplora(url) => write!(f, "Esplora at {url}"),
            Self::Electrum(url) => write!(f, "Electrum at {url}"),
        }
    }
}

impl FromStr for ChainSource {
    type Err = WalletError;
    fn from_str(text: &str) -> Result<Self, WalletError> {
        // What is wrong may hold a password: it is not repeated.
        let scheme = text.split_once("//").map_or("", |(scheme, _)| scheme);
        let bad = |why| WalletError::ChainSource { shown: format!("{scheme}//..."), why };
        if let Some(place) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("ssl://")) {
            host_and_port(place).map_err(bad)?;
            return Ok(Self::Electrum(text.to_owned()));
        }
        if let Some(url) = text.strip_prefix("esplora+") {
            let parsed = reqwest::Url::parse(url).map_err(|_| bad("what follows `esplora+` is no URL"))?;
            if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
                return Err(bad("what follows `esplora+` begins with http:// or https:// and a host"));
            }
            return Ok(Self::Esplora(url.to_owned()));
        }
        let Some(rest) = text.strip_prefix("bitcoind://").or_else(|| text.strip_prefix("http://")) else {
            return Err(bad(match scheme {
                "https:" => "an Esplora server begins with esplora+https://",
                "" => "it has no scheme, which says what kind of server it is",
                _ => "its scheme is not known",
            }));
        };
        let (login, place) =
            rest.rsplit_once('@').ok_or_else(|| bad("it has no USER:PASSWORD before the host"))?;
        let (user, password) = login.split_once(':').ok_or_else(|| bad("it has no password"))?;
        let (host, port) = host_and_port(place).map_err(bad)?;
        if user.is_empty() {
            return Err(bad("it has no user"));
        }
        Ok(Self::Bitcoind { host, port, user: decoded(user), password: decoded(password) })
    }
}

impl TryFrom<String> for ChainSource {
    type Error = WalletError;
    fn try_from(text: String) -> Result<Self, WalletError> {
        text.parse()
    }
}

impl From<ChainSource> for String {
    fn from(source: ChainSource) -> Self {
        match source {
            ChainSource::Bitcoind { host, port, user, password } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                format!("bitcoind://{}:{}@{host}:{port}", encoded(&user), encoded(&password))
            }
            ChainSource::Esplora(url) => format!("esplora+{url}"),
            ChainSource::Electrum(url) => url,
        }
    }
}

/// Host and port, the host without the brackets of an IPv6 address.
fn host_and_port(place: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or("it has no port")?;
    let port = port.parse().map_err(|_| "its port is no number from 0 to 65535")?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { Err("it has no host") } else { Ok((host.to_owned(), port)) }
}

/// What `%40` and its like stand for in a URL; what is no such thing stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits =
            bytes.get(at + 1..at + 3).filter(|d| *byte == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let decoded = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        out.push(decoded.unwrap_or(*byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The other way round: a password in which `%` is followed by two digits would not read back.
fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('@', "%40").replace(':', "%3A").replace('/', "%2F")
}

/// Everything about a wallet that is not its seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletConfig {
    /// `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: Network,
    /// `bitcoind://USER:PASSWORD@HOST:PORT`, `esplora+https://HOST/api`, `ssl://HOST:PORT` or `tcp://HOST:PORT`.
    pub chain: ChainSource,
    /// Where this node listens; empty for a node that only calls others.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Where others are told that it is, if that is elsewhere: what a router forwards to `listen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub announce: Vec<String>,
    /// Who escrows our rewards. Channels from it are usable before they confirm, and take their whole value in flight.
    ///
    /// It can cheat us of what we earned until the funding transaction confirms, by spending it twice; so name nobody whom
    /// you would not work for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<NodeAddress>,
    /// How large the channels are that this node opens to payees.
    #[serde(default)]
    pub channels: ChannelPolicy,
}

impl WalletConfig {
    /// Where others reach this node; none if they cannot.
    pub fn reached_at(&self) -> Option<&String> {
        self.announce.first().or(self.listen.first())
    }

    /// Whether this node can listen where it is to, and be called where others are told that it is.
    ///
    /// # Errors
    /// [`WalletError::Listen`].
    pub fn check_addresses(&self) -> Result<(), WalletError> {
        listen::check(&self.listen, &self.announce)
    }

    /// Its place in a data directory.
    pub fn path(data: &Path) -> PathBuf {
        data.join("wallet.toml")
    }

    /// Reads `wallet.toml`.
    ///
    /// # Errors
    /// [`WalletError::Missing`], [`WalletError::File`] and [`WalletError::Config`].
    pub fn load(data: &Path) -> Result<Self, WalletError> {
        let path = Self::path(data);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(WalletError::Missing(data.to_owned()));
            }
            Err(source) => return Err(WalletError::File { path, source }),
        };
        toml::from_str(&text).map_err(|e| WalletError::Config { path, reason: e.message().to_owned() })
    }

    /// Writes `wallet.toml`, readable by its owner only: it has the password of bitcoind.
    ///
    /// # Errors
    /// [`WalletError::File`] and [`WalletError::Config`].
    pub fn save(&self, data: &Path) -> Result<(), WalletError> {
        let path = Self::path(data);
        let text = toml::to_string(self)
            .map_err(|e| WalletError::Config { path: path.clone(), reason: e.to_string() })?;
        super::private::write_private(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back_and_keeps_its_password_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let config = WalletConfig {
            network: Network::Regtest,
            chain: "bitcoind://ada:pass:word@127.0.0.1:18443".parse().unwrap(),
            listen: vec!["127.0.0.1:9735".into()],
            announce: vec!["203.0.113.7:9735".into()],
            payer: None,
            channels: ChannelPolicy { min_sats: 200_000, ..ChannelPolicy::default() },
        };
        config.save(dir.path()).unwrap();
        assert_eq!(WalletConfig::load(dir.path()).unwrap(), config);
        assert!(!format!("{config:?}").contains("pass:word"));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(WalletConfig::path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn chain_sources_have_one_form_each() {
        for text in ["bitcoind://u:p@h:1", "esplora+https://h/api", "ssl://h:50002", "tcp://h:50001"] {
            assert_eq!(String::from(text.parse::<ChainSource>().unwrap()), text);
        }
        for (text, why) in [
            ("", "no scheme"),
            ("h:1", "no scheme"),
            ("http://h:1", "USER:PASSWORD"),
            ("http://u@h:1", "no password"),
            ("http://u:p@h", "no port"),
            ("http://u:p@h:x", "port is no number"),
            ("http://u:p@:1", "no host"),
            ("https://mempool.space/api", "esplora+https://"),
            ("esplora+mempool.space/api", "no URL"),
            ("esplora+ftp://h", "http://"),
            ("tcp://h", "no port"),
            ("ssl://h:x", "port is no number"),
            ("ftp://u:p@h:1", "scheme"),
        ] {
            let refused = text.parse::<ChainSource>().unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let shown = "http://ada:secret@host".parse::<ChainSource>().unwrap_err().to_string();
        assert!(!shown.contains("secret"));
    }

    #[test]
    fn user_and_password_are_decoded_as_in_any_url() {
        let parse = |text: &str| match text.parse::<ChainSource>().unwrap() {
            ChainSource::Bitcoind { host, user, password, .. } => (host, user, password),
            other => unreachable!("{other}"),
        };
        for (text, user, password) in [
            ("bitcoind://ada%40home:p%3A%25s%2f@h:1", "ada@home", "p:%s/"),
            ("bitcoind://ada:100%@h:1", "ada", "100%"),
            ("bitcoind://ada:%zz%4@h:1", "ada", "%zz%4"),
            ("bitcoind://ada:caf%C3%A9@h:1", "ada", "café"),
            ("bitcoind://ada:a@b:c@h:1", "ada", "a@b:c"),
        ] {
            let found = parse(text);
            assert_eq!((found.1.as_str(), found.2.as_str()), (user, password), "{text}");
            // And reads back from what is written to `wallet.toml`.
            assert_eq!(parse(&String::from(text.parse::<ChainSource>().unwrap())), found, "{text}");
        }
        let source: ChainSource = "bitcoind://u:p@[::1]:8332".parse().unwrap();
        assert_eq!(parse(&String::from(source.clone())).0, "::1");
        assert_eq!(String::from(source), "bitcoind://u:p@[::1]:8332");
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            WalletConfig::path(dir.path()),
            "network = 'regtest'\nchain = 'tcp://h:1'\nlisen = []\n",
        )
        .unwrap();
        let error = WalletConfig::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
        let text = "network = 'regtest'\nchain = 'tcp://h:1'\n[channels]\nmax_sats = 5\n";
        std::fs::write(WalletConfig::path(dir.path()), text).unwrap();
        let policy = WalletConfig::load(dir.path()).unwrap().channels;
        assert_eq!(policy, ChannelPolicy { max_sats: 5, ..ChannelPolicy::default() }, "the others as usual");
    }
}
