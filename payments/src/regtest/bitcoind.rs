//! bitcoind: finding it, starting it on a fresh chain, asking it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use lightning_block_sync::http::{HttpEndpoint, JsonResponse};
use lightning_block_sync::rpc::RpcClient;
use serde_json::{Value, json};

use super::RegtestError;
use super::guard::{Guarded, free_port};
use crate::wallet::Wallet;
use crate::wallet::ldk::ChainSource;

const USER: &str = "watershed";
const START: Duration = Duration::from_secs(60);

/// Anybody can spend it; nobody here does.
const NOBODY: &str = "raw(51)#8lvh9jxk";

/// The bitcoind to use: $WATERSHED_BITCOIND, else one on the PATH, else what `scripts/bitcoind` has put into
/// `$XDG_CACHE_HOME/watershed/bin` (or `~/.cache/watershed/bin`).
///
/// # Errors
/// [`RegtestError::NoBitcoind`] and [`RegtestError::NotThere`].
pub fn find() -> Result<PathBuf, RegtestError> {
    if let Some(named) = std::env::var_os("WATERSHED_BITCOIND") {
        let path = PathBuf::from(named);
        return if path.is_file() { Ok(path) } else { Err(RegtestError::NotThere(path)) };
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let folders = std::env::split_paths(&on_path).chain(cache.map(|c| c.join("watershed/bin")));
    let found = folders.map(|folder| folder.join("bitcoind")).find(|path| path.is_file());
    found.ok_or(RegtestError::NoBitcoind)
}

/// JSON-RPC of a bitcoind.
pub struct Rpc(RpcClient);

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rpc")
    }
}

impl Rpc {
    /// The RPC that a chain source names; none if it is no bitcoind.
    pub fn of(source: &ChainSource) -> Option<Self> {
        let ChainSource::Bitcoind { host, port, user, password } = source else { return None };
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Some(Self(RpcClient::new(&login, HttpEndpoint::for_host(host.clone()).with_port(*port))))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// [`RegtestError::Refused`].
    pub async fn call(&self, method: &str, parameters: &[Value]) -> Result<Value, RegtestError> {
        let answer = self.0.call_method::<Json>(method, parameters).await;
        answer
            .map(|json| json.0)
            .map_err(|e| RegtestError::Refused { method: method.to_owned(), reason: e.to_string() })
    }

    /// The height of the chain.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn height(&self) -> Result<u32, RegtestError> {
        let height = self.call("getblockcount", &[]).await?;
        Ok(height.as_u64().and_then(|h| u32::try_from(h).ok()).unwrap_or(0))
    }

    /// Mines blocks whose reward nobody uses.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn mine(&self, blocks: u32) -> Result<(), RegtestError> {
        self.call("generatetodescriptor", &[json!(blocks), json!(NOBODY)]).await?;
        Ok(())
    }

    /// Mines a block whose reward, 50 bitcoin in the first 150 blocks, goes to `address`, and the 100 blocks after which
    /// it can be spent.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub async fn fund(&self, address: &str) -> Result<(), RegtestError> {
        self.call("generatetoaddress", &[json!(1), json!(address)]).await?;
        self.mine(100).await
    }

    /// Waits until `wallet` has seen the whole chain.
    ///
    /// # Errors
    /// [`RegtestError::Behind`].
    pub async fn seen_by(&self, wallet: &impl Wallet) -> Result<(), RegtestError> {
        let (height, start) = (self.height().await?, Instant::now());
        loop {
            // It may fail while the node is busy with the same.
            let _ = wallet.sync().await;
            let at = wallet.tip().await.unwrap_or(0);
            if at >= height {
                return Ok(());
            }
            if start.elapsed() > START {
                return Err(RegtestError::Behind { at, height, seconds: START.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The answer as it is.
struct Json(Value);

impl TryInto<Json> for JsonResponse {
    type Error = std::io::Error;
    fn try_into(self) -> std::io::Result<Json> {
        Ok(Json(self.0))
    }
}

/// A bitcoind with a chain of its own.
#[derive(Debug)]
pub struct Bitcoind {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Guarded,
    source: ChainSource,
    rpc: Rpc,
}

impl Bitcoind {
    /// Starts bitcoind on a free port with its data in `dir`, which is made; a chain that is there is continued.
    ///
    /// # Errors
    /// [`RegtestError`].
    pub async fn start(dir: &Path) -> Result<Self, RegtestError> {
        Self::start_with(dir, &[]).await
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// [`RegtestError`].
    pub async fn start_with(dir: &Path, more: &[&str]) -> Result<Self, RegtestError> {
        let program = find()?;
        std::fs::create_dir_all(dir).map_err(RegtestError::io(dir.display().to_string()))?;
        let port = free_port()?;
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)
            .map_err(|e| RegtestError::io("random bytes")(std::io::Error::other(e)))?;
        let password = hex::encode(secret);
        // In a file and not on the command line, which every user of the machine can read.
        let config =
            format!("regtest=1\nrpcuser={USER}\nrpcpassword={password}\n[regtest]\nrpcport={port}\n");
        crate::wallet::ldk::write_private(&dir.join("bitcoin.conf"), config.as_bytes())
            .map_err(|e| RegtestError::io("writing bitcoin.conf")(std::io::Error::other(e.to_string())))?;
        let mut arguments = vec![format!("-datadir={}", dir.display())];
        // No peers, no prompt for fees that a fresh chain cannot estimate, little memory.
        arguments
            .extend(["-listen=0", "-fallbackfee=0.00001", "-dbcache=16", "-maxmempool=20"].map(String::from));
        arguments.extend(more.iter().map(|m| (*m).to_owned()));
        let log = dir.join("bitcoind.log");
        let process = Guarded::spawn(&program, &arguments, &log)?;
        let source = ChainSource::Bitcoind { host: "127.0.0.1".into(), port, user: USER.into(), password };
        let rpc = Rpc::of(&source).ok_or(RegtestError::NoBitcoind)?;
        let mut bitcoind = Self { program, arguments, log, process, source, rpc };
        bitcoind.answers().await?;
        Ok(bitcoind)
    }

    async fn answers(&mut self) -> Result<(), RegtestError> {
        let start = Instant::now();
        while self.rpc.height().await.is_err() {
            if start.elapsed() > START || !self.process.is_running()? {
                return Err(RegtestError::Silent {
                    seconds: start.elapsed().as_secs(),
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends it with a signal, and starts it again after `pause` with the same chain, port and password.
    ///
    /// # Errors
    /// [`RegtestError`].
    pub async fn restart(&mut self, signal: &str, pause: Duration) -> Result<(), RegtestError> {
        self.process.end(signal)?;
        tokio::time::sleep(pause).await;
        self.process = Guarded::spawn(&self.program, &self.arguments, &self.log)?;
        self.answers().await
    }

    /// For a wallet's configuration.
    pub fn source(&self) -> &ChainSource {
        &self.source
    }

    /// To ask it.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// [`RegtestError::Io`].
    pub fn stop(mut self) -> Result<(), RegtestError> {
        self.process.end("TERM")
    }
}
