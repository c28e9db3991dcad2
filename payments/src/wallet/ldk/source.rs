//! Whether a chain source answers, and whose chain it has: asked before a wallet is made, and before every start.
//!
//! LDK Node itself never compares: with a source of another network it panics at the first block, and a new wallet whose
//! bitcoind is away begins at the first block of all.

use std::time::Duration;

use ldk_node::bitcoin::block::Header;
use ldk_node::bitcoin::consensus::encode::deserialize_hex;
use ldk_node::bitcoin::constants::genesis_block;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use watershed_protocol::causes;

use super::{ChainSource, Rpc, RpcError};
use crate::wallet::Network;

/// How long a source may take to say whose chain it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer that is read: a block's header has 160 hex digits.
const MAX_ANSWER: u64 = 4096;

/// The networks whose first blocks are known.
const NETWORKS: [Network; 5] =
    [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];

/// Why a chain source is of no use.
#[derive(Debug, Error)]
pub enum SourceError {
    /// No answer.
    #[error("the chain source, {at}, has not answered: {reason}")]
    Silent {
        /// Which.
        at: String,
        /// Why, as far as it is known.
        reason: String,
    },
    /// A bitcoind that is not ready.
    #[error("the chain source, {at}, is still starting ({said}); wait until it is ready, and try again")]
    Starting {
        /// Which.
        at: String,
        /// In its words.
        said: String,
    },
    /// A wrong password.
    #[error(
        "the chain source, {at}, refuses this user and password: give the rpcuser and rpcpassword of its bitcoin.conf, or what \
         its .cookie file has now"
    )]
    Login {
        /// Which.
        at: String,
    },
    /// Another network.
    #[error(
        "the chain source, {at}, has the chain of {found}, and this wallet is for {wanted}: name a source of {wanted}, or make a \
         wallet for {found}"
    )]
    OtherNetwork {
        /// Which.
        at: String,
        /// Its network; `another network` if it is none that is known.
        found: String,
        /// The wallet's.
        wanted: Network,
    },
    /// Something else listens there.
    #[error("the chain source, {at}, answers in a way that it should not: {reason}")]
    Strange {
        /// Which.
        at: String,
        /// What is wrong.
        reason: String,
    },
}

impl SourceError {
    /// Whether it may be otherwise later: a wallet that knows the chain can start and wait for it.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Starting { .. })
    }

    /// What an error of a bitcoind means.
    pub(super) fn of(source: &ChainSource, e: &RpcError) -> Self {
        let at = source.to_string();
        match e {
            RpcError::Login => Self::Login { at },
            RpcError::Starting(said) => Self::Starting { at, said: said.clone() },
            RpcError::Unreachable(e) => Self::Silent { at, reason: watershed_protocol::told(e) },
            RpcError::Refused { .. } => Self::Strange { at, reason: e.to_string() },
        }
    }
}

impl ChainSource {
    /// Asks the source whose chain it has. An Electrum server over TLS is only called: that it answers is all that is known.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn check(&self, wanted: Network) -> Result<(), SourceError> {
        let at = || self.to_string();
        let asked = tokio::time::timeout(PATIENCE, self.network());
        let found = asked.await.map_err(|_| SourceError::Silent {
            at: at(),
            reason: format!("no answer within {} s", PATIENCE.as_secs()),
        })??;
        match found {
            Some(Ok(found)) if found != wanted => {
                Err(SourceError::OtherNetwork { at: at(), found: found.to_string(), wanted })
            }
            Some(Err(())) => {
                Err(SourceError::OtherNetwork { at: at(), found: "another network".to_owned(), wanted })
            }
            _ => Ok(()),
        }
    }

    /// Its network: an error inside if it is none that is known; none if it cannot be asked.
    async fn network(&self) -> Result<Option<Result<Network, ()>>, SourceError> {
        match self {
            Self::Bitcoind { .. } => {
                let Some(rpc) = Rpc::of(self) else { return Ok(None) };
                let info = rpc.call("getblockchaininfo", &[]).await;
                let info = info.map_err(|e| SourceError::of(self, &e))?;
                let chain = info["chain"].as_str().unwrap_or_default();
                Ok(Some(Network::from_core_arg(chain).map_err(|_| ())))
            }
            Self::Esplora(url) => self.esplora(url).await.map(|hash| Some(by_first_block(&hash))),
            Self::Electrum(url) => {
                let Some(place) = url.strip_prefix("tcp://") else {
                    let place = url.split_once("//").map_or(url.as_str(), |(_, place)| place);
                    self.call(place).await?;
                    return Ok(None);
                };
                self.electrum(place).await.map(|hash| Some(by_first_block(&hash)))
            }
        }
    }

    fn silent(&self, reason: String) -> SourceError {
        SourceError::Silent { at: self.to_string(), reason }
    }

    fn strange(&self, reason: String) -> SourceError {
        SourceError::Strange { at: self.to_string(), reason }
    }

    /// The hash of an Esplora server's first block.
    async fn esplora(&self, url: &str) -> Result<String, SourceError> {
        // An error says that the cryptography was chosen before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let silent = |e: reqwest::Error| self.silent(watershed_protocol::told(&e.without_url()));
        let http = reqwest::Client::builder().timeout(PATIENCE).build().map_err(silent)?;
        let asked = format!("{}/block-height/0", url.trim_end_matches('/'));
        let mut answer = http.get(&asked).send().await.map_err(silent)?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(self.silent(format!("it answers {status}")));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(silent)? {
            body.extend_from_slice(&piece);
            if body.len() as u64 > MAX_ANSWER {
                break;
            }
        }
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if status.is_success() && is_hash {
            return Ok(text);
        }
        Err(self.strange(format!(
            "/block-height/0 gives {status} and no hash of a block; is this the API of an Esplora server?"
        )))
    }

    async fn call(&self, place: &str) -> Result<TcpStream, SourceError> {
        TcpStream::connect(place).await.map_err(|e| self.silent(watershed_protocol::told(&e)))
    }

    /// The hash of an Electrum server's first block.
    async fn electrum(&self, place: &str) -> Result<String, SourceError> {
        let mut stream = self.call(place).await?;
        let asked = [
            json!({"jsonrpc": "2.0", "id": 0, "method": "server.version", "params": ["watershed", "1.4"]}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "blockchain.block.header", "params": [0]}),
        ];
        let silent = |e: std::io::Error| self.silent(causes(&e));
        for request in asked {
            stream.write_all(format!("{request}\n").as_bytes()).await.map_err(silent)?;
        }
        let mut lines = BufReader::new(stream.take(4 * MAX_ANSWER)).lines();
        while let Some(line) = lines.next_line().await.map_err(silent)? {
            let answer: Value = serde_json::from_str(&line).map_err(|e| self.strange(e.to_string()))?;
            if answer["id"] != 1 {
                continue;
            }
            let header = answer["result"].as_str().unwrap_or_default();
            let header: Header = deserialize_hex(header)
                .map_err(|_| self.strange("it gives no header of the first block".to_owned()))?;
            return Ok(header.block_hash().to_string());
        }
        Err(self.silent("the connection ended".to_owned()))
    }
}

