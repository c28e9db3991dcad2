//! `wallet.toml`: which chain, where its data comes from, and whom this node trusts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wallet::{ChannelPolicy, Network, NodeAddress, WalletError};

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
        let bad = || WalletError::ChainSource(text.split("//").next().unwrap_or("").to_owned() + "//...");
        if text.starts_with("tcp://") || text.starts_with("ssl://") {
            return Ok(Self::Electrum(text.to_owned()));
        }
        if let Some(url) = text.strip_prefix("esplora+") {
            return Ok(Self::Esplora(url.to_owned()));
        }
        let rest =
            text.strip_prefix("bitcoind://").or_else(|| text.strip_prefix("http://")).ok_or_else(bad)?;
        let (login, place) = rest.rsplit_once('@').ok_or_else(bad)?;
        let (user, password) = login.split_once(':').ok_or_else(bad)?;
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        if host.is_empty() || user.is_empty() {
            return Err(bad());
        }
        Ok(Self::Bitcoind {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            password: password.to_owned(),
        })
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
                format!("bitcoind://{user}:{password}@{host}:{port}")
            }
            ChainSource::Esplora(url) => format!("esplora+{url}"),
            ChainSource::Electrum(url) => url,
        }
    }
}

/// Everything about a wallet that is not its seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletConfig {
    /// `bitcoin`, `testnet`, `signet` or `regtest`.
    pub network: Network,
    /// `bitcoind://USER:PASSWORD@HOST:PORT`, `esplora+https://HOST/api`, `ssl://HOST:PORT` or `tcp://HOST:PORT`.
    pub chain: ChainSource,
    /// Where other nodes reach this one; empty for a node that only calls others.
    #[serde(default)]
    pub listen: Vec<String>,
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
        for text in ["", "h:1", "http://h:1", "http://u@h:1", "http://u:p@h", "http://u:p@h:x"] {
            assert!(text.parse::<ChainSource>().is_err(), "{text}");
        }
        let shown = "http://ada:secret@host".parse::<ChainSource>().unwrap_err().to_string();
        assert!(!shown.contains("secret"));
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
