//! What a miner does about each of its tasks. Everything may be done again: after a restart nothing is known but what is on
//! the disk and what the coordinator and the wallet say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use watershed_commons::client::{ClientError, from_text};
use watershed_payments::escrow::HoldState;
use watershed_payments::treasury::{HoldStatus, TreasuryError};
use watershed_protocol::market::view::{MinerView, WorkView};
use watershed_protocol::market::{Join, Message, Opened, Outcome, Verdict};
use watershed_protocol::{AssignmentId, Msat, PaymentHash, Preimage, PublicKey, SystemTrouble};
use watershed_rounds::{checkpoint_digest, floats_of, sha256};

use super::conduct::Cheat;
use super::decline::Declined;
use super::keep::Finished;
use super::patience;
use super::report::now;
use super::session::{Context, lock};
use super::terms::terms;
use super::worker::{Task, Worker};
use crate::disk::Room;

/// Largest checkpoint that is downloaded.
const MAX_CHECKPOINT: usize = 16 << 30;

/// Wait before a validator is asked again for a verdict that the coordinator does not show.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Wait before a task that the system stood in the way of is tried again.
const AGAIN: Duration = Duration::from_secs(10);

type Trained = Result<Option<Finished>, String>;

/// What is known of a task here.
#[derive(Default)]
struct Job {
    accepted: bool,
    training: Option<JoinHandle<Trained>>,
    finished: Option<Finished>,
    opening: Option<JoinHandle<Result<PublicKey, String>>>,
    opened: BTreeSet<PublicKey>,
    settled: BTreeSet<PublicKey>,
    gave_back: bool,
    closed: bool,
    said: Option<String>,
    /// As the coordinator showed it last.
    shown: Option<WorkView>,
    /// When validators were asked for their verdicts.
    asked: Option<Instant>,
    /// When training that the system stood in the way of is tried again.
    again: Option<Instant>,
}

/// All tasks of a session.
pub(super) struct Tasks {
    context: Context,
    worker: Arc<Mutex<Worker>>,
    join: Join,
    jobs: BTreeMap<AssignmentId, Job>,
    room: Mutex<Room>,
    /// Bytes that another task takes on the disk.
    task_bytes: u64,
}

fn is_over(hold: &HoldStatus) -> bool {
    matches!(hold.state, HoldState::Settled { .. } | HoldState::GivenBack { .. })
}

impl Tasks {
    pub(super) fn new(context: Context, worker: Arc<Mutex<Worker>>, join: Join, room: Room) -> Self {
        let task_bytes = lock(&worker).task_bytes();
        Self { context, worker, join, jobs: BTreeMap::new(), room: Mutex::new(room), task_bytes }
    }

    /// How this miner joins.
    pub(super) fn join(&self) -> Join {
        self.join.clone()
    }

    /// Whether nothing is left to be done about any task.
    pub(super) fn all_closed(&self, view: &MinerView) -> bool {
        let closed = |w: &WorkView| w.stage == "hashing" || self.jobs.get(&w.id).is_some_and(|j| j.closed);
        self.with_hidden(view).iter().all(closed)
    }

    /// Waits for what is being computed to come to a point from which it goes on later.
    pub(super) async fn settle_down(&mut self) {
        for job in self.jobs.values_mut() {
            if let Some(training) = job.training.take() {
                let _ = training.await;
            }
        }
    }

    /// Does what is to be done now.
    pub(super) async fn look(&mut self, view: &MinerView) {
        let works = self.with_hidden(view);
        for work in &works {
            let mut job = self.jobs.remove(&work.id).unwrap_or_default();
            if !job.closed {
                match self.advance(view, work, &mut job).await {
                    Ok(()) => job.said = None,
                    Err(e) => {
                        let again = job.said.as_ref() == Some(&e);
                        if !again {
                            eprintln!("round {}: {e}", work.assignment.round.0);
                        }
                        job.said = Some(e);
                    }
                }
            }
            job.shown = Some(work.clone());
            self.jobs.insert(work.id, job);
        }
        let known: Vec<AssignmentId> = works.iter().map(|w| w.id).collect();
        self.jobs.retain(|id, job| known.contains(id) || job.training.is_some());
        let mut carried = known.clone();
        carried.extend(view.last);
        carried.extend(view.works.iter().filter_map(|w| w.assignment.previous));
        self.context.keep.clean(&known, &carried);
    }

