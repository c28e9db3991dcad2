//! A wallet for one command, or for as long as a program runs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::args::RunArgs;
use super::{Outcome, Place, http};
use crate::control::{ControlError, Reply, Request, ask, execute, serve};
use crate::store::SqliteStore;
use crate::treasury::Treasury;
use crate::wallet::ldk::{LdkWallet, WalletConfig};
use crate::wallet::{Wallet, WalletError};

/// How long a wallet that was just started may take to find its peers.
const PEERS: Duration = Duration::from_secs(10);

/// A wallet, in this process or in the one that has it.
#[derive(Debug)]
pub struct Session(Kind);

enum Kind {
    Own { treasury: Treasury<LdkWallet, SqliteStore>, running: JoinHandle<()> },
    Other(PathBuf),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own { .. } => f.write_str("Own"),
            Self::Other(folder) => write!(f, "Other({})", folder.display()),
        }
    }
}

/// Resolves at Ctrl-C, at SIGTERM, and when the terminal is closed (SIGHUP), unless that is ignored, as below `nohup`.
pub async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the process as they always did.
        return std::future::pending().await;
    };
    let hung_up = async {
        match hangup() {
            Some(mut hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hung_up => {}
    }
}

/// The signal of a terminal that is closed; none if this process was started to outlive it.
fn hangup() -> Option<Signal> {
    // A handler, once set, is found instead of what was there before: looked at once.
    static IGNORED: OnceLock<bool> = OnceLock::new();
    let ignored = IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        ignores_hangup(&status)
    });
    if *ignored { None } else { signal(SignalKind::hangup()).ok() }
}

/// Whether the mask of ignored signals in `/proc/self/status` has the first one, which is SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Starts the wallet in a folder, for a program that runs it with [`Treasury::run`] and answers commands with
/// [`crate::control::serve`].
///
/// # Errors
/// If there is no wallet, another process has it, or it does not start.
pub async fn start(folder: &Path) -> Result<Treasury<LdkWallet, SqliteStore>, Box<dyn Error + Send + Sync>> {
    super::panics::running_in(folder);
    let wallet = Arc::new(LdkWallet::start(folder.to_owned()).await?);
    let store = Arc::new(SqliteStore::open(&folder.join("payments.sqlite"))?);
    let clock = Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let policy = WalletConfig::load(folder)?.channels;
    let treasury =
        Treasury::new(wallet, store, clock, Arc::new(|text| eprintln!("{text}"))).with_channels(policy);
    treasury.resume().await?;
    Ok(treasury)
}

impl Session {
    /// Uses the process that has the wallet, or starts the wallet here.
    ///
    /// # Errors
    /// If there is no wallet, or it does not start.
    pub async fn open(folder: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        WalletConfig::load(folder)?;
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            match ask(folder, &Request::Show).await {
                Ok(_) => return Ok(Self(Kind::Other(folder.to_owned()))),
                Err(ControlError::NotRunning(_)) => {}
                Err(e) => return Err(e.into()),
            }
            match start(folder).await {
                Ok(treasury) => {
                    let running = tokio::spawn({
                        let treasury = treasury.clone();
                        async move { treasury.run().await }
                    });
                    settle_in(&treasury).await;
                    return Ok(Self(Kind::Own { treasury, running }));
                }
                // Another process is starting or stopping.
                Err(e)
                    if matches!(e.downcast_ref(), Some(WalletError::InUse { .. }))
                        && Instant::now() < patience =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Asks for something.
    pub async fn ask(&self, request: &Request) -> Reply {
        match &self.0 {
            Kind::Own { treasury, .. } => execute(treasury, request.clone()).await,
            Kind::Other(folder) => {
                ask(folder, request).await.unwrap_or_else(|e| Reply::Error { message: e.to_string() })
            }
        }
    }

    /// Stops the wallet, if it was started here.
    ///
    /// # Errors
    /// If the node does not stop in order.
    pub async fn close(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if let Kind::Own { treasury, running } = self.0 {
            running.abort();
            let _ = running.await;
            treasury.wallet().stop().await?;
        }
        Ok(())
    }
}

/// Gives a wallet that was just started time to see the chain and its peers.
async fn settle_in(treasury: &Treasury<LdkWallet, SqliteStore>) {
    if let Err(e) = treasury.wallet().sync().await {
        eprintln!("going on with what this wallet knew when it last ran: {e}");
    }
    let end = Instant::now() + PEERS;
    while Instant::now() < end {
        match treasury.wallet().channels().await {
            Ok(channels) if channels.iter().any(|c| c.ready && !c.usable) => {}
            _ => return,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs the wallet until a signal comes.
pub(super) async fn run(place: &Place, args: &RunArgs) -> Outcome {
    let folder = place.folder()?;
    let treasury = start(&folder).await?;
    let http = match args.http {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    let config = WalletConfig::load(&folder)?;
    let node = treasury.wallet().node_id();
    match config.reached_at() {
        Some(address) => eprintln!("running as {node}@{address} on {}; Ctrl-C stops", config.chain),
        None => eprintln!("running as {node} on {}; Ctrl-C stops", config.chain),
    }
    let served = async {
        match http {
            Some(listener) => http::serve(listener, treasury.clone(), &folder, args).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = treasury.run() => Ok(()),
        served = serve(&folder, treasury.clone()) => served.map_err(Into::into),
        served = served => served,
        () = stop_signal() => Ok(()),
    };
    eprintln!("stopping");
    treasury.wallet().stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_is_left_alone_where_it_is_ignored() {
        let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        for mask in ["0000000000001000", "", "x"] {
            assert!(!ignores_hangup(&status(mask)), "{mask}");
        }
        assert!(!ignores_hangup(""));
    }
}
