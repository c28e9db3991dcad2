//! Validating: from the coordinator's news to signed verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use watershed_commons::client::{Client, ClientError, from_text, to_text, watch};
use watershed_commons::log::Pins;
use watershed_engine::device::{self, OpenDevice};
use watershed_engine::selftest;
use watershed_payments::escrow::earned as tiers_of;
use watershed_protocol::market::view::{RoundView, RoundWorkView, RunView, WorkView};
use watershed_protocol::market::{Fault, Message, Opened, Opening, Outcome, Score, Verdict};
use watershed_protocol::{AssignmentId, Digest, Envelope, PublicKey, RunId, SecretKey};
use watershed_rounds::{Workbench, checkpoint_digest, floats_of, whole};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

use crate::conduct::{Conduct, Falsehood};
use crate::home::{Home, HomeArgs};
use crate::judge::{self, FirstLook, Submitted};
use crate::{Outcome as Ended, RunArgs, secrets, serve};

/// Wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How often the coordinator's log is held against what was seen of it before.
const WATCH: Duration = Duration::from_secs(20);

/// Largest file of a shard set that is downloaded.
const MAX_BLOB: u64 = 16 << 30;

/// What was done so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    verdicts: u32,
    earned: u32,
    rejected: u32,
    faults: BTreeMap<String, u32>,
    at: u64,
}

/// A round as far as it was looked at.
#[derive(Default)]
struct Looked {
    round: Option<u32>,
    checkpoint: Vec<f32>,
    submissions: BTreeMap<AssignmentId, Submitted>,
    looks: BTreeMap<AssignmentId, FirstLook>,
    shares: BTreeMap<AssignmentId, u32>,
    second: BTreeMap<AssignmentId, Option<Fault>>,
    judged: BTreeSet<AssignmentId>,
}

/// What the other validators of a task say.
enum Others {
    /// Not all have spoken.
    Wait,
    /// Nothing against it that can be found here.
    Nothing,
    /// This, which is found here too.
    Found(Fault),
}

struct Session {
    client: Client,
    home: Home,
    key: SecretKey,
    seed: [u8; 32],
    run: RunId,
    bench: Arc<Mutex<Workbench>>,
    conduct: Conduct,
    tally: Tally,
    looked: Looked,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
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
    // A coordinator that rewrites its record is not worked for: this ends with both of its signatures.
    let watched =
        async { Err(watch(&client, Pins::new(&home.folder().join("logs")), WATCH).await.to_string()) };
    tokio::select! {
        served = serving => served,
        rewritten = watched => rewritten,
        worked = all_runs(args, &home, &client, &device, key, conduct) => worked,
        () = watershed_payments::cli::stop_signal() => Ok(()),
    }
}

async fn all_runs(
    args: &RunArgs,
    home: &Home,
    client: &Client,
    device: &OpenDevice,
    key: SecretKey,
    conduct: Conduct,
) -> Ended {
    let (mut said, mut away) = (false, false);
    let mut over: BTreeSet<RunId> = BTreeSet::new();
    loop {
        match client.runs().await {
            Ok(runs) => {
                away = false;
                let ours = |r: &&RunView| {
                    r.spec.committee.iter().any(|m| m.key == key.public())
                        && args.run.is_none_or(|run| run == r.run)
                        && r.phase != "ended"
                        && !over.contains(&r.run)
                };
                if let Some(run) = runs.iter().rfind(ours) {
                    let (run, spec) = (run.run, run.spec.clone());
                    if spec.id().ok() != Some(run) {
                        return Err(
                            "the coordinator shows another specification than the run's name says".to_owned()
                        );
                    }
                    let store = Store::new(&home.folder().join("library"));
                    fetch(client, run, &store, &spec).await?;
                    let device = device.clone();
                    let bench =
                        blocking(move || Workbench::new(&spec, &store, &device).map_err(|e| e.to_string()))
                            .await?;
                    let mut session = Session {
                        client: client.clone(),
                        home: home.clone(),
                        key,
                        seed: home.seed()?,
                        run,
                        bench: Arc::new(Mutex::new(bench)),
                        conduct,
                        tally: tally(home),
                        looked: Looked::default(),
                    };
                    eprintln!("validating run {run}");
                    session.validate().await?;
                    over.insert(run);
                    if args.once {
                        return Ok(());
                    }
                } else if !std::mem::replace(&mut said, true) {
                    eprintln!("waiting for a run that names this validator");
                }
            }
            Err(e) if e.is_passing() => {
                if !std::mem::replace(&mut away, true) {
                    eprintln!("{e}; trying again");
                }
            }
            Err(e) => return Err(e.to_string()),
        }
        tokio::time::sleep(AGAIN).await;
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
        client.download_to(file.sha256, &incoming, MAX_BLOB).await.map_err(|e| e.to_string())?;
        install_file(store, id, role, &incoming).map_err(|e| e.to_string())?;
    }
    OpenSet::open(store, id).map(drop).map_err(|e| format!("the run's text is not what its name says: {e}"))
}