    /// The tasks that the coordinator shows, and those that it shows no longer although their reward is still held here: it
    /// cannot make a miner let go of its reward by forgetting the task.
    fn with_hidden(&self, view: &MinerView) -> Vec<WorkView> {
        let hidden = self.jobs.values().filter(|j| !j.closed).filter_map(|j| j.shown.as_ref());
        let hidden = hidden.filter(|w| view.works.iter().all(|shown| shown.id != w.id));
        let hidden = hidden.map(|w| WorkView { judged: true, ..w.clone() });
        view.works.iter().cloned().chain(hidden).collect()
    }

    async fn advance(&mut self, view: &MinerView, work: &WorkView, job: &mut Job) -> Result<(), String> {
        self.collect(work, job).await?;
        let over = work.judged || work.stage == "dropped" || view.ended;
        if over {
            // That it is over is only said. Whoever checks is still answered, and its verdict waited for.
            if work.stage == "revealed" && self.may_be_judged(work)? {
                let _ = self.open(work, job).await;
            }
            return self.close(work, job).await;
        }
        let declines = match self.context.conduct.in_round(work.assignment.round.0) {
            Some(Cheat::Declines) => work.stage == "offered",
            Some(Cheat::TakesBack) => work.stage == "locked",
            _ => false,
        };
        if declines {
            return self.say(&Message::Decline { assignment: work.id, reason: "no".to_owned() }).await;
        }
        match work.stage.as_str() {
            "offered" if !job.accepted => self.accept(view, work, job).await,
            "locking" | "paid" | "confirming" | "locked" => self.train(view, work, job).await,
            "committed" if view.round.as_ref().is_some_and(|r| r.stage == "revealing") => {
                self.reveal(work).await
            }
            "revealed" => self.open(work, job).await,
            _ => Ok(()),
        }
    }

