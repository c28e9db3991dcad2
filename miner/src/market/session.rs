//! One run, from joining to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use watershed_commons::client::{Client, ClientError};
use watershed_engine::device::OpenDevice;
use watershed_payments::cli::{start, stop_signal};
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::Treasury;
use watershed_payments::wallet::ldk::{LdkWallet, WalletConfig};
use watershed_payments::wallet::{NodeAddress, Wallet as _};
use watershed_payments::{control, wallet::WalletError};
use watershed_protocol::data::{Split, WindowSpec};
use watershed_protocol::market::view::{MinerView, RunView};
use watershed_protocol::market::{Assignment, Join, Message, RunSpec};
use watershed_protocol::{Digest, Msat, PublicKey, RoundNumber, RunId, SecretKey, ShardSetId};
use watershed_rounds::Workbench;
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;
use watershed_shards::transfer::{SetFile, install};

use super::RunArgs;
use super::conduct::Conduct;
use super::home::Home;
use super::keep::Keep;
use super::report::Reporter;
use super::task::Tasks;
use super::worker::Worker;

/// How often everything is looked at when nothing happens.
const TURN: Duration = Duration::from_millis(500);

/// Wait before a coordinator that is away is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Wait before a channel that failed is asked for again.
const CHANNEL: Duration = Duration::from_secs(30);

/// Largest file of a shard set.
const MAX_FILE: u64 = 4 << 30;

pub(super) type Wallet = Treasury<LdkWallet, SqliteStore>;

/// What a session talks to.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) key: SecretKey,
    pub(super) run: RunId,
    pub(super) spec: RunSpec,
    pub(super) wallet: Wallet,
    pub(super) keep: Keep,
    pub(super) conduct: Conduct,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reporter: Arc<Reporter>,
}

impl Context {
    pub(super) async fn say(&self, message: &Message) -> Result<(), ClientError> {
        self.client.say(self.run, message, &self.key).await
    }

    pub(super) fn me(&self) -> PublicKey {
        self.key.public()
    }
}

/// Downloads what is missing of the run's shard set.
async fn fetch(client: &Client, run: RunId, store: &Store, id: ShardSetId) -> Result<(), String> {
    if OpenSet::open(store, id).is_ok() {
        return Ok(());
    }
    let files = client.files(run).await.map_err(|e| e.to_string())?;
    let total: u64 = files.iter().map(|f| f.bytes).sum();
    eprintln!("downloading the run's text: {:.1} MB in {} files", total as f64 / 1e6, files.len());
    for file in files {
        let role = match file.role.as_str() {
            "set" => SetFile::Set,
            "index" => SetFile::Index,
            "shard" => SetFile::Shard(file.sha256),
            other => return Err(format!("the coordinator names a file of an unknown kind, {other:?}")),
        };
        let limit = usize::try_from(file.bytes.min(MAX_FILE)).unwrap_or(usize::MAX);
        let bytes = client.download(file.sha256, limit).await.map_err(|e| e.to_string())?;
        install(store, id, role, &bytes).map_err(|e| e.to_string())?;
    }
    OpenSet::open(store, id).map(drop).map_err(|e| format!("the run's text is not what its name says: {e}"))
}

/// A window for measuring speed: the first of the run.
fn sample(spec: &RunSpec, run: RunId, miner: PublicKey) -> Assignment {
    let sequences = spec.inner.batch * spec.inner.steps;
    Assignment {
        run,
        round: RoundNumber(0),
        miner,
        checkpoint: Digest([0; 32]),
        previous: None,
        window: WindowSpec {
            shards: spec.data.shards,
            split: Split::Train,
            mixture: spec.data.mixture,
            seed: spec.seed,
            sequence_length: spec.data.sequence_length,
            first: 0,
            sequences,
            max_epochs: spec.data.max_epochs,
        },
        batch: spec.inner.batch,
        reward: Msat::ZERO,
    }
}

/// Starts the wallet, waiting for another process to let go of it.
async fn open_wallet(home: &Home) -> Result<Wallet, String> {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        match start(&home.wallet()).await {
            Ok(wallet) => return Ok(wallet),
            Err(e)
                if matches!(e.downcast_ref(), Some(WalletError::InUse(_))) && Instant::now() < patience =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => return Err(format!("{e}\nIs there a wallet? `watershed-miner init` makes one.")),
        }
    }
}

/// Works for a run until it is over (true) or a stop is asked for (false).
pub(super) async fn work(
    home: &Home,
    client: &Client,
    run: &RunView,
    args: &RunArgs,
    device: &OpenDevice,
    conduct: Conduct,
) -> Result<bool, String> {
    let key = home.key()?;
    let info = client.info().await.map_err(|e| e.to_string())?;
    eprintln!("run {} ({}): {} of {} rounds done", run.run, run.title, run.rounds_done, run.rounds);
    let wallet = open_wallet(home).await?;
    let folder = home.wallet();
    let worked = tokio::select! {
        worked = worked(home, client, (run, info.node), args, device, (key, conduct), &wallet) => worked,
        () = wallet.run() => Ok(false),
        served = control::serve(&folder, wallet.clone()) => served.map(|()| false).map_err(|e| e.to_string()),
    };
    wallet.wallet().stop().await.map_err(|e| e.to_string())?;
    worked
}

