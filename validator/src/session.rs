//! Validating: finding a run, staying with it whatever the coordinator does meanwhile, and what was done so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use watershed_commons::client::{Client, ClientError, watch};
use watershed_commons::log::Pins;
use watershed_engine::device::{self, OpenDevice};
use watershed_engine::selftest;
use watershed_protocol::market::view::RunView;
use watershed_protocol::{RunId, SecretKey};
use watershed_rounds::Workbench;
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

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

/// Largest file of a shard set.
const MAX_FILE: u64 = 4 << 30;

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
                let listener = TcpListener::bind(at).await.map_err(|e| format!("{at}: {e}"))?;
                axum::serve(listener, serve::router(home.clone())).await.map_err(|e| e.to_string())
            }
            None => std::future::pending().await,
        }
    };
    // A coordinator that rewrites its record is not worked for: this ends with both of its signatures. Miners that hold lots
    // have worked in good faith, so what has secrets is still judged.
    let rewritten = OnceLock::new();
    let watched = async {
        let why = watch(&client, Pins::new(&home.folder().join("logs")), WATCH).await.to_string();
        eprintln!(
            "{why}\nNo more tasks of this coordinator get secrets; this ends when those that have them are judged."
        );
        let _ = rewritten.set(why);
        std::future::pending().await
    };
    tokio::select! {
        served = serving => served,
        watched = watched => watched,
        worked = all_runs(args, &home, &client, &device, key, conduct, &rewritten) => worked,
        () = watershed_payments::cli::stop_signal() => Ok(()),
    }
}

/// One run after the other. Only what is wrong here or with a specification ends it: whatever the coordinator answers, it may
/// answer otherwise later.
async fn all_runs(
    args: &RunArgs,
    home: &Home,
    client: &Client,
    device: &OpenDevice,
    key: SecretKey,
    conduct: Conduct,
    rewritten: &OnceLock<String>,
) -> Ended {
    let (mut said, mut patience) = (false, Patience::new(AGAIN));
    let mut over: BTreeSet<RunId> = BTreeSet::new();
    loop {
        if let Some(why) = rewritten.get() {
            return Err(why.clone());
        }
        let runs = match client.runs().await {
            Ok(runs) => runs,
            Err(e) => {
                patience.wait(&e.to_string()).await;
                continue;
            }
        };
        let ours = |r: &&RunView| {
            r.spec.committee.iter().any(|m| m.key == key.public())
                && args.run.is_none_or(|run| run == r.run)
                && r.phase != "ended"
                && !over.contains(&r.run)
        };
        let Some(run) = runs.iter().rfind(ours) else {
            patience.back();
            if !std::mem::replace(&mut said, true) {
                eprintln!("waiting for a run that names this validator");
            }
            tokio::time::sleep(AGAIN[0]).await;
            continue;
        };
        let (run, spec) = (run.run, run.spec.clone());
        if spec.id().ok() != Some(run) {
            return Err("the coordinator shows another specification than the run's name says".to_owned());
        }
        let store = Store::new(&home.folder().join("library"));
        if let Err(e) = fetch(client, run, &store, &spec).await {
            patience.wait(&e).await;
            continue;
        }
        patience.back();
        let device = device.clone();
        let bench =
            blocking(move || Workbench::new(&spec, &store, &device).map_err(|e| e.to_string())).await?;
        let session = Session {
            client: client.clone(),
            home: home.clone(),
            key,
            seed: home.seed()?,
            run,
            spec: bench.settings().spec.clone(),
            parameters: bench.settings().parameters(),
            bench: Arc::new(Mutex::new(bench)),
            conduct,
            tally: tally(home),
            known: Known::open(home, run),
            spool: Spool::new(home, client.clone()),
            looked: Looked::default(),
        };
        eprintln!("validating run {run}");
        validate(session, rewritten).await;
        over.insert(run);
        if args.once && rewritten.get().is_none() {
            return Ok(());
        }
    }
}

/// Downloads a run's shard set, if it is not in `store`.
async fn fetch(
    client: &Client,
    run: RunId,
    store: &Store,
    spec: &watershed_protocol::market::RunSpec,
) -> Ended {
    use watershed_shards::transfer::{SetFile, install_file};
    let id = spec.data.shards;
    if OpenSet::open(store, id).is_ok() {
        return Ok(());
    }
    for file in client.files(run).await.map_err(|e| e.to_string())? {
        let role = match file.role.as_str() {
            "set" => SetFile::Set,
            "index" => SetFile::Index,
            "shard" => SetFile::Shard(file.sha256),
            other => return Err(format!("the coordinator names a file of an unknown kind, {other:?}")),
        };
        let incoming = store.root().join("incoming").join(file.sha256.to_string());
        let limit = file.bytes.min(MAX_FILE);
        client.download_to(file.sha256, &incoming, limit).await.map_err(|e| e.to_string())?;
        install_file(store, id, role, &incoming).map_err(|e| e.to_string())?;
    }
    OpenSet::open(store, id).map(drop).map_err(|e| format!("the run's text is not what its name says: {e}"))
}

fn tally(home: &Home) -> Tally {
    let bytes = std::fs::read(home.folder().join("status.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Stays with a run until it is over; with one whose record was rewritten until nothing is left that has secrets of ours.
async fn validate(mut session: Session, rewritten: &OnceLock<String>) {
    let (mut version, mut patience) = (u64::MAX, Patience::new(AGAIN_SOON));
    loop {
        // What is shown is at least as new as this.
        let asked = now();
        let view = match session.client.works(session.run, version).await {
            Ok(view) => view,
            Err(e) => {
                patience.wait(&e.to_string()).await;
                continue;
            }
        };
        if view.ended {
            eprintln!("the run is over");
            return;
        }
        let leaving = rewritten.get().is_some();
        if leaving && !session.is_bound(&view) {
            return;
        }
        version = view.version;
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
