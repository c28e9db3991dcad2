//! One run, from joining to its end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use watershed_commons::client::{Client, ClientError, from_text, watch};
use watershed_commons::log::Pins;
use watershed_engine::device::OpenDevice;
use watershed_payments::cli::{start, stop_signal};
use watershed_payments::ledger::Account;
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::Treasury;
use watershed_payments::wallet::ldk::{LdkWallet, WalletConfig};
use watershed_payments::wallet::{NodeAddress, Wallet as _};
use watershed_payments::{control, wallet::WalletError};
use watershed_protocol::data::{Split, WindowSpec};
use watershed_protocol::market::view::{MinerView, RunView, WaitView};
use watershed_protocol::market::{Assignment, Join, Message, RunSpec};
use watershed_protocol::{Digest, Msat, PublicKey, RoundNumber, RunId, SecretKey, ShardSetId, told};
use watershed_rounds::Workbench;
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;
use watershed_shards::transfer;

use super::RunArgs;
use super::choice::{Class, Knows, choose};
use super::conduct::Conduct;
use super::fee::{Fee, FeeFrom};
use super::home::Home;
use super::keep::Keep;
use super::report::Reporter;
use super::task::Tasks;
use super::word;
use super::worker::Worker;
use crate::disk::Room;

/// How often everything is looked at when nothing happens.
const TURN: Duration = Duration::from_millis(500);

/// Wait before a coordinator that is away is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Wait before a channel that failed is asked for again.
const CHANNEL: Duration = Duration::from_secs(30);

/// How long an invoice for what is due at the end can be paid.
const CLAIM: Duration = Duration::from_secs(600);

/// How often the coordinator's log is held against what was seen of it before.
const WATCH: Duration = Duration::from_secs(20);

/// How often it is looked whether there is something better to do.
const AROUND: Duration = Duration::from_secs(15);

/// For how long a coordinator that is left is waited for, to have in its books what is settled here.
const PARTING: Duration = Duration::from_secs(120);

pub(super) type Wallet = Treasury<LdkWallet, SqliteStore>;

/// What a session talks to.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) key: SecretKey,
    /// Who signed the run.
    pub(super) coordinator: PublicKey,
    pub(super) run: RunId,
    pub(super) spec: RunSpec,
    pub(super) wallet: Wallet,
    pub(super) keep: Keep,
    pub(super) conduct: Conduct,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) pins: Pins,
}

impl Context {
    pub(super) async fn say(&self, message: &Message) -> Result<(), ClientError> {
        let promise = self.client.say_for_promise(self.run, message, &self.key, self.coordinator).await?;
        if let Some(id) =
            message.subject().filter(|_| matches!(message, Message::Commit(_) | Message::Reveal(_)))
        {
            let kind = if matches!(message, Message::Commit(_)) { "commit" } else { "reveal" };
            match promise {
                Some(promise) => self.keep.keep_promise(id, kind, &promise),
                None => eprintln!("the coordinator does not sign that it took the {kind} of {id}"),
            }
        }
        Ok(())
    }

    pub(super) fn me(&self) -> PublicKey {
        self.key.public()
    }
}

/// Downloads what is missing of the run's shard set.
async fn fetch(client: &Client, run: RunId, store: &Store, id: ShardSetId) -> Result<(), String> {
    let files = client.files(run).await.map_err(|e| e.to_string())?;
    if OpenSet::open(store, id).is_err() {
        let total: u64 = files.iter().map(|f| f.bytes).sum();
        eprintln!("downloading the run's text: {:.1} MB in {} files", total as f64 / 1e6, files.len());
    }
    let download = |sha256, to: PathBuf, bytes| async move { client.download_to(sha256, &to, bytes).await };
    transfer::fetch(store, id, &files, download).await.map_err(|e| e.to_string())
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
                if matches!(e.downcast_ref(), Some(WalletError::InUse { .. }))
                    && Instant::now() < patience =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => return Err(told(&*e)),
        }
    }
}