/// The network of a first block.
fn by_first_block(hash: &str) -> Result<Network, ()> {
    let is = |network: &Network| genesis_block(*network).block_hash().to_string().eq_ignore_ascii_case(hash);
    NETWORKS.into_iter().find(is).ok_or(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Write as _};

    use super::*;

    /// A server that reads until `until` and then says this, once for each connection.
    fn server(until: &'static str, answer: String) -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let read = std::io::BufReader::new(client.try_clone().unwrap());
                let _ =
                    read.lines().map_while(Result::ok).find(|line| line.contains(until) || line.is_empty());
                let _ = client.write_all(answer.as_bytes());
                let _ = client.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut client, &mut std::io::sink());
            }
        });
        port
    }

    fn http(status: &str, body: &str) -> u16 {
        server("\0", format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    async fn asked(source: String, wanted: Network) -> Result<(), SourceError> {
        source.parse::<ChainSource>().unwrap().check(wanted).await
    }

    #[tokio::test]
    async fn every_kind_of_source_is_asked_whose_chain_it_has() {
        for (served, core) in
            [(Network::Bitcoin, "main"), (Network::Signet, "signet"), (Network::Regtest, "regtest")]
        {
            let block = genesis_block(served);
            let esplora = http("200 OK", &block.block_hash().to_string());
            let header = ldk_node::bitcoin::consensus::encode::serialize_hex(&block.header);
            let lines = format!(
                "{}\n{}\n",
                json!({"id": 0, "result": ["x", "1.4"]}),
                json!({"id": 1, "result": header})
            );
            let electrum = server("block.header", lines);
            let bitcoind =
                http("200 OK", &json!({"result": {"chain": core}, "error": null, "id": "0"}).to_string());
            for source in [
                format!("esplora+http://127.0.0.1:{esplora}"),
                format!("tcp://127.0.0.1:{electrum}"),
                format!("bitcoind://u:p@127.0.0.1:{bitcoind}"),
            ] {
                for wanted in NETWORKS {
                    let found = asked(source.clone(), wanted).await;
                    match found {
                        Ok(()) => assert_eq!(served, wanted, "{source}"),
                        Err(SourceError::OtherNetwork { found, .. }) => {
                            assert_ne!(served, wanted, "{source}");
                            assert_eq!(found, served.to_string());
                        }
                        Err(e) => unreachable!("{source}: {e}"),
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn what_keeps_a_source_from_answering_is_told_by_its_own_name() {
        let bitcoind = |port: u16| format!("bitcoind://ada:secret@127.0.0.1:{port}");
        let said = asked(bitcoind(http("401 Unauthorized", "")), Network::Regtest).await.unwrap_err();
        assert!(matches!(said, SourceError::Login { .. }) && !said.is_passing(), "{said}");
        let loading =
            json!({"result": null, "error": {"code": -28, "message": "Loading block index…"}, "id": "0"});
        let said =
            asked(bitcoind(http("500 Internal Server Error", &loading.to_string())), Network::Regtest).await;
        let said = said.unwrap_err();
        assert!(matches!(said, SourceError::Starting { .. }) && said.is_passing(), "{said}");
        assert!(said.to_string().contains("Loading block index"), "{said}");
        // A port that was free a moment ago.
        let port = crate::regtest::free_port().unwrap();
        for source in
            [bitcoind(port), format!("esplora+http://127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}")]
        {
            let said = asked(source, Network::Regtest).await.unwrap_err();
            let text = said.to_string();
            assert!(said.is_passing() && text.contains("nothing listens there"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        let page = http("404 Not Found", "<html>");
        let said = asked(format!("esplora+http://127.0.0.1:{page}"), Network::Regtest).await.unwrap_err();
        assert!(matches!(said, SourceError::Strange { .. }), "{said}");
        let busy = http("503 Service Unavailable", "");
        let said = asked(format!("esplora+http://127.0.0.1:{busy}"), Network::Regtest).await.unwrap_err();
        assert!(said.is_passing(), "{said}");
    }
}