    async fn say(&self, message: &Message) -> Result<(), String> {
        match self.context.say(message).await {
            Ok(()) => Ok(()),
            // It changed its mind meanwhile; what it says next tells how it goes on.
            Err(ClientError::Refused { code, .. }) if code == "wrong-stage" || code == "no-assignment" => {
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    }

    async fn decline(&self, work: &WorkView, why: Declined) -> Result<(), String> {
        self.say(&Message::Decline { assignment: work.id, reason: why.to_string() }).await
    }

    /// Whether there is no room on the disk for another task.
    pub(super) fn is_short(&self) -> bool {
        let needed = self.task_bytes;
        !lock(&self.room).has(needed)
    }

    /// Whether so little room is left that the wallet is in danger; how things stand then.
    pub(super) fn is_out(&self) -> Option<String> {
        let mut room = lock(&self.room);
        room.is_out().then(|| room.told())
    }

    /// How much room there is, for people.
    pub(super) fn room(&self) -> String {
        lock(&self.room).told()
    }

    /// Lets go of all states between steps: what is on the disk besides is needed.
    pub(super) fn make_room(&self) {
        for id in self.jobs.keys() {
            self.context.keep.thin(*id, true);
        }
    }

    async fn accept(&mut self, view: &MinerView, work: &WorkView, job: &mut Job) -> Result<(), String> {
        let carried = {
            let (worker, assignment) = (Arc::clone(&self.worker), work.assignment.clone());
            let found = tokio::task::spawn_blocking(move || lock(&worker).carried(&assignment));
            found.await.map_err(|e| e.to_string())??
        };
        if carried.is_none() {
            eprintln!("{}; this miner begins with zeros again", Declined::LostState);
            self.decline(work, Declined::LostState).await?;
            let join = Join { lost_state: true, ..self.join.clone() };
            return self.say(&Message::Join(join)).await;
        }
        let terms = match terms(&self.context.spec, self.context.me(), work, view.good) {
            Ok(terms) => terms,
            Err(reason) => {
                eprintln!("an offer is declined: {reason}");
                return self.decline(work, Declined::Offer(reason)).await;
            }
        };
        if self.is_short() {
            return self.decline(work, Declined::NoRoom).await;
        }
        let holds = self.context.wallet.accept(&terms).await.map_err(|e| e.to_string())?;
        let invoices = holds.iter().map(|h| h.invoice.to_string()).collect();
        self.say(&Message::Accept { assignment: work.id, invoices }).await?;
        job.accepted = true;
        Ok(())
    }

    /// Height until which every lot is ours to claim; none while one is not.
    fn locked(&self, work: &WorkView) -> Result<Option<Vec<(PaymentHash, u32)>>, String> {
        let holds = match self.context.wallet.held(work.id.subject()) {
            Ok(holds) => holds,
            Err(TreasuryError::NoEscrow(_)) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        if let Some(back) = holds.iter().find_map(|h| match &h.state {
            HoldState::GivenBack { reason, .. } => Some(reason.to_string()),
            _ => None,
        }) {
            return Err(format!("a lot of the reward is gone: {back}"));
        }
        let report = |h: &HoldStatus| match h.state {
            HoldState::Held { deadline, .. } => Some((h.hash, deadline)),
            _ => None,
        };
        Ok(holds.iter().map(report).collect())
    }

    async fn train(&mut self, view: &MinerView, work: &WorkView, job: &mut Job) -> Result<(), String> {
        let Some(reports) = self.locked(work)? else { return Ok(()) };
        if work.stage == "paid" {
            self.say(&Message::Locked { assignment: work.id, reports: reports.clone() }).await?;
        }
        // Not a step before all of the reward is here.
        if let Some(training) = job.training.take() {
            if !training.is_finished() {
                job.training = Some(training);
                return Ok(());
            }
            match training.await.map_err(|e| e.to_string())? {
                Ok(finished) => job.finished = finished,
                // The reward is here, and what was done is kept: this machine gets the time to make room.
                Err(reason) if SystemTrouble::said(&reason).is_some() => {
                    job.again = Some(Instant::now() + AGAIN);
                    return Err(format!("the task waits: {reason}"));
                }
                Err(reason) => {
                    eprintln!("the task cannot be done: {reason}");
                    self.decline(work, Declined::NotComputed).await?;
                    return Err(reason);
                }
            }
        } else if job.finished.is_none() && job.again.is_none_or(|at| at <= Instant::now()) {
            let busy = self.jobs.values().any(|j| j.training.as_ref().is_some_and(|t| !t.is_finished()));
            if !busy {
                let until = reports.iter().map(|(_, deadline)| *deadline).min().unwrap_or_default();
                let round = work.assignment.round.0;
                eprintln!(
                    "round {round}: {} are locked here until block {until}; training",
                    work.assignment.reward
                );
                let task = self.task(view, work).await?;
                job.training = Some(self.spawn(task));
            }
            return Ok(());
        }
        if let (Some(finished), "locked") = (&job.finished, work.stage.as_str()) {
            self.say(&Message::Commit(finished.commitment.clone())).await?;
        }
        Ok(())
    }

    /// The task with its checkpoint.
    async fn task(&self, view: &MinerView, work: &WorkView) -> Result<Task, String> {
        let digest = work.assignment.checkpoint;
        let n = lock(&self.worker).bench.settings().parameters();
        let bytes = match self.context.keep.checkpoint(digest)? {
            Some(bytes) => bytes,
            None => {
                let blob = view.checkpoint.as_ref().filter(|c| c.checkpoint == digest);
                let blob =
                    blob.ok_or("the coordinator does not show the checkpoint of this assignment")?.blob;
                let limit = MAX_CHECKPOINT.min(4 * n);
                let incoming = self.context.keep.incoming(blob);
                let arrived = self.context.client.download_to(blob, &incoming, limit as u64).await;
                arrived.map_err(|e| e.to_string())?;
                let bytes = std::fs::read(&incoming).map_err(|e| format!("{}: {e}", incoming.display()))?;
                self.context.keep.keep_checkpoint(digest, &bytes)?;
                let _ = std::fs::remove_file(&incoming);
                bytes
            }
        };
        let checkpoint = floats_of(&bytes, "the checkpoint", 1, n).map_err(|e| e.to_string())?;
        let checkpoint = checkpoint.into_iter().next().unwrap_or_default();
        if checkpoint_digest(&checkpoint).map_err(|e| e.to_string())? != digest {
            return Err("the coordinator's checkpoint is not the one that the assignment names".to_owned());
        }
        Ok(Task { id: work.id, assignment: work.assignment.clone(), checkpoint })
    }

    fn spawn(&self, task: Task) -> JoinHandle<Trained> {
        let (worker, context) = (Arc::clone(&self.worker), self.context.clone());
        tokio::task::spawn_blocking(move || {
            let round = task.assignment.round.0;
            let told = |step: u32, loss: f32| context.reporter.step(round, step, loss);
            let trained = lock(&worker).train(&task, &told, &context.stop);
            context.reporter.trained();
            trained
        })
    }

    async fn reveal(&self, work: &WorkView) -> Result<(), String> {
        let cheat = self.context.conduct.in_round(work.assignment.round.0);
        if cheat == Some(Cheat::NoReveal) {
            return Ok(());
        }
        let finished = self.context.keep.finished(work.id)?.ok_or("the finished work is no longer here")?;
        let encoded = self.context.keep.submission(work.id)?.ok_or("the submission is no longer here")?;
        let (encoded, mut reveal) = (encoded, finished.reveal);
        let encoded = match cheat {
            // It waits for something to copy.
            Some(Cheat::Copied) => match self.somebody_elses().await {
                Some(copied) => copied,
                None => return Ok(()),
            },
            _ => encoded,
        };
        reveal.blob = sha256(&encoded);
        self.context.client.upload(work.id, encoded, &self.context.key).await.map_err(|e| e.to_string())?;
        self.say(&Message::Reveal(reveal)).await?;
        self.context.keep.note_shown(work.id, now())
    }

    /// Another miner's upload of this round.
    async fn somebody_elses(&self) -> Option<Vec<u8>> {
        let round = self.context.client.works(self.context.run, u64::MAX).await.ok()?;
        let shown = round.works.iter().filter(|w| w.assignment.miner != self.context.me());
        let blob = shown.filter_map(|w| w.reveal.as_ref()).map(|r| r.blob).next()?;
        self.context.client.download(blob, 1 << 30).await.ok()
    }

    async fn open(&mut self, work: &WorkView, job: &mut Job) -> Result<(), String> {
        let cheat = self.context.conduct.in_round(work.assignment.round.0);
        if cheat == Some(Cheat::NoOpening) {
            return Ok(());
        }
        if let Some(opening) = job.opening.take() {
            if !opening.is_finished() {
                job.opening = Some(opening);
                return Ok(());
            }
            job.opened.insert(opening.await.map_err(|e| e.to_string())??);
        }
        job.opened.extend(work.opened.iter().map(|o| o.validator));
        let left = work.openings.iter().filter(|(validator, _)| !job.opened.contains(validator));
        let mut left: Vec<_> = left.cloned().collect();
        left.retain(|(validator, asked)| match asked.check(&self.context.spec, work.record) {
            Ok(()) => true,
            Err(why) => {
                let round = work.assignment.round.0 + 1;
                eprintln!("round {round}: {validator} asks for what nobody has to open: {why}");
                job.opened.insert(*validator);
                false
            }
        });
        let Some((validator, asked)) = left.into_iter().next() else { return Ok(()) };
        let done = self.context.spec.inner.steps.div_ceil(2);
        if cheat == Some(Cheat::SelectiveOpening) && asked.step.is_some_and(|step| step >= done) {
            job.opened.insert(validator);
            return Ok(());
        }
        let bytes = self.context.keep.checkpoint(work.assignment.checkpoint)?;
        let bytes = bytes.ok_or("the checkpoint of this assignment is no longer here")?;
        let (worker, context, id) = (Arc::clone(&self.worker), self.context.clone(), work.id);
        let (assignment, round) = (work.assignment.clone(), work.assignment.round.0);
        job.opening = Some(tokio::spawn(async move {
            let step = asked.step;
            let made = tokio::task::spawn_blocking(move || {
                let mut worker = lock(&worker);
                let n = worker.bench.settings().parameters();
                let checkpoint = floats_of(&bytes, "the checkpoint", 1, n).map_err(|e| e.to_string())?;
                let checkpoint = checkpoint.into_iter().next().unwrap_or_default();
                worker.open(&Task { id, assignment, checkpoint }, &asked)
            });
            let (state, chunks) = made.await.map_err(|e| e.to_string())??;
            let upload = async |bytes| context.client.upload(id, bytes, &context.key).await;
            let state = match step {
                Some(_) => Some(upload(state).await.map_err(|e| e.to_string())?),
                None => None,
            };
            let chunks = upload(chunks).await.map_err(|e| e.to_string())?;
            let opened = Opened { assignment: id, validator, step, state, chunks };
            match context.say(&Message::Opened(opened)).await {
                // The time for answers is over; doing it again helps nobody.
                Err(e) if matches!(e.code(), Some("too-late" | "wrong-stage")) => {
                    eprintln!("round {round}: {e}");
                    Ok(validator)
                }
                said => said.map(|()| validator).map_err(|e| e.to_string()),
            }
        }));
        Ok(())
    }

    /// Claims what verdicts release.
    async fn collect(&self, work: &WorkView, job: &mut Job) -> Result<(), String> {
        for text in &work.verdicts {
            let Some((validator, verdict)) = verdict(text, work) else { continue };
            if job.settled.contains(&validator) {
                continue;
            }
            match verdict.outcome {
                Outcome::Earned { preimages, .. } => self.settle(&preimages).await?,
                Outcome::Rejected(fault) => {
                    eprintln!("round {}: rejected by {validator}: {fault}", work.assignment.round.0);
                }
            }
            job.settled.insert(validator);
        }
        Ok(())
    }

    async fn settle(&self, preimages: &[Preimage]) -> Result<(), String> {
        self.context.wallet.settle(preimages).await.map_err(|e| e.to_string())
    }

    /// Ends a task: gives back what was not earned, and signs for what was.
    async fn close(&mut self, work: &WorkView, job: &mut Job) -> Result<(), String> {
        let subject = work.id.subject();
        let holds = match self.context.wallet.held(subject) {
            Ok(holds) => holds,
            Err(TreasuryError::NoEscrow(_)) => {
                job.closed = true;
                return Ok(());
            }
            Err(e) => return Err(e.to_string()),
        };
        if !job.gave_back {
            if self.waits_for_verdicts(work, job).await? {
                return Ok(());
            }
            let left = |h: &&HoldStatus| matches!(h.state, HoldState::Invoiced | HoldState::Held { .. });
            let left: Vec<PaymentHash> = self
                .context
                .wallet
                .held(subject)
                .map_err(|e| e.to_string())?
                .iter()
                .filter(left)
                .map(|h| h.hash)
                .collect();
            if !left.is_empty() {
                let why = if work.stage == "dropped" { work.reason.as_str() } else { "not earned" };
                self.context.wallet.give_back(subject, Some(&left), why).await.map_err(|e| e.to_string())?;
            }
            job.gave_back = true;
            let round = work.assignment.round.0;
            if work.stage == "dropped" {
                eprintln!("round {round}: not counted: {}", work.reason);
            }
        }
        if !holds.iter().all(is_over) {
            return Ok(());
        }
        let received = |h: &HoldStatus| match h.state {
            HoldState::Settled { received, .. } => Some(received),
            _ => None,
        };
        let paid =
            holds.iter().filter_map(received).fold(Msat::ZERO, |sum, a| sum.checked_add(a).unwrap_or(sum));
        if paid > Msat::ZERO && !work.receipts {
            let receipts = self.context.wallet.receipts(subject).map_err(|e| e.to_string())?;
            self.say(&Message::Receipts { assignment: work.id, receipts }).await?;
        }
        if !job.closed {
            eprintln!("round {}: earned {paid} of {}", work.assignment.round.0, work.assignment.reward);
        }
        job.closed = true;
        Ok(())
    }

    /// Whether verdicts on this task may still come.
    fn may_be_judged(&self, work: &WorkView) -> Result<bool, String> {
        let shown = self.context.keep.shown(work.id)?;
        Ok(shown.is_some_and(|at| now() < patience::until(&self.context.spec.rounds, at)))
    }

    /// Asks validators themselves for verdicts that the coordinator does not show; whether some may still come.
    async fn waits_for_verdicts(&self, work: &WorkView, job: &mut Job) -> Result<bool, String> {
        let spec = &self.context.spec;
        let in_time = self.may_be_judged(work)?;
        if in_time && job.asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return Ok(true);
        }
        job.asked = Some(Instant::now());
        for (key, url) in patience::silent(&spec.committee, &work.lots, |key| job.settled.contains(key)) {
            let Ok(Some(text)) = watershed_commons::client::verdict_of(url, work.id).await else { continue };
            let Some((validator, given)) = verdict(&text, work).filter(|(signer, _)| *signer == key) else {
                continue;
            };
            if let Outcome::Earned { preimages, .. } = given.outcome {
                self.settle(&preimages).await?;
            }
            let round = work.assignment.round.0;
            eprintln!("round {round}: the verdict of {validator} came from itself");
            job.settled.insert(validator);
        }
        let silent = patience::silent(&spec.committee, &work.lots, |key| job.settled.contains(key));
        Ok(in_time && !silent.is_empty())
    }
}

/// A verdict on this task, signed by somebody who holds secrets of it.
fn verdict(text: &str, work: &WorkView) -> Option<(PublicKey, Verdict)> {
    let opened = from_text(text)?.open::<Message>().ok()?;
    let signer = opened.signer();
    match opened.into_value() {
        Message::Verdict(v) if v.assignment == work.id && work.lots.iter().any(|l| l.validator == signer) => {
            Some((signer, v))
        }
        _ => None,
    }
}