/// Why a miner left a run.
pub(super) enum Left {
    /// The run is over.
    Over,
    /// It was told to stop.
    Stopped,
    /// The coordinator rewrote its record or broke its word; with what proves it.
    Distrusted(String),
    /// Another run is better, and nothing is left to be done here.
    Better,
    /// Nothing came of it for so long that another run comes first.
    Passed,
}

/// What is seen of a coordinator's runs while one of them is worked for.
#[derive(Clone, Debug)]
struct Around {
    /// Whether another run is better than this one.
    better: bool,
    /// Whether there is another one that has its money, should nothing come of this one.
    instead: bool,
    /// What this one waits for.
    waits: String,
}

/// What a miner works with, whatever the run.
pub(super) struct With<'a> {
    pub(super) home: &'a Home,
    pub(super) client: &'a Client,
    pub(super) args: &'a RunArgs,
    pub(super) device: &'a OpenDevice,
    pub(super) conduct: Conduct,
    /// Runs that others come before.
    pub(super) passed: &'a BTreeSet<RunId>,
}

/// What to do when the wallet has no room.
const MAKE_ROOM: &str = "Without room the wallet would end in the middle of its work, so it does not run. Nothing is lost: make room, then start again";

impl With<'_> {
    /// The disk that the miner's files and its wallet are on.
    fn room(&self) -> Room {
        Room::new(self.home.folder(), self.args.keep_free << 20)
    }
}

/// Works for a run until there is nothing more to do for it. `began` is set when everything that is needed for it is there.
pub(super) async fn work(with: &With<'_>, run: &RunView, began: &mut bool) -> Result<Left, String> {
    let With { home, client, .. } = *with;
    let info = client.info().await.map_err(|e| e.to_string())?;
    eprintln!("run {} ({}): {} of {} rounds done", run.run, run.title, run.rounds_done, run.rounds);
    let mut room = with.room();
    if room.is_out() {
        return Err(format!("{}. {MAKE_ROOM}", room.told()));
    }
    let wallet = open_wallet(home).await?;
    let folder = home.wallet();
    let worked = tokio::select! {
        worked = worked(with, (run, info.node), &wallet, began) => worked,
        () = wallet.run() => Ok(Left::Stopped),
        served = control::serve(&folder, wallet.clone()) => {
            served.map(|()| Left::Stopped).map_err(|e| e.to_string())
        }
    };
    wallet.wallet().stop().await.map_err(|e| e.to_string())?;
    worked
}

/// Who signed a run: the record names it as the run's coordinator.
fn signer(run: &RunView) -> Option<PublicKey> {
    let signed = from_text(&run.signed)?.open::<RunSpec>().ok()?;
    (signed.value().id().ok() == Some(run.run)).then(|| signed.signer())
}