async fn worked(
    home: &Home,
    client: &Client,
    (run, node): (&RunView, String),
    args: &RunArgs,
    device: &OpenDevice,
    (key, conduct): (SecretKey, Conduct),
    wallet: &Wallet,
) -> Result<bool, String> {
    let keep = Keep::new(home.run(run.run));
    let store = Store::new(&keep.library());
    let (id, spec) = (run.run, run.spec.clone());
    let prepared = async {
        if spec.id().ok() != Some(id) {
            return Err("the coordinator shows another specification than the run's name says".to_owned());
        }
        fetch(client, id, &store, spec.data.shards).await?;
        let node: NodeAddress = node.parse().map_err(|e| format!("the coordinator's node: {e}"))?;
        // If it is away now, it is called again every few seconds.
        let _ = wallet.wallet().connect(node).await;
        let (spec, device, keep) = (spec.clone(), device.clone(), keep.clone());
        let (disk, me) = (args.states << 30, key.public());
        let made = tokio::task::spawn_blocking(move || {
            let bench = Workbench::new(&spec, &store, &device).map_err(|e| e.to_string())?;
            let mut worker = Worker::new(bench, keep, disk, conduct, device);
            let began = Instant::now();
            let speed = worker.speed(&sample(&spec, id, me), &|| began.elapsed().as_secs_f64())?;
            Ok::<_, String>((worker, speed))
        });
        made.await.map_err(|e| e.to_string())?
    };
    let (worker, speed) = tokio::select! {
        prepared = prepared => prepared?,
        () = stop_signal() => return Ok(false),
    };
    eprintln!("this machine trains {speed} tokens per second of this model");
    let config = WalletConfig::load(&home.wallet()).map_err(|e| e.to_string())?;
    let listen =
        config.listen.first().cloned().ok_or("the wallet has no address where the coordinator reaches it")?;
    let join = Join {
        run: id,
        node: format!("{}@{listen}", wallet.wallet().node_id()),
        tokens_per_second: speed,
        min_per_million_tokens: args.min_price,
        lost_state: false,
    };
    let context = Context {
        client: client.clone(),
        key,
        run: id,
        spec,
        wallet: wallet.clone(),
        keep,
        conduct,
        stop: Arc::default(),
        reporter: Arc::new(Reporter::new(home, run)),
    };
    let (news, view) = watch::channel(None::<MinerView>);
    let poll = poll(&context, &news);
    let tasks = Tasks::new(context.clone(), Arc::new(Mutex::new(worker)), join);
    let outcome = tokio::select! {
        ended = turn(&context, tasks, view) => ended,
        () = poll => Ok(false),
    };
    context.reporter.leave();
    outcome
}

/// Keeps looking at what the coordinator has for us.
async fn poll(context: &Context, news: &watch::Sender<Option<MinerView>>) {
    let mut away = false;
    let mut version = u64::MAX;
    loop {
        match context.client.present(context.run, &context.key, version).await {
            Ok(view) => {
                if std::mem::take(&mut away) {
                    eprintln!("the coordinator is back");
                }
                version = view.version;
                let _ = news.send(Some(view));
            }
            Err(e) => {
                if !std::mem::replace(&mut away, true) {
                    eprintln!("{e}; trying again. What is locked stays locked");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Does whatever is to be done, until the run is over (true) or a stop is asked for (false).
async fn turn(
    context: &Context,
    mut tasks: Tasks,
    mut view: watch::Receiver<Option<MinerView>>,
) -> Result<bool, String> {
    let mut changes = context.wallet.changes();
    let mut joined: Option<Instant> = None;
    let mut said = String::new();
    let stopped = stop_signal();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => {
                eprintln!("stopping after this step; what is begun goes on from there with the next `run`");
                context.stop.store(true, Ordering::SeqCst);
                tasks.settle_down().await;
                let leave = Message::Leave { run: context.run };
                let _ = tokio::time::timeout(Duration::from_secs(3), context.say(&leave)).await;
                return Ok(false);
            }
            _ = view.changed() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(TURN) => {}
        }
        let Some(now) = view.borrow_and_update().clone() else { continue };
        if now.ended && tasks.all_closed(&now) {
            eprintln!("the run is over");
            return Ok(true);
        }
        if now.channel != said && now.active {
            said.clone_from(&now.channel);
            match said.as_str() {
                "ready" => eprintln!("the coordinator has a channel to this node: rewards can be locked"),
                "none yet" => eprintln!("waiting for the coordinator to open a channel to this node"),
                other => eprintln!(
                    "the coordinator could not open a channel: {other}\nIs this node reachable at its --listen address?"
                ),
            }
        }
        let failed = now.active && now.channel != "ready" && now.channel != "none yet";
        let due = joined.is_none_or(|at| at.elapsed() > if failed { CHANNEL } else { AGAIN });
        if (!now.active || joined.is_none() || failed) && due && !now.ended && now.phase != "closing" {
            match context.say(&Message::Join(tasks.join())).await {
                Ok(()) => joined = Some(Instant::now()),
                Err(e) if e.is_passing() => {}
                Err(e) => return Err(format!("the coordinator does not take this miner: {e}")),
            }
        }
        tasks.look(&now).await;
        context.reporter.show(&now, &context.wallet);
    }
}

/// Waits for a lock that no panic can spoil.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
