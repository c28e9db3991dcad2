//! `serve`: wallet, runs, record and API in one process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use watershed_commons::log::LogKey;
use watershed_engine::device::{self, DeviceChoice};
use watershed_engine::selftest;
use watershed_payments::cli::{start, stop_signal};
use watershed_payments::control;
use watershed_payments::l402::{Desk, RootSecret, Settings};
use watershed_payments::lock::FolderLock;
use watershed_payments::wallet::ldk::WalletConfig;
use watershed_payments::wallet::{AddressClient, Wallet as _, cannot_listen};
use watershed_shards::library::{Store, load_or_create};

use super::{Home, Outcome, wallet_folder};
use crate::blobs::Blobs;
use crate::http::{self, Limits, Shared, router};
use crate::market::Market;
use crate::office::{Computer, Falsehood, Office, Recorder, TreasuryMoney};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct ServeArgs {
    /// Where the API and the pages are
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    http: SocketAddr,
    /// Library with the shard sets of the runs [default: that of `watershed-shards`]
    #[arg(long, env = "WATERSHED_LIBRARY", value_name = "DIR")]
    library: Option<PathBuf>,
    /// Where blobs are: a folder, or s3://BUCKET/PREFIX with AWS_* variables [default: blobs in the coordinator's folder]
    #[arg(long, env = "WATERSHED_BLOBS", value_name = "PLACE")]
    blobs: Option<String>,
    /// The device for outer steps: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Largest upload of a miner, in MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    max_upload: u64,
    /// Connections at once; each miner and validator keeps one or two, and the system's `ulimit -n` must allow them
    #[arg(long, default_value_t = 4096, value_name = "N")]
    max_connections: usize,
    /// Requests a second of one address, of which ten seconds' worth may come at once; 0 for any number. Addresses of this
    /// machine have no limit: a proxy here sets its own
    #[arg(long, default_value_t = 100, value_name = "N")]
    max_rate: u32,
    /// Also ask this machine, without TLS, for invoices of Lightning addresses. For tests only
    #[arg(long)]
    loopback_addresses: bool,
}

pub(super) async fn serve(home: &Home, args: &ServeArgs, falsehood: Option<Falsehood>) -> Outcome {
    let folder = home.folder()?;
    let wallet = wallet_folder(&folder);
    let key = home.key()?;
    // Before the port is taken: a second one in this folder is told that, not that its port is in use.
    let _alone = FolderLock::take(&folder, "serve.lock")?;
    let config = WalletConfig::load(&wallet)?;
    let listener = TcpListener::bind(args.http)
        .await
        .map_err(|e| format!("--http: {}", cannot_listen(&args.http, &e)))?;
    let treasury = start(&wallet).await?;

    let choice = args.device;
    let device = tokio::task::spawn_blocking(move || {
        let device = device::open(choice)?;
        selftest::check(&device.device)?;
        Ok::<_, super::Failed>(device)
    })
    .await??;
    let library = super::library(args.library.as_ref())?;
    let computer = Computer::new(Store::new(&library), device, falsehood);
    let place = args.blobs.clone().unwrap_or_else(|| folder.join("blobs").to_string_lossy().into_owned());
    let blobs = Blobs::open(&place)?;

    let (log_secret, _) =
        load_or_create(&folder.join("log.key"), "Key of a coordinator's public log (Ed25519)")?;
    let log_key = LogKey::new(&format!("watershed/{}", key.public()), &log_secret.to_bytes())?;
    let log_folder = folder.join("log");
    let verifier = log_key.verifier().to_string();
    // For audits of a copy of this folder.
    std::fs::write(folder.join("log.vkey"), &verifier)?;
    let journal = folder.join("coordinator.sqlite");
    let (market, effects) = Market::open(&journal)?;
    let recorder = Recorder::open(&log_folder, log_key.clone(), &journal)?;
    let recorder = recorder.false_if(falsehood, &log_folder, log_key);
    let changes = market.changes();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || recorder.run(changes, &runtime));

    let node = treasury.wallet().node_id();
    let address = match config.reached_at() {
        Some(at) => format!("{node}@{at}"),
        None => return Err("miners must reach this node: make the wallet with --listen HOST:PORT".into()),
    };
    let addresses = AddressClient::new(args.loopback_addresses)?;
    let (token_secret, _) =
        load_or_create(&folder.join("l402.key"), "Secret of the tokens that joining fees buy")?;
    let desk = Desk::new(
        Settings::new(format!("watershed/{}", key.public()))?,
        RootSecret::from_entropy(token_secret.to_bytes()),
    );
    let money = TreasuryMoney::new(treasury.clone(), addresses, desk);
    let office = Office::new(market, money, blobs, computer, falsehood);
    let connections = args.max_connections;
    let limits = Limits {
        connections,
        // The rest is for messages, uploads and people.
        waiting: connections / 4 * 3,
        rate: args.max_rate,
        ..Limits::default()
    };
    let shared = Shared::new(
        Arc::clone(&office),
        key,
        (address.clone(), config.network.to_string()),
        (verifier, log_folder),
        args.max_upload << 20,
        limits,
    );
    eprintln!(
        "coordinator {}\nnode        {address}\npages       http://{}/",
        key.public(),
        listener.local_addr()?
    );
    eprintln!("Ctrl-C stops; nothing is lost");
    let outcome = tokio::select! {
        () = treasury.run() => Ok(()),
        served = control::serve(&wallet, treasury.clone()) => served.map_err(super::Failed::from),
        () = Arc::clone(&office).run(effects) => Ok(()),
        () = office.tick() => Ok(()),
        () = http::serve(listener, router(Arc::clone(&shared)), Arc::clone(&shared.guard)) => Ok(()),
        () = stop_signal() => Ok(()),
    };
    eprintln!("stopping");
    treasury.wallet().stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}
