//! Validating: every run that names this validator, at the same time, whatever the coordinator does meanwhile; and what was done
//! so far.
//!
//! Each run has a task of its own, which waits for news of it. A model is in memory only for a run that has something to check,
//! and as many as there is room for; of what takes long one thing is done at a time, for the runs in turn. So neither many runs
//! that collect pledges nor a large one keep the others from being checked in time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use watershed_commons::client::{Client, ClientError, watch};
use watershed_commons::log::Pins;
use watershed_engine::device::{self, OpenDevice};
use watershed_engine::selftest;
use watershed_payments::wallet::cannot_listen;
use watershed_protocol::market::RunSpec;
use watershed_protocol::market::view::{RoundWorkView, RunView, WaitView};
use watershed_protocol::{PublicKey, RunId, SecretKey};
use watershed_rounds::Workbench;
use watershed_shards::library::Store;
use watershed_shards::transfer;

use crate::conduct::Conduct;
use crate::home::{Home, HomeArgs};
use crate::known::Known;
use crate::round::{Looked, Session};
use crate::spool::Spool;
use crate::{Outcome as Ended, RunArgs, serve};

/// Wait before something that failed is tried again: at first, and at most.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The same while a run is under way, whose time for verdicts may be short.
const AGAIN_SOON: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// Between two looks while an answer or another validator is waited for.
const SOON: Duration = Duration::from_millis(300);

/// How often the coordinator's log is held against what was seen of it before.
const WATCH: Duration = Duration::from_secs(20);

/// Between two looks at which runs there are.
const RUNS: Duration = Duration::from_secs(3);

/// Millions of parameters of models that are in memory at once; each parameter takes some 12 bytes and its gradient 4 more. A
/// larger model is in memory alone.
const ROOM: u32 = 256;

/// What was done so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) verdicts: u32,
    pub(crate) earned: u32,
    pub(crate) rejected: u32,
    pub(crate) faults: BTreeMap<String, u32>,
    pub(crate) at: u64,
}

/// Says once that something fails, and waits longer each time that it does.
struct Patience {
    failed: u32,
    waits: [Duration; 2],
}

impl Patience {
    fn new(waits: [Duration; 2]) -> Self {
        Self { failed: 0, waits }
    }

    async fn wait(&mut self, why: &str) {
        if self.failed == 0 {
            eprintln!("{why}; trying again");
        }
        let [first, most] = self.waits;
        let wait = first.saturating_mul(1 << self.failed.min(5)).min(most);
        self.failed += 1;
        tokio::time::sleep(wait).await;
    }

