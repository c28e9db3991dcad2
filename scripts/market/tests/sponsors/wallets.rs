//! A coordinator that serves, and wallets of sponsors and others in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use watershed_market::{Options, ValidatorKind, World, registers, stages};
use watershed_payments::ledger::Account;
use watershed_payments::regtest::free_port;
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::{PayoutState, Treasury};
use watershed_payments::wallet::ldk::{LdkWallet, WalletConfig, init};
use watershed_payments::wallet::{Invoice, Network, NodeAddress, Wallet as _};
use watershed_protocol::{Msat, RunId};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A wallet with a node of its own.
pub(crate) struct Party {
    pub(crate) money: Treasury<LdkWallet, SqliteStore>,
    pub(crate) address: NodeAddress,
    running: tokio::task::JoinHandle<()>,
}

impl Party {
    pub(crate) async fn start(world: &World, name: &str, seed: u8) -> Self {
        let bitcoind = world.bitcoind.as_ref().unwrap();
        let dir = world.options.dir.join(name);
        let listen = vec![format!("127.0.0.1:{}", free_port().unwrap())];
        let (network, chain) = (Network::Regtest, bitcoind.source().clone());
        let config = WalletConfig {
            network,
            chain,
            listen: listen.clone(),
            announce: Vec::new(),
            payer: None,
            channels: Default::default(),
        };
        init(&dir, &config, [seed; 32]).unwrap();
        let money = watershed_payments::cli::start(&dir).await.unwrap();
        let address = NodeAddress { id: money.wallet().node_id(), address: listen[0].clone() };
        let running = tokio::spawn({
            let money = money.clone();
            async move { money.run().await }
        });
        Self { money, address, running }
    }

    /// With coins, and a channel to the coordinator that can be used.
    pub(crate) async fn rich(world: &World, name: &str, seed: u8, public: bool) -> Self {
        let party = Self::start(world, name, seed).await;
        let rpc = world.bitcoind.as_ref().unwrap().rpc();
        rpc.fund(&party.money.wallet().address().await.unwrap()).await.unwrap();
        rpc.seen_by(party.money.wallet()).await.unwrap();
        party.money.book_chain().await.unwrap();
        let coordinator: NodeAddress = world.client.info().await.unwrap().node.parse().unwrap();
        if public {
            party.money.open_public_channel(&coordinator, 1_000_000).await.unwrap();
        } else {
            party.money.open_channel(&coordinator, 1_000_000).await.unwrap();
        }
        party.usable(world, 1).await;
        party
    }