fn tally(home: &Home) -> Tally {
    let bytes = std::fs::read(home.folder().join("status.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

impl Session {
    fn me(&self) -> PublicKey {
        self.key.public()
    }

    async fn validate(&mut self) -> Ended {
        let (mut version, mut away) = (u64::MAX, false);
        loop {
            match self.client.works(self.run, version).await {
                Ok(view) => {
                    if std::mem::take(&mut away) {
                        eprintln!("the coordinator is back");
                    }
                    if view.ended {
                        eprintln!("the run is over");
                        return Ok(());
                    }
                    version = view.version;
                    if let Err(e) = self.look(&view).await {
                        eprintln!("{e}; trying again");
                        version = u64::MAX;
                        tokio::time::sleep(AGAIN).await;
                    } else if self.waits(&view) {
                        // Deadlines for answers pass without news.
                        version = u64::MAX;
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                }
                Err(e) if e.is_passing() || matches!(e, ClientError::Answer { .. }) => {
                    if !std::mem::replace(&mut away, true) {
                        eprintln!("{e}; trying again");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    fn holds(&self, work: &WorkView) -> bool {
        work.lots.iter().any(|l| l.validator == self.me())
    }

    /// Whether some miner's answer is being waited for.
    fn waits(&self, view: &RoundWorkView) -> bool {
        let judging = view.round.as_ref().is_some_and(|r| r.stage == "judging");
        judging
            && view
                .works
                .iter()
                .any(|w| w.stage == "revealed" && self.holds(w) && !self.looked.judged.contains(&w.id))
    }

    async fn say(&self, message: &Message) -> Result<(), String> {
        match self.client.say(self.run, message, &self.key).await {
            Ok(()) => Ok(()),
            Err(ClientError::Refused { code, .. }) if code == "wrong-stage" || code == "no-assignment" => {
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    }

    async fn look(&mut self, view: &RoundWorkView) -> Result<(), String> {
        for work in view.works.iter().filter(|w| w.stage == "hashing" && !w.hashed.contains(&self.me())) {
            let tiers = lock(&self.bench).settings().spec.reward.tiers;
            let hashes = secrets::hashes(&self.seed, work.id, tiers);
            self.say(&Message::Hashes { assignment: work.id, hashes }).await?;
        }
        let Some(round) = view.round.clone().filter(|r| r.stage == "judging") else { return Ok(()) };
        if self.conduct == Conduct::False(Falsehood::Offline) {
            return Ok(());
        }
        let shown: Vec<&WorkView> = view.works.iter().filter(|w| w.stage == "revealed").collect();
        if self.looked.round != Some(round.number) {
            self.first_look(&round, view, &shown).await?;
        }
        for work in shown {
            if self.holds(work) && !self.looked.judged.contains(&work.id) {
                self.judge(&round, work).await?;
            }
        }
        Ok(())
    }

    /// Downloads and scores everything that was shown in the round.
    async fn first_look(
        &mut self,
        round: &RoundView,
        view: &RoundWorkView,
        shown: &[&WorkView],
    ) -> Result<(), String> {
        let randomness =
            round.randomness.ok_or("the coordinator does not show what scores are drawn from")?;
        let checkpoint = view.checkpoint.as_ref().ok_or("the coordinator shows no checkpoint")?;
        let n = lock(&self.bench).settings().parameters();
        let incoming = self.home.folder().join("incoming").join(checkpoint.blob.to_string());
        let arrived = self.client.download_to(checkpoint.blob, &incoming, 4 * n as u64).await;
        arrived.map_err(|e| e.to_string())?;
        let bytes = std::fs::read(&incoming).map_err(|e| format!("{}: {e}", incoming.display()))?;
        let _ = std::fs::remove_file(&incoming);
        let parameters = floats_of(&bytes, "the checkpoint", 1, n).map_err(|e| e.to_string())?;
        let parameters = parameters.into_iter().next().unwrap_or_default();
        let digest = checkpoint_digest(&parameters).map_err(|e| e.to_string())?;
        let mut looked = Looked { round: Some(round.number), checkpoint: parameters, ..Looked::default() };
        let mut submissions = Vec::new();
        for work in shown {
            if work.assignment.checkpoint != digest {
                return Err("the coordinator's checkpoint is not the one that assignments name".to_owned());
            }
            submissions.push(self.submitted(work).await?);
        }
        let mut ids: Vec<_> = submissions.iter().map(|s| s.commitment.submission).collect();
        if Verdict::randomness(self.run, watershed_protocol::RoundNumber(round.number), &mut ids)
            != randomness
        {
            return Err("the coordinator draws the scores' windows from something else than the submissions"
                .to_owned());
        }
        if self.conduct == Conduct::Honest {
            let (bench, of, checkpoint) =
                (Arc::clone(&self.bench), submissions.clone(), looked.checkpoint.clone());
            let (looks, shares) = blocking(move || {
                let mut bench = lock(&bench);
                let looks = judge::first_look(&mut bench, &of, &checkpoint, randomness)?;
                let shares = judge::earned(&bench, &looks);
                Ok((looks, shares))
            })
            .await?;
            (looked.looks, looked.shares) = (looks, shares);
        }
        looked.submissions = submissions.into_iter().map(|s| (s.id, s)).collect();
        self.looked = looked;
        Ok(())
    }

    /// One submission with what it continues.
    async fn submitted(&self, work: &WorkView) -> Result<Submitted, String> {
        let commitment = work.commitment.clone().ok_or("a commitment is missing")?;
        let reveal = self.client.reveal(self.run, work.id).await.map_err(|e| e.to_string())?;
        let previous = match work.assignment.previous {
            None => None,
            Some(id) => {
                let before = self.client.work(self.run, id).await.map_err(|e| e.to_string())?;
                Some(before.commitment.ok_or("the commitment that an assignment continues is missing")?)
            }
        };
        // Far above what any submission of this model can be: decoding bounds it.
        let n = lock(&self.bench).settings().parameters();
        let limit = 4 * n + (1 << 20);
        let encoded = match self.client.download(reveal.blob, limit).await {
            Ok(bytes) => bytes,
            // Too long to be one: what is not read is not decoded.
            Err(ClientError::TooLong { .. }) => Vec::new(),
            Err(e) => return Err(e.to_string()),
        };
        Ok(Submitted {
            id: work.id,
            assignment: work.assignment.clone(),
            commitment,
            reveal,
            previous,
            encoded,
        })
    }

    async fn judge(&mut self, round: &RoundView, work: &WorkView) -> Result<(), String> {
        if let Some(signed) = self.home.verdict(work.id) {
            return self.publish(work.id, &signed).await;
        }
        match self.conduct {
            Conduct::False(Falsehood::Lazy) => {
                let share = whole(&lock(&self.bench).settings().spec.reward);
                return self.sign(round, work, Ok(share), None, None).await;
            }
            Conduct::False(_) => return self.sign(round, work, Err(Fault::Start), None, None).await,
            Conduct::Honest => {}
        }
        let score = match self.looked.looks.get(&work.id) {
            Some(FirstLook::Scored(score)) => *score,
            Some(FirstLook::Faulty(fault)) => {
                let fault = fault.clone();
                return self.sign(round, work, Err(fault), None, None).await;
            }
            // It was shown after the others were looked at, which the coordinator must not let happen.
            None => return Err("a submission appeared after the round was shown".to_owned()),
        };
        let me = self.me();
        let Some((_, asked)) = work.openings.iter().find(|(validator, _)| *validator == me) else {
            let mut entropy = [0; 32];
            getrandom::fill(&mut entropy).map_err(|e| e.to_string())?;
            let opening = judge::draw(&lock(&self.bench), work.id, entropy);
            return self.say(&Message::Open(opening)).await;
        };
        let Some(opened) = work.opened.iter().find(|o| o.validator == me) else {
            // The last tenth of the time is for the verdict.
            let seconds = u64::from(lock(&self.bench).settings().spec.rounds.verdict_seconds);
            if now() + (seconds / 10).max(2) >= round.until {
                return self.sign(round, work, Err(Fault::NoAnswer), Some(asked), Some(score)).await;
            }
            return Ok(());
        };
        let mut fault = self.looked.second.get(&work.id).cloned().flatten();
        if !self.looked.second.contains_key(&work.id) {
            fault = self.second_look(work, asked, opened).await?;
            self.looked.second.insert(work.id, fault.clone());
        }
        if fault.is_none() {
            if !work.sound.contains(&me) {
                return self.say(&Message::Sound { assignment: work.id }).await;
            }
            match self.others(round, work).await? {
                Others::Wait => return Ok(()),
                Others::Found(found) => fault = Some(found),
                Others::Nothing => {}
            }
        }
        let share = self.looked.shares.get(&work.id).copied().unwrap_or(0);
        let found = match fault {
            Some(fault) => Err(fault),
            None => Ok(share),
        };
        self.sign(round, work, found, Some(asked), Some(score)).await
    }

    /// What the other validators say. A fault that one of them found is looked for here, in what it was opened: so one
    /// that finds something is enough, and one that lies convinces nobody.
    async fn others(&self, round: &RoundView, work: &WorkView) -> Result<Others, String> {
        let me = self.me();
        let mut waiting: BTreeSet<PublicKey> =
            work.lots.iter().map(|l| l.validator).filter(|v| *v != me).collect();
        for text in &work.verdicts {
            let Some(opened) = from_text(text).and_then(|e| e.open::<Message>().ok()) else { continue };
            let validator = opened.signer();
            let Message::Verdict(verdict) = opened.into_value() else { continue };
            if !waiting.remove(&validator) || !matches!(verdict.outcome, Outcome::Rejected(_)) {
                continue;
            }
            let asked = work.openings.iter().find(|(by, _)| *by == validator).map(|(_, asked)| asked);
            let answered = work.opened.iter().find(|o| o.validator == validator);
            if let (Some(asked), Some(answered)) = (asked, answered)
                && let Some(fault) = self.second_look(work, asked, answered).await?
            {
                return Ok(Others::Found(fault));
            }
        }
        waiting.retain(|v| !work.sound.contains(v));
        let seconds = u64::from(lock(&self.bench).settings().spec.rounds.verdict_seconds);
        // The last fifth of the time is for giving out what the others did not speak against.
        let late = now() + (seconds / 5).max(2) >= round.until;
        Ok(if waiting.is_empty() || late { Others::Nothing } else { Others::Wait })
    }

    async fn second_look(
        &self,
        work: &WorkView,
        asked: &Opening,
        opened: &Opened,
    ) -> Result<Option<Fault>, String> {
        let n = lock(&self.bench).settings().parameters();
        let fetch = async |sha256: Digest, limit: usize| match self.client.download(sha256, limit).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ClientError::TooLong { .. }) => Ok(None),
            Err(e) => Err(e.to_string()),
        };
        let (Some(state), Some(chunks)) =
            (fetch(opened.state, 12 * n).await?, fetch(opened.chunks, 16 << 20).await?)
        else {
            return Ok(Some(Fault::NoAnswer));
        };
        let Some(submitted) = self.looked.submissions.get(&work.id).cloned() else {
            return Err("the submission is not here".to_owned());
        };
        let (bench, checkpoint, asked) =
            (Arc::clone(&self.bench), self.looked.checkpoint.clone(), asked.clone());
        blocking(move || {
            judge::second_look(&mut lock(&bench), &submitted, &checkpoint, &asked, &state, &chunks)
        })
        .await
    }

    /// Signs a verdict, keeps it, and publishes it.
    async fn sign(
        &mut self,
        round: &RoundView,
        work: &WorkView,
        found: Result<u32, Fault>,
        asked: Option<&Opening>,
        score: Option<Score>,
    ) -> Result<(), String> {
        let tiers = lock(&self.bench).settings().spec.reward.tiers;
        let outcome = match found {
            Err(fault) => {
                let name = serde_json::to_value(&fault).map_err(|e| e.to_string())?;
                let name =
                    name.as_str().map(str::to_owned).or_else(|| name.as_object()?.keys().next().cloned());
                *self.tally.faults.entry(name.unwrap_or_default()).or_default() += 1;
                self.tally.rejected += 1;
                eprintln!("round {}: rejected {}: {fault}", round.number + 1, work.assignment.miner);
                Outcome::Rejected(fault)
            }
            Ok(share) => {
                self.tally.earned += 1;
                let all = (1u32 << tiers) - 1;
                eprintln!(
                    "round {}: {share} of {all} parts earned by {}",
                    round.number + 1,
                    work.assignment.miner
                );
                let paid = tiers_of(tiers, share).map_err(|e| e.to_string())?;
                let secrets = (0..).zip(paid).filter(|(_, paid)| *paid);
                let preimages =
                    secrets.map(|(tier, _)| secrets::preimage(&self.seed, work.id, tier)).collect();
                Outcome::Earned { share, preimages }
            }
        };
        self.tally.verdicts += 1;
        let submission = work.commitment.as_ref().ok_or("a commitment is missing")?.submission;
        let verdict = Verdict {
            assignment: work.id,
            submission,
            randomness: round.randomness.ok_or("the coordinator does not show what scores are drawn from")?,
            step: asked.map(|a| a.step),
            chunks: asked.map(|a| a.chunks.clone()).unwrap_or_default(),
            score,
            outcome,
        };
        let signed = Envelope::sign(&Message::Verdict(verdict), &self.key).map_err(|e| e.to_string())?;
        self.home.keep_verdict(work.id, &signed)?;
        self.tally.at = now();
        let text = serde_json::to_vec(&self.tally).map_err(|e| e.to_string())?;
        std::fs::write(self.home.folder().join("status.json"), text).map_err(|e| e.to_string())?;
        self.publish(work.id, &signed).await
    }

    async fn publish(&mut self, id: AssignmentId, signed: &Envelope) -> Result<(), String> {
        let text = to_text(signed).map_err(|e| e.to_string())?;
        match self.client.forward(self.run, text).await {
            Ok(()) => {}
            Err(ClientError::Refused { code, message, .. }) => {
                if code != "wrong-stage" && code != "no-assignment" {
                    eprintln!("the coordinator does not take a verdict: {message}");
                }
            }
            Err(e) => return Err(e.to_string()),
        }
        self.looked.judged.insert(id);
        Ok(())
    }
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
