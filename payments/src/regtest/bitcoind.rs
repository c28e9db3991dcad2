//! bitcoind: finding it, starting it on a fresh chain, asking it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::RegtestError;
use super::guard::{Guarded, free_port};
use crate::wallet::Wallet;
use crate::wallet::ldk::{ChainSource, Rpc};

const USER: &str = "watershed";
const START: Duration = Duration::from_secs(60);

/// How long one that may be running already may take to say so.
const ANSWER: Duration = Duration::from_secs(3);

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

impl Rpc {
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

    /// The transactions that wait for a block, each after those that it spends from.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    async fn waiting(&self) -> Result<Vec<Value>, RegtestError> {
        let found = self.call("getrawmempool", &[json!(true)]).await?;
        let mut ids: Vec<(u64, &String)> = found
            .as_object()
            .into_iter()
            .flatten()
            .map(|(id, entry)| (entry["ancestorcount"].as_u64().unwrap_or_default(), id))
            .collect();
        ids.sort();
        let mut transactions = Vec::new();
        for (_, id) in ids {
            // What is in a block by now waits no longer.
            transactions.extend(self.call("getrawtransaction", &[json!(id)]).await);
        }
        Ok(transactions)
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

/// A bitcoind with a chain of its own.
#[derive(Debug)]
pub struct Bitcoind {
    dir: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Guarded,
    source: ChainSource,
    rpc: Rpc,
}

/// Port and password: those of the chain in `dir`, or new ones.
async fn login(dir: &Path) -> Result<(u16, String), RegtestError> {
    let path = dir.join("bitcoin.conf");
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => kept_login(&text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(RegtestError::io(path.display().to_string())(e)),
    };
    if let Some((port, password)) = kept {
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok((port, password));
        }
        let source = ChainSource::Bitcoind {
            host: "127.0.0.1".into(),
            port,
            user: USER.into(),
            password: password.clone(),
        };
        let answers = async { Rpc::of(&source)?.height().await.ok() };
        if tokio::time::timeout(ANSWER, answers).await.ok().flatten().is_some() {
            return Err(RegtestError::Running { dir: dir.to_owned(), chain: source.into() });
        }
        let other = free_port()?;
        eprintln!(
            "port {port} of this chain is taken by another program, so it has port {other} from now on: change `chain` in wallet.toml"
        );
        return Ok((other, password));
    }
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|e| RegtestError::io("random bytes")(std::io::Error::other(e)))?;
    Ok((free_port()?, hex::encode(secret)))
}

/// What an earlier start has written.
fn kept_login(config: &str) -> Option<(u16, String)> {
    let value = |key: &str| config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("rpcuser") != Some(USER) {
        return None;
    }
    Some((value("rpcport")?.parse().ok()?, value("rpcpassword")?.to_owned()))
}

impl Bitcoind {
    /// Starts bitcoind with its data in `dir`, which is made; a chain that is there is continued, at the port and with the
    /// password that it had, so that wallets find it again. A port that something else has by now is replaced.
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
        let (port, password) = login(dir).await?;
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
        let mut bitcoind = Self { dir: dir.to_owned(), program, arguments, log, process, source, rpc };
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
    /// A bitcoind that is killed forgets the blocks since it last wrote its index, of a young chain all of them, and what waits
    /// for a block. Both are in the network, whose miners go on with it. Here a second bitcoind that runs for this time is the
    /// network, and what waits is sent again: without it a channel that is in use before it is confirmed would never be.
    ///
    /// # Errors
    /// [`RegtestError`].
    pub async fn restart(&mut self, signal: &str, pause: Duration) -> Result<(), RegtestError> {
        let port = free_port()?;
        let more = ["-listen=1", &format!("-bind=127.0.0.1:{port}")];
        let network = Self::start_with(&self.dir.join("network"), &more).await?;
        self.meet(&network, port).await?;
        let waiting = self.rpc.waiting().await?;
        self.process.end(signal)?;
        tokio::time::sleep(pause).await;
        self.process = Guarded::spawn(&self.program, &self.arguments, &self.log)?;
        self.answers().await?;
        self.meet(&network, port).await?;
        for transaction in waiting {
            // It may have written it down.
            let _ = self.rpc.call("sendrawtransaction", &[transaction]).await;
        }
        network.stop()
    }

    /// Connects to a bitcoind that listens on `port`, and waits until both have the same chain.
    async fn meet(&self, other: &Self, port: u16) -> Result<(), RegtestError> {
        let start = Instant::now();
        self.rpc.call("addnode", &[json!(format!("127.0.0.1:{port}")), json!("onetry")]).await?;
        loop {
            let (ours, theirs) = (self.rpc.height().await?, other.rpc.height().await?);
            if ours == theirs {
                return Ok(());
            }
            if start.elapsed() > START {
                let (at, height) = (ours.min(theirs), ours.max(theirs));
                return Err(RegtestError::Behind { at, height, seconds: START.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