    fn back(&mut self) {
        if std::mem::take(&mut self.failed) > 0 {
            eprintln!("it goes on");
        }
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
}

/// Validates until Ctrl-C, or until the run is over.
pub(crate) async fn run(args: &RunArgs, conduct: Conduct) -> Ended {
    let home = Home::new(&args.home)?;
    let _alone = home.alone()?;
    let key = home.key()?;
    let choice = args.device;
    let device = blocking(move || {
        let device = device::open(choice).map_err(|e| e.to_string())?;
        selftest::check(&device.device).map_err(|e| format!("{}: {e}", device.name))?;
        Ok(device)
    })
    .await?;
    eprintln!("validator {}; device {} computes every operation to the bit", key.public(), device.name);
    let client = Client::new(&args.coordinator).map_err(|e| e.to_string())?;
    let serving = async {
        match args.listen {
            Some(at) => {
                let listener = TcpListener::bind(at).await.map_err(|e| cannot_listen(&at, &e).to_string())?;
                axum::serve(listener, serve::router(home.clone())).await.map_err(|e| e.to_string())
            }
            None => std::future::pending().await,
        }
    };
    // A coordinator that rewrites its record is not worked for: this ends with both of its signatures. Miners that hold lots
    // have worked in good faith, so what has secrets is still judged.
    let rewritten = Arc::new(OnceLock::new());
    let watched = async {
        let why = watch(&client, Pins::new(&home.folder().join("logs")), WATCH).await.to_string();
        eprintln!(
            "{why}\nNo more tasks of this coordinator get secrets; this ends when those that have them are judged."
        );
        let _ = rewritten.set(why);
        std::future::pending().await
    };
    let shared = Shared {
        seed: home.seed()?,
        tally: Arc::new(Mutex::new(tally(&home))),
        home: home.clone(),
        client: client.clone(),
        device,
        key,
        conduct,
        rewritten: Arc::clone(&rewritten),
        room: Arc::new(Semaphore::new(ROOM as usize)),
        turn: Arc::new(Semaphore::new(1)),
    };
    tokio::select! {
        served = serving => served,
        watched = watched => watched,
        worked = all_runs(args, &shared) => worked,
        () = watershed_payments::cli::stop_signal() => Ok(()),
    }
}

/// What all runs have in common.
#[derive(Clone)]
struct Shared {
    home: Home,
    client: Client,
    device: OpenDevice,
    key: SecretKey,
    seed: [u8; 32],
    conduct: Conduct,
    rewritten: Arc<OnceLock<String>>,
    tally: Arc<Mutex<Tally>>,
    /// Millions of parameters.
    room: Arc<Semaphore>,
    /// Taken by whoever computes, in the order in which it was asked for.
    turn: Arc<Semaphore>,
}

/// Which of a coordinator's runs this validator serves now, and of which it is told that they wait for money.
fn ours(runs: &[RunView], key: PublicKey, named: Option<RunId>) -> (Vec<&RunView>, usize) {
    let ours = |r: &&RunView| {
        r.spec.committee.iter().any(|m| m.key == key)
            && named.is_none_or(|run| run == r.run)
            && r.phase != "ended"
    };
    let (funding, begun): (Vec<&RunView>, Vec<&RunView>) =
        runs.iter().filter(ours).partition(|r| r.phase == "funding");
    (begun, funding.len())
}

/// Says what runs wait for, when that changes.
#[derive(Default)]
struct Waiting {
    runs: BTreeMap<RunId, String>,
    funding: Option<usize>,
}

impl Waiting {
    fn say(&mut self, begun: &[&RunView], funding: usize) {
        if self.funding.replace(funding) != Some(funding) {
            match (funding, begun.len()) {
                (0, 0) => eprintln!("waiting for a run that names this validator"),
                (0, _) => {}
                (n, _) => eprintln!("runs that name this validator and wait for pledges: {n}"),
            }
        }
        for run in begun {
            // Within a round that is this validator and its like.
            let waits = if run.round.is_none() { WaitView::sentence(&run.waits_for) } else { String::new() };
            if self.runs.insert(run.run, waits.clone()).unwrap_or_default() != waits && !waits.is_empty() {
                eprintln!("run {} waits for {waits}", run.run);
            }
        }
    }
}

/// All runs, each in a task of its own. Whatever the coordinator answers, it may answer otherwise later, and what is wrong with
/// one run is no reason to leave another.
async fn all_runs(args: &RunArgs, shared: &Shared) -> Ended {
    let mut patience = Patience::new(AGAIN);
    let (mut active, mut over) = (BTreeSet::new(), BTreeSet::<RunId>::new());
    let (mut tasks, mut waiting) = (JoinSet::new(), Waiting::default());
    loop {
        if let Some(why) = shared.rewritten.get().filter(|_| active.is_empty()) {
            return Err(why.clone());
        }
        match shared.client.runs().await {
            Ok(runs) => {
                patience.back();
                let (begun, funding) = ours(&runs, shared.key.public(), args.run);
                waiting.say(&begun, funding);
                for run in begun {
                    let (id, spec) = (run.run, run.spec.clone());
                    if over.contains(&id) || shared.rewritten.get().is_some() || !active.insert(id) {
                        continue;
                    }
                    let shared = shared.clone();
                    tasks.spawn(async move {
                        if let Err(e) = validate(&shared, id, &spec).await {
                            eprintln!("run {id} is not validated: {e}");
                        }
                        id
                    });
                }
            }
            Err(e) => patience.wait(&e.to_string()).await,
        }
        tokio::select! {
            Some(done) = tasks.join_next() => {
                let id = done.map_err(|e| e.to_string())?;
                active.remove(&id);
                over.insert(id);
                if args.once && active.is_empty() && shared.rewritten.get().is_none() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(RUNS) => {}
        }
    }
}

impl Shared {
    fn store(&self) -> Store {
        Store::new(&self.home.folder().join("library"))
    }

    /// Downloads a run's shard set, if it is not here.
    async fn fetch(&self, run: RunId, spec: &RunSpec) -> Ended {
        let files = self.client.files(run).await.map_err(|e| e.to_string())?;
        let client = &self.client;
        let download =
            |sha256, to: PathBuf, bytes| async move { client.download_to(sha256, &to, bytes).await };
        transfer::fetch(&self.store(), spec.data.shards, &files, download).await.map_err(|e| e.to_string())
    }

    /// Puts a run's model into memory, as soon as there is room.
    async fn open(&self, run: RunId, spec: &RunSpec) -> Result<Open, String> {
        let millions = spec.model.parameters().unwrap_or(u64::MAX).div_ceil(1_000_000);
        let millions = u32::try_from(millions).unwrap_or(ROOM).clamp(1, ROOM);
        let room = Arc::clone(&self.room).acquire_many_owned(millions).await.map_err(|e| e.to_string())?;
        let (spec, store, device) = (spec.clone(), self.store(), self.device.clone());
        let bench =
            blocking(move || Workbench::new(&spec, &store, &device).map_err(|e| e.to_string())).await?;
        let session = Session {
            client: self.client.clone(),
            home: self.home.clone(),
            key: self.key,
            seed: self.seed,
            run,
            spec: bench.settings().spec.clone(),
            parameters: bench.settings().parameters(),
            bench: Arc::new(Mutex::new(bench)),
            conduct: self.conduct,
            tally: Arc::clone(&self.tally),
            known: Known::open(&self.home, run),
            spool: Spool::new(&self.home, run, self.client.clone()),
            looked: Looked::default(),
            turn: Arc::clone(&self.turn),
        };
        Ok(Open { session, _room: room })
    }
}

/// A run whose model is in memory.
struct Open {
    session: Session,
    _room: OwnedSemaphorePermit,
}

/// Whether a round has something for a validator.
fn concerns(view: &RoundWorkView, key: PublicKey) -> bool {
    view.round.is_some() && view.works.iter().any(|w| w.holders.contains(&key) || w.hashed.contains(&key))
}

fn tally(home: &Home) -> Tally {
    let bytes = std::fs::read(home.folder().join("status.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Stays with a run until it is over; with one whose record was rewritten until nothing is left that has secrets of ours.
async fn validate(shared: &Shared, run: RunId, spec: &RunSpec) -> Ended {
    if spec.id().ok() != Some(run) {
        return Err("the coordinator shows another specification than the run's name says".to_owned());
    }
    if let Some(fault) = watershed_rounds::faults(spec).first() {
        return Err(format!("nobody can train it: {fault}"));
    }
    let me = shared.key.public();
    let (mut version, mut patience) = (u64::MAX, Patience::new(AGAIN_SOON));
    let (mut fetched, mut open) = (false, None::<Open>);
    loop {
        if !fetched {
            match shared.fetch(run, spec).await {
                Ok(()) => {
                    eprintln!("validating run {run}");
                    fetched = true;
                }
                // It may be over before its text is here.
                Err(e) => patience.wait(&e).await,
            }
        }
        // What is shown is at least as new as this.
        let asked = now();
        let view = match shared.client.works(run, if fetched { version } else { u64::MAX }).await {
            Ok(view) => view,
            Err(e) => {
                patience.wait(&e.to_string()).await;
                continue;
            }
        };
        if view.ended {
            eprintln!("run {run} is over");
            return Ok(());
        }
        let leaving = shared.rewritten.get().is_some();
        let bound = || open.as_ref().map_or_else(|| concerns(&view, me), |o| o.session.is_bound(&view));
        if leaving && !bound() {
            return Ok(());
        }
        version = view.version;
        if !concerns(&view, me) || !fetched {
            // Between rounds others may need the room more.
            if shared.room.available_permits() < ROOM as usize / 2 {
                open = None;
            }
            continue;
        }
        let Some(Open { session, .. }) = &mut open else {
            match shared.open(run, spec).await {
                Ok(made) => open = Some(made),
                Err(e) => patience.wait(&e).await,
            }
            // That took a while.
            version = u64::MAX;
            continue;
        };
        match session.look(&view, asked, leaving).await {
            Ok(waits) => {
                patience.back();
                if waits {
                    // Parts of the time pass without news.
                    version = u64::MAX;
                    tokio::time::sleep(SOON).await;
                }
            }
            Err(e) => {
                version = u64::MAX;
                patience.wait(&e).await;
            }
        }
    }
}

/// Whether a refusal says that a message is no longer wanted, which is no failure.
pub(crate) fn is_past(e: &ClientError) -> bool {
    matches!(e.code(), Some("wrong-stage" | "no-assignment" | "too-late"))
}

/// `status`.
pub(crate) fn status(args: &HomeArgs) -> Ended {
    let home = Home::new(args)?;
    let tally = tally(&home);
    if home.json {
        println!("{}", serde_json::to_string(&tally).map_err(|e| e.to_string())?);
        return Ok(());
    }
    println!("verdicts  {}: {} earned, {} rejected", tally.verdicts, tally.earned, tally.rejected);
    for (fault, count) in &tally.faults {
        println!("          {count} for {fault}");
    }
    Ok(())
}
