//! The real program in a process of its own, to be killed and started again.
#![allow(dead_code, clippy::unwrap_used)] // helpers of tests; each test file uses its part

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use watershed_payments::control::{Reply, Request, ask};
use watershed_payments::regtest::{Bitcoind, Guarded, free_port};
use watershed_payments::wallet::ldk::{WalletConfig, init};
use watershed_payments::wallet::{ChannelPolicy, Network, NodeAddress};

/// A wallet's process.
pub(crate) struct Program {
    pub(crate) dir: PathBuf,
    pub(crate) address: NodeAddress,
    /// More arguments of `run`, from the next start.
    pub(crate) more: Vec<String>,
    process: Option<Guarded>,
}

impl Program {
    /// Makes the wallet and starts its process.
    pub(crate) async fn start(
        dir: PathBuf,
        bitcoind: &Bitcoind,
        payer: Option<NodeAddress>,
        seed: u8,
    ) -> Self {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let config = WalletConfig {
            network: Network::Regtest,
            chain: bitcoind.source().clone(),
            listen: vec![listen.clone()],
            announce: Vec::new(),
            payer,
            channels: ChannelPolicy::default(),
        };
        init(&dir, &config, [seed; 32]).unwrap();
        let process = Some(run(&dir, &[]));
        let end = Instant::now() + Duration::from_secs(30);
        let id = loop {
            if let Ok(Reply::Ok { value, .. }) = ask(&dir, &Request::Show).await {
                break value["node"].as_str().unwrap().parse().unwrap();
            }
            assert!(Instant::now() < end, "{}", std::fs::read_to_string(dir.join("run.log")).unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self { dir, address: NodeAddress { id, address: listen }, more: Vec::new(), process }
    }

    /// Ends the process as power cuts do.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().end("KILL").unwrap();
    }

    /// Ends the process in order.
    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().end("TERM").unwrap();
    }

    /// Ends the process as a terminal that is closed does.
    pub(crate) fn hang_up(&mut self) {
        self.process.take().unwrap().end("HUP").unwrap();
    }

    /// Starts the process again.
    pub(crate) fn run(&mut self) {
        self.process = Some(run(&self.dir, &self.more));
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| p.is_running().unwrap())
    }

    /// The value of a reply; none if the process is away or refuses.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: Request) -> Option<T> {
        match ask(&self.dir, &request).await {
            Ok(Reply::Ok { value, .. }) => Some(serde_json::from_value(value).unwrap()),
            _ => None,
        }
    }

    /// The same, for those who want to know why not.
    pub(crate) async fn try_ask(&self, request: Request) -> Result<Value, String> {
        match ask(&self.dir, &request).await {
            Ok(Reply::Ok { value, .. }) => Ok(value),
            Ok(Reply::Error { message }) => Err(message),
            Err(e) => Err(e.to_string()),
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("run.log")).unwrap_or_default()
    }
}

fn run(dir: &Path, more: &[String]) -> Guarded {
    let arguments = ["--data".as_ref(), dir.as_os_str(), "run".as_ref()];
    let arguments = arguments.into_iter().chain(more.iter().map(AsRef::as_ref));
    Guarded::spawn(env!("CARGO_BIN_EXE_watershed-payments"), arguments, &dir.join("run.log")).unwrap()
}