async fn worked(
    with: &With<'_>,
    (run, node): (&RunView, String),
    wallet: &Wallet,
    begun: &mut bool,
) -> Result<Left, String> {
    let With { home, client, args, device, conduct, .. } = *with;
    let key = home.key()?;
    let keep = Keep::new(home.run(run.run));
    let store = Store::new(&keep.library());
    let (id, spec) = (run.run, run.spec.clone());
    if spec.id().ok() != Some(id) {
        return Err("the coordinator shows another specification than the run's name says".to_owned());
    }
    let coordinator = signer(run).ok_or("the coordinator does not show who signed this run")?;
    let prepared = async {
        fetch(client, id, &store, spec.data.shards).await?;
        let node: NodeAddress = node.parse().map_err(|e| format!("the coordinator's node: {e}"))?;
        // If it is away now, it is called again every few seconds.
        let _ = wallet.wallet().connect(node).await;
        let (spec, device, keep) = (spec.clone(), device.clone(), keep.clone());
        let (disk, me) = ((args.states << 30, with.room()), key.public());
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
        () = stop_signal() => return Ok(Left::Stopped),
    };
    *begun = true;
    eprintln!("this machine trains {speed} tokens per second of this model");
    let config = WalletConfig::load(&home.wallet()).map_err(|e| e.to_string())?;
    let listen =
        config.reached_at().cloned().ok_or("the wallet has no address where the coordinator reaches it")?;
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
        coordinator,
        run: id,
        spec,
        wallet: wallet.clone(),
        keep,
        conduct,
        stop: Arc::default(),
        reporter: Arc::new(Reporter::new(home, run)),
        pins: Pins::new(&home.folder().join("logs")),
    };
    let (news, view) = watch::channel(None::<MinerView>);
    let (seen, around) = watch::channel(None::<Around>);
    let poll = poll(&context, &news);
    let look = look_around(with, id, &seen);
    let tasks = Tasks::new(context.clone(), Arc::new(Mutex::new(worker)), join, with.room());
    let outcome = tokio::select! {
        ended = turn(&context, tasks, args.joining_fee, view, around) => ended,
        () = poll => Ok(Left::Stopped),
        () = look => Ok(Left::Stopped),
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

/// Keeps looking at which runs there are.
async fn look_around(with: &With<'_>, run: RunId, seen: &watch::Sender<Option<Around>>) {
    let unfinished = |run| Keep::new(with.home.run(run)).has_work();
    let without = with.passed.iter().copied().chain([run]).collect();
    let knows = |passed| Knows {
        named: with.args.run,
        min_price: with.args.min_price,
        unfinished: &unfinished,
        passed,
    };
    loop {
        tokio::time::sleep(AROUND).await;
        // A coordinator that is away is told of by whoever waits for its news.
        let Ok(runs) = with.client.runs().await else { continue };
        let other = |passed| choose(&runs, &knows(passed)).filter(|(other, _)| other.run != run);
        let here = runs.iter().find(|r| r.run == run);
        let around = Around {
            better: other(with.passed).is_some(),
            instead: other(&without).is_some_and(|(_, class)| class <= Class::Trains),
            waits: here.map(|r| WaitView::sentence(&r.waits_for)).unwrap_or_default(),
        };
        let _ = seen.send(Some(around));
    }
}

/// Takes no more work from this coordinator. What is done is still paid for.
async fn distrust(context: &Context, why: String) -> (String, Instant) {
    eprintln!("{why}\nNo more work is taken from this coordinator.");
    let _ = context.say(&Message::Leave { run: context.run }).await;
    (why, Instant::now())
}

/// Has paid what was held back and no task has paid. An invoice of ours is enough: the coordinator has a channel with this node.
async fn claim(context: &Context, due: Msat) {
    let memo = format!("earned for {}: held back until the end", context.run);
    let asked = async {
        let made = context.wallet.request(due, memo, CLAIM, Account::Operator).await;
        let invoice = made.map_err(|e| e.to_string())?.invoice.to_string();
        context.client.payout(&invoice, &context.key).await.map_err(|e| e.to_string())
    };
    match asked.await {
        Ok(_) => eprintln!("{due} that were held back are paid"),
        Err(e) => eprintln!(
            "{due} that were held back could not be paid: {e}\nIf they were not paid before, `watershed-miner withdraw INVOICE` asks for them again"
        ),
    }
}

/// Does whatever is to be done, until there is nothing more.
async fn turn(
    context: &Context,
    mut tasks: Tasks,
    from: FeeFrom,
    mut view: watch::Receiver<Option<MinerView>>,
    around: watch::Receiver<Option<Around>>,
) -> Result<Left, String> {
    let mut changes = context.wallet.changes();
    let mut joined: Option<Instant> = None;
    let mut again = AGAIN;
    let mut said = String::new();
    let mut fee = Fee::new(from);
    let mut short = false;
    let stopped = stop_signal();
    let watched = watch(&context.client, context.pins.clone(), WATCH);
    tokio::pin!(stopped, watched);
    let mut distrusted = context.keep.distrust()?.map(|why| (why, Instant::now()));
    // A round that is under way when it joins is waited for, and then some.
    let patience = Duration::from_secs(context.spec.rounds.stages().saturating_add(300));
    let (mut idle, mut leaving, mut waits) = (Instant::now(), false, String::new());
    loop {
        tokio::select! {
            () = &mut stopped => {
                eprintln!("stopping after this step; what is begun goes on from there with the next `run`");
                context.stop.store(true, Ordering::SeqCst);
                tasks.settle_down().await;
                let leave = Message::Leave { run: context.run };
                let _ = tokio::time::timeout(Duration::from_secs(3), context.say(&leave)).await;
                return Ok(Left::Stopped);
            }
            e = &mut watched, if distrusted.is_none() => {
                distrusted = Some(distrust(context, e.to_string()).await);
            }
            _ = view.changed() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(TURN) => {}
        }
        let Some(now) = view.borrow_and_update().clone() else { continue };
        if let Some((why, since)) = distrusted.as_ref().filter(|_| tasks.all_closed(&now)) {
            // What was claimed reaches the coordinator's node while this one runs; whether it has is only the coordinator's word.
            let over = now.works.iter().all(|w| !w.escrow_open);
            if over || since.elapsed() > PARTING {
                return Ok(Left::Distrusted(why.clone()));
            }
        }
        if now.ended && tasks.all_closed(&now) {
            if now.due > Msat::ZERO {
                claim(context, now.due).await;
            }
            eprintln!("the run is over");
            return Ok(Left::Over);
        }
        let at_rest = now.works.iter().all(|w| w.judged || w.stage == "dropped") && tasks.all_closed(&now);
        if !at_rest {
            idle = Instant::now();
        }
        if let Some(around) = around.borrow().clone().filter(|_| distrusted.is_none()) {
            // Between rounds only: what is begun is finished.
            if std::mem::replace(&mut leaving, around.better) != around.better && around.better {
                eprintln!("another run is better: this one is left when what is begun is done");
                let _ = context.say(&Message::Leave { run: context.run }).await;
            }
            if at_rest && around.better {
                return Ok(Left::Better);
            }
            if at_rest && around.instead && idle.elapsed() > patience {
                let _ = context.say(&Message::Leave { run: context.run }).await;
                return Ok(Left::Passed);
            }
            if std::mem::replace(&mut waits, around.waits.clone()) != around.waits
                && at_rest
                && !waits.is_empty()
            {
                eprintln!("the run waits for {waits}");
            }
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
        if let Some(room) = tasks.is_out() {
            tasks.make_room();
            if tasks.is_out().is_some() {
                context.stop.store(true, Ordering::SeqCst);
                tasks.settle_down().await;
                return Err(format!("{room}. {MAKE_ROOM}"));
            }
        }
        if tasks.is_short() != short {
            short = !short;
            if short {
                eprintln!(
                    "no new work is taken until there is room, and what is locked is finished: {}",
                    tasks.room()
                );
                let _ = context.say(&Message::Leave { run: context.run }).await;
            } else {
                eprintln!("there is room on the disk again: new work is taken");
                joined = None;
            }
        }
        let failed = now.active && now.channel != "ready" && now.channel != "none yet";
        let due = joined.is_none_or(|at| at.elapsed() > if failed { CHANNEL } else { again });
        let wanted = !now.ended && now.phase != "closing" && distrusted.is_none() && !leaving && !short;
        if (!now.active || joined.is_none() || failed) && due && wanted {
            match fee.join(context, tasks.join()).await {
                Ok(_) => (joined, again) = (Some(Instant::now()), AGAIN),
                Err(e) if e.is_passing() => {}
                Err(e) => {
                    let refused = format!("the coordinator does not take this miner: {e}");
                    if refused != said {
                        eprintln!("{refused}; asking again every {} s", CHANNEL.as_secs());
                        said = refused;
                    }
                    joined = Some(Instant::now());
                    again = CHANNEL;
                }
            }
        }
        tasks.look(&now).await;
        let broken = || now.works.iter().find_map(|w| word::broken(&context.keep, w, context.client.url()));
        if distrusted.is_none()
            && let Some(why) = broken()
        {
            context.keep.note_distrust(&why);
            distrusted = Some(distrust(context, why).await);
        }
        context.reporter.show(&now, &waits);
    }
}

/// Waits for a lock that no panic can spoil.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