    /// Mines until so many channels can be used.
    pub(crate) async fn usable(&self, world: &World, channels: usize) {
        let end = Instant::now() + LIMIT;
        let usable =
            async || self.money.wallet().channels().await.unwrap().iter().filter(|c| c.usable).count();
        while usable().await < channels {
            assert!(Instant::now() < end, "no channel");
            world.mine(1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Begins to pay an invoice. A channel that was just confirmed is known to the node's router a moment later.
    pub(crate) async fn send(&self, invoice: &str) {
        let invoice: Invoice = invoice.parse().unwrap();
        let end = Instant::now() + LIMIT;
        loop {
            let payout = self.money.pay_out(&invoice, Msat::ZERO, Account::Operator).await.unwrap();
            match payout.state {
                PayoutState::Failed { reason } => assert!(Instant::now() < end, "{reason}"),
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Pays an invoice; the preimage.
    pub(crate) async fn pay(&self, invoice: &str) -> String {
        self.send(invoice).await;
        let hash = invoice.parse::<Invoice>().unwrap().hash();
        let paid = async || match self.money.payout(hash)?.state {
            PayoutState::Paid { preimage, .. } => Ok(Some(preimage.reveal())),
            _ => Ok(None),
        };
        self.money.wait("paying", LIMIT, paid).await.unwrap()
    }

    /// An invoice for something.
    pub(crate) async fn invoice(&self, msat: u64) -> String {
        let made = self.money.request(Msat::new(msat), "x".into(), LIMIT, Account::Operator).await.unwrap();
        made.invoice.to_string()
    }

    /// Msat that came in over Lightning.
    pub(crate) async fn received(&self) -> u64 {
        let all = self.money.wallet().lightning_payments().await.unwrap();
        all.iter().filter(|p| !p.outgoing && p.succeeded).map(|p| p.amount.msat()).sum()
    }

    pub(crate) async fn stop(self) {
        self.running.abort();
        self.money.wallet().stop().await.unwrap();
    }
}

/// A server of Lightning addresses; the address of `bo`.
pub(crate) async fn address_server(money: Treasury<LdkWallet, SqliteStore>) -> String {
    type Wallet = Treasury<LdkWallet, SqliteStore>;
    async fn invoice(
        State(money): State<Wallet>,
        Query(asked): Query<BTreeMap<String, String>>,
    ) -> Json<Value> {
        let amount = Msat::new(asked["amount"].parse().unwrap());
        let made = money.request(amount, "refund".into(), LIMIT, Account::Operator).await.unwrap();
        Json(json!({ "pr": made.invoice.to_string(), "routes": [] }))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let terms = json!({
        "tag": "payRequest", "callback": format!("http://{at}/callback"), "minSendable": 1,
        "maxSendable": 1_000_000_000u64, "metadata": "[]",
    });
    let app = Router::new()
        .route("/.well-known/lnurlp/bo", get(async move || Json(terms)))
        .route("/callback", get(invoice))
        .with_state(money);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("bo@{at}")
}

/// Two validators, no miners.
pub(crate) fn options(dir: &Path) -> Options {
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo_text");
    let validator = |name: &str| ValidatorKind { name: name.to_owned(), falsehood: None };
    Options {
        dir: dir.to_owned(),
        texts: registers(&texts).unwrap(),
        miners: Vec::new(),
        validators: vec![validator("validator-1"), validator("validator-2")],
        rounds: 2,
        inner_steps: 3,
        batch: 1,
        sequence: 32,
        reward: 1500,
        goal: 0,
        settings: stages([90, 180, 60, 120]),
        false_coordinator: None,
        keys_of: None,
    }
}

/// A coordinator and two validators, without miners.
pub(crate) async fn world(dir: &Path) -> World {
    World::start(options(dir), &|_| {}).await.unwrap()
}

/// Opens another run like the first, with other numbers in its file.
pub(crate) async fn another_run(world: &World, title: &str, numbers: &[(&str, u64)]) -> RunId {
    let dir = &world.options.dir;
    let file = std::fs::read_to_string(dir.join("run.toml")).unwrap();
    let line = |line: &str| match numbers.iter().find(|(name, _)| line.starts_with(&format!("{name} ="))) {
        Some((name, value)) => format!("{name} = {value}"),
        None if line.starts_with("title =") => format!("title = {}", serde_json::to_string(title).unwrap()),
        None => line.to_owned(),
    };
    let path = dir.join(format!("run-{}.toml", hex::encode(title.as_bytes()).get(..12).unwrap_or("x")));
    std::fs::write(&path, file.lines().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let (data, path) = (dir.join("coordinator"), path.to_string_lossy().into_owned());
    let data = data.to_string_lossy();
    let open = ["--data", &data, "--json", "run", "open", &path, "--coordinator", &world.url];
    let view = world.programs.json("watershed-coordinator", &open).await.unwrap();
    let run = view["run"].as_str().unwrap().parse().unwrap();
    if numbers.iter().any(|(name, _)| *name == "goal") {
        // The campaign begins a moment after the run is open.
        let begun = async |w: &World| {
            let unknown = w.client.pledge_state(run, "none").await.unwrap_err().to_string();
            Ok((!unknown.contains("no campaign")).then_some(()))
        };
        world.until("the run takes pledges", 30, begun).await.unwrap();
    }
    run
}

/// Waits until a run's phase is this.
pub(crate) async fn phase(world: &World, run: RunId, phase: &str) {
    let reached = async |w: &World| Ok((w.client.run(run).await?.phase == phase).then_some(()));
    world.until(phase, 60, reached).await.unwrap();
}

/// A command of the coordinator's.
pub(crate) async fn coordinator(world: &World, arguments: &[&str]) -> String {
    let data = world.options.dir.join("coordinator");
    let data = data.to_string_lossy();
    let all = [&["--data", &*data][..], arguments].concat();
    world.programs.output("watershed-coordinator", &all).await.unwrap()
}

/// Waits until an audit finds something in the record, which is there a moment after the answer.
pub(crate) async fn recorded(world: &World, what: &str) {
    let recorded = async |w: &World| {
        let (said, sound) = w.audit(&[]).await?;
        assert!(sound, "{said}");
        Ok(said.contains(what).then_some(()))
    };
    world.until(what, 30, recorded).await.unwrap();
}
