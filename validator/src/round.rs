//! What a validator does in a round: what [`decide`](crate::decide) says, task by task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use watershed_commons::client::{Client, ClientError, from_text, to_text};
use watershed_payments::escrow::earned as tiers_of;
use watershed_protocol::market::view::{RoundView, RoundWorkView, WorkView};
use watershed_protocol::market::{
    Commitment, Fault, JudgingTimes, Message, Opening, Outcome, RunSpec, Score, Verdict,
};
use watershed_protocol::{AssignmentId, Digest, Envelope, PublicKey, RoundNumber, RunId, SecretKey};
use watershed_rounds::{Answer, Workbench, checkpoint_digest, floats_of, whole};

use crate::conduct::{Conduct, Falsehood};
use crate::decide::{Found, Next, next};
use crate::home::Home;
use crate::judge::{self, FirstLook, Submitted};
use crate::known::Known;
use crate::secrets;
use crate::session::{Tally, blocking, is_past, now};
use crate::spool::Spool;

/// Messages that are on their way at once.
const TOGETHER: usize = 16;

/// A round as far as it was looked at. Submissions themselves are in the spool.
#[derive(Default)]
pub(crate) struct Looked {
    round: Option<(u32, Digest)>,
    checkpoint: Arc<Vec<f32>>,
    /// How much the coordinator's clock is ahead of this one, in seconds.
    ahead: i64,
    previous: BTreeMap<AssignmentId, Option<Commitment>>,
    public: BTreeMap<AssignmentId, FirstLook>,
    opened: BTreeMap<AssignmentId, BTreeMap<PublicKey, Option<Fault>>>,
    over: BTreeSet<AssignmentId>,
    /// What was said last of a message that was refused.
    refused: Option<String>,
}

/// One run.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) home: Home,
    pub(crate) key: SecretKey,
    pub(crate) seed: [u8; 32],
    pub(crate) run: RunId,
    pub(crate) spec: RunSpec,
    pub(crate) parameters: usize,
    pub(crate) bench: Arc<Mutex<Workbench>>,
    pub(crate) conduct: Conduct,
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) known: Known,
    pub(crate) spool: Spool,
    pub(crate) looked: Looked,
    /// One run computes at a time.
    pub(crate) turn: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What validators have said of a task, as far as they signed it.
fn said(work: &WorkView) -> BTreeMap<PublicKey, Outcome> {
    let verdict = |text: &String| {
        let opened = from_text(text)?.open::<Message>().ok()?;
        let signer = opened.signer();
        match opened.into_value() {
            Message::Verdict(v) if v.assignment == work.id => Some((signer, v.outcome)),
            _ => None,
        }
    };
    work.verdicts.iter().filter_map(verdict).collect()
}

impl Session {
    fn me(&self) -> PublicKey {
        self.key.public()
    }

    /// Says many things, a few at a time. What is refused keeps nothing else from being said.
    async fn say_all(&mut self, messages: Vec<Message>) -> Result<(), String> {
        let mut outcome = Ok(());
        for some in messages.chunks(TOGETHER) {
            let mut all = tokio::task::JoinSet::new();
            for message in some {
                let (message, client, run, key) = (message.clone(), self.client.clone(), self.run, self.key);
                all.spawn(async move { client.say(run, &message, &key).await });
            }
            while let Some(done) = all.join_next().await {
                match done.map_err(|e| e.to_string())? {
                    Err(e) if is_past(&e) => {}
                    Err(ClientError::Refused { status, message, .. }) if status < 500 && status != 429 => {
                        if self.looked.refused.as_ref() != Some(&message) {
                            eprintln!("the coordinator refuses a message: {message}");
                        }
                        self.looked.refused = Some(message);
                    }
                    Err(e) => outcome = Err(e.to_string()),
                    Ok(()) => {}
                }
            }
        }
        outcome
    }

    /// Whether a task has secrets of this validator and is not over.
    pub(crate) fn is_bound(&self, view: &RoundWorkView) -> bool {
        let me = self.me();
        let open = |w: &WorkView| {
            w.hashed.contains(&me) && w.stage != "dropped" && !self.looked.over.contains(&w.id)
        };
        view.works.iter().any(open)
    }

    /// Does what is to be done; whether something is waited for that makes no news. The view was asked for at `asked`. Who is
    /// `leaving` takes no new tasks.
    pub(crate) async fn look(
        &mut self,
        view: &RoundWorkView,
        asked: u64,
        leaving: bool,
    ) -> Result<bool, String> {
        let me = self.me();
        let asked_for = |w: &&WorkView| !leaving && w.holders.contains(&me) && !w.hashed.contains(&me);
        let wanted = view.works.iter().filter(|w| w.stage == "hashing").filter(asked_for);
        let tiers = self.spec.reward.tiers;
        let hashes = wanted.map(|work| Message::Hashes {
            assignment: work.id,
            hashes: secrets::hashes(&self.seed, work.id, tiers),
        });
        let hashes: Vec<Message> = hashes.collect();
        self.say_all(hashes).await?;
        let Some(round) = view.round.clone().filter(|r| r.stage == "judging") else { return Ok(false) };
        if self.conduct == Conduct::False(Falsehood::Offline) {
            return Ok(false);
        }
        let randomness =
            round.randomness.ok_or("the coordinator does not show what scores are drawn from")?;
        let shown: Vec<&WorkView> = view.works.iter().filter(|w| w.stage == "revealed").collect();
        if self.looked.round != Some((round.number, randomness)) {
            self.begin(&round, randomness, view, &shown).await?;
        }
        let held = |w: &&&WorkView| w.lots.iter().any(|l| l.validator == me);
        let mine: Vec<&WorkView> = shown.iter().filter(held).copied().collect();
        self.judge_all(&round, &mine, asked).await?;
        Ok(mine.iter().any(|w| !self.looked.over.contains(&w.id)))
    }

    /// Begins with a round: its checkpoint, and whether the scores are drawn from what they must be.
    async fn begin(
        &mut self,
        round: &RoundView,
        randomness: Digest,
        view: &RoundWorkView,
        shown: &[&WorkView],
    ) -> Result<(), String> {
        let checkpoint = view.checkpoint.as_ref().ok_or("the coordinator shows no checkpoint")?;
        let n = self.parameters;
        let bytes = self.client.download(checkpoint.blob, 4 * n).await.map_err(|e| e.to_string())?;
        let parameters = floats_of(&bytes, "the checkpoint", 1, n).map_err(|e| e.to_string())?;
        let parameters = parameters.into_iter().next().unwrap_or_default();
        let digest = checkpoint_digest(&parameters).map_err(|e| e.to_string())?;
        if shown.iter().any(|w| w.assignment.checkpoint != digest) {
            return Err("the coordinator's checkpoint is not the one that assignments name".to_owned());
        }
        let commitments = shown.iter().filter_map(|w| w.commitment.as_ref());
        let mut ids: Vec<_> = commitments.map(|c| c.submission).collect();
        if Verdict::randomness(self.run, RoundNumber(round.number), &mut ids) != randomness {
            return Err("the coordinator draws the scores' windows from something else than the submissions"
                .to_owned());
        }
        let theirs = self.client.info().await.map_err(|e| e.to_string())?.now;
        self.spool.clear();
        self.looked = Looked {
            round: Some((round.number, randomness)),
            checkpoint: Arc::new(parameters),
            ahead: theirs.cast_signed() - now().cast_signed(),
            ..Looked::default()
        };
        Ok(())
    }

    fn next(&self, round: &RoundView, work: &WorkView, asked: u64) -> Next {
        if self.looked.over.contains(&work.id) {
            return Next::Over;
        }
        let (none, said) = (BTreeMap::new(), said(work));
        let found = Found {
            // One that cannot be looked at now is not signed a second time: publishing it says what is wrong.
            signed: !matches!(self.home.verdict(work.id), Ok(None)),
            public: self.looked.public.get(&work.id),
            opened: self.looked.opened.get(&work.id).unwrap_or(&none),
            said: &said,
        };
        // A second less: clocks tell whole seconds, and who is early says something false.
        let now = asked.saturating_add_signed(self.looked.ahead).saturating_sub(1);
        let me = self.me();
        let decided =
            next(me, &self.spec, work, &found, &JudgingTimes::of(&self.spec.rounds, round.until), now);
        match (self.conduct, decided) {
            (_, decided @ (Next::Over | Next::Publish)) => decided,
            (Conduct::Honest, decided) => decided,
            (Conduct::False(Falsehood::Lazy), Next::Look)
                if !work.opened.iter().any(|o| o.validator == me) =>
            {
                Next::Wait
            }
            (Conduct::False(Falsehood::Lazy), Next::Look) => Next::Sign(None),
            (Conduct::False(Falsehood::Lazy), decided) => decided,
            (Conduct::False(Falsehood::Colluding), _) => Next::Sign(None),
            (Conduct::False(_), _) => Next::Sign(Some(Fault::Start)),
        }
    }

    /// Everything that is quick for all tasks, then one thing that takes time: there may be news after it.
    async fn judge_all(&mut self, round: &RoundView, mine: &[&WorkView], asked: u64) -> Result<(), String> {
        let decided: Vec<(&WorkView, Next)> = mine.iter().map(|w| (*w, self.next(round, w, asked))).collect();
        let mut messages = Vec::new();
        for (work, next) in &decided {
            match next {
                Next::Ask => messages.push(Message::Open(self.opening(work)?)),
                Next::Sound => messages.push(Message::Sound { assignment: work.id }),
                Next::Over => drop(self.looked.over.insert(work.id)),
                _ => {}
            }
        }
        self.say_all(messages).await?;
        // What is earned is measured against everything that this validator holds lots of.
        let honest = self.conduct == Conduct::Honest;
        let unseen = mine.iter().any(|w| !self.looked.public.contains_key(&w.id));
        let mut looks: Vec<&WorkView> =
            decided.iter().filter(|(_, next)| *next == Next::Look).map(|(work, _)| *work).collect();
        if honest && decided.iter().any(|(_, next)| *next == Next::Sign(None)) {
            // After a restart there may be some that were judged before it.
            let judged = decided.iter().filter(|(_, next)| matches!(next, Next::Over | Next::Publish));
            looks.extend(judged.map(|(w, _)| *w).filter(|w| !self.looked.public.contains_key(&w.id)));
        }
        for (work, next) in &decided {
            match next {
                Next::Publish => self.publish(work).await?,
                Next::Sign(Some(fault)) => self.sign(round, work, Err(fault.clone())).await?,
                Next::Sign(None) if !honest => {
                    let share = whole(&self.spec.reward);
                    self.sign(round, work, Ok(share)).await?;
                }
                Next::Sign(None) if !unseen => {
                    let share = self.share(mine, work.id);
                    self.sign(round, work, Ok(share)).await?;
                }
                _ => {}
            }
        }
        if let Some(work) = looks.first() {
            return self.first_look(work, looks.get(1).copied()).await;
        }
        let check = decided.iter().find_map(|(work, next)| match next {
            Next::Check(validator) => Some((*work, *validator)),
            _ => None,
        });
        if let Some((work, validator)) = check {
            let fault = self.second_look(work, validator).await?;
            self.looked.opened.entry(work.id).or_default().insert(validator, fault);
        }
        Ok(())
    }

    /// What to ask for, from randomness that the miner cannot know. Of a miner that this validator knows well, and the
    /// coordinator too, only a share is replayed.
    fn opening(&self, work: &WorkView) -> Result<Opening, String> {
        let mut entropy = [0; 34];
        getrandom::fill(&mut entropy).map_err(|e| e.to_string())?;
        let [low, high, drawn @ ..] = entropy;
        let checks = &self.spec.checks;
        let trusted = checks.trusts(work.record) && checks.trusts(self.known.of(&work.assignment.miner));
        // Of 65536 numbers each remainder has six or seven.
        let replay = !trusted || u16::from_le_bytes([low, high]) % 10_000 < checks.replay_share.get();
        let (step, chunks) = lock(&self.bench).draw(drawn, replay);
        Ok(Opening { assignment: work.id, step, chunks })
    }

    /// What a task earns in this validator's part.
    fn share(&self, mine: &[&WorkView], id: AssignmentId) -> u32 {
        let looks = mine.iter().filter_map(|w| Some((w.id, self.looked.public.get(&w.id)?)));
        judge::earned(&lock(&self.bench), looks).get(&id).copied().unwrap_or(0)
    }

    /// Longest submission: far above what any of this model can be, and decoding bounds it.
    fn longest(&self) -> usize {
        4 * self.parameters + (1 << 20)
    }

    /// One submission with what it continues.
    async fn submitted(&mut self, work: &WorkView) -> Result<Submitted, String> {
        let commitment = work.commitment.clone().ok_or("a commitment is missing")?;
        let reveal = self.client.reveal(self.run, work.id).await.map_err(|e| e.to_string())?;
        let previous = match (self.looked.previous.get(&work.id), work.assignment.previous) {
            (Some(known), _) => known.clone(),
            (None, None) => None,
            (None, Some(id)) => {
                let before = self.client.work(self.run, id).await.map_err(|e| e.to_string())?;
                Some(before.commitment.ok_or("the commitment that an assignment continues is missing")?)
            }
        };
        self.looked.previous.insert(work.id, previous.clone());
        let encoded = self.spool.blob(reveal.blob, self.longest()).await?;
        let (id, assignment) = (work.id, work.assignment.clone());
        Ok(Submitted { id, assignment, commitment, reveal, previous, encoded })
    }

    /// Scores a submission while the next one is downloaded.
    async fn first_look(&mut self, work: &WorkView, ahead: Option<&WorkView>) -> Result<(), String> {
        if self.conduct != Conduct::Honest {
            return Ok(());
        }
        let submitted = self.submitted(work).await?;
        if let Some(blob) = ahead.and_then(|w| w.reveal.as_ref()).map(|r| r.blob) {
            let (spool, limit) = (self.spool.clone(), self.longest());
            // Whatever goes wrong is met again when it is its turn.
            tokio::spawn(async move { spool.blob(blob, limit).await.map(drop) });
        }
        let randomness = self.looked.round.map(|(_, randomness)| randomness).unwrap_or(Digest([0; 32]));
        let (bench, checkpoint) = (Arc::clone(&self.bench), Arc::clone(&self.looked.checkpoint));
        let _turn = self.turn.acquire().await.map_err(|e| e.to_string())?;
        let look =
            blocking(move || judge::look_at(&mut lock(&bench), &submitted, &checkpoint, randomness)).await?;
        self.looked.public.insert(work.id, look);
        Ok(())
    }

    /// Checks what was opened to a validator.
    async fn second_look(&mut self, work: &WorkView, of: PublicKey) -> Result<Option<Fault>, String> {
        let asked = work.openings.iter().find(|(by, _)| *by == of).map(|(_, asked)| asked.clone());
        let opened = work.opened.iter().find(|o| o.validator == of);
        let (Some(asked), Some(opened)) = (asked, opened) else { return Ok(Some(Fault::NoAnswer)) };
        let fetch = async |sha256: Digest, limit: usize| match self.client.download(sha256, limit).await {
            Ok(bytes) => Ok(bytes),
            Err(ClientError::TooLong { .. }) => Ok(Vec::new()),
            Err(e) => Err(e.to_string()),
        };
        let state = match opened.state {
            Some(state) => fetch(state, Answer::state_limit(self.parameters)).await?,
            None => Vec::new(),
        };
        let chunks = fetch(opened.chunks, Answer::chunks_limit(asked.chunks.len())).await?;
        let submitted = self.submitted(work).await?;
        let (bench, checkpoint) = (Arc::clone(&self.bench), Arc::clone(&self.looked.checkpoint));
        let _turn = self.turn.acquire().await.map_err(|e| e.to_string())?;
        blocking(move || {
            let claim = submitted.claim(&checkpoint);
            let found = lock(&bench).check_answer(&claim, &asked, &Answer { state, chunks });
            Ok(found.map_err(|e| e.to_string())?.err())
        })
        .await
    }

    /// Signs a verdict, keeps it, and publishes it.
    async fn sign(
        &mut self,
        round: &RoundView,
        work: &WorkView,
        found: Result<u32, Fault>,
    ) -> Result<(), String> {
        let (tiers, me) = (self.spec.reward.tiers, self.me());
        let right = found.is_ok();
        let outcome = match found {
            Err(fault) => {
                let name = serde_json::to_value(&fault).map_err(|e| e.to_string())?;
                let name =
                    name.as_str().map(str::to_owned).or_else(|| name.as_object()?.keys().next().cloned());
                let mut tally = lock(&self.tally);
                *tally.faults.entry(name.unwrap_or_default()).or_default() += 1;
                tally.rejected += 1;
                eprintln!("round {}: rejected {}: {fault}", round.number, work.assignment.miner);
                Outcome::Rejected(fault)
            }
            Ok(share) => {
                lock(&self.tally).earned += 1;
                let all = (1u32 << tiers) - 1;
                eprintln!(
                    "round {}: {share} of {all} parts earned by {}",
                    round.number, work.assignment.miner
                );
                let paid = tiers_of(tiers, share).map_err(|e| e.to_string())?;
                let secrets = (0..).zip(paid).filter(|(_, paid)| *paid);
                let preimages =
                    secrets.map(|(tier, _)| secrets::preimage(&self.seed, work.id, tier)).collect();
                Outcome::Earned { share, preimages }
            }
        };
        let submission = work.commitment.as_ref().ok_or("a commitment is missing")?.submission;
        let asked = work.openings.iter().find(|(by, _)| *by == me).map(|(_, asked)| asked);
        let score = match self.looked.public.get(&work.id) {
            Some(FirstLook::Scored(score)) => Some(*score),
            Some(FirstLook::Faulty(_)) => None,
            // Whoever did not measure makes something up.
            None => Some(Score { own_before: 0, own_after: 0, unseen_before: 0, unseen_after: 0 }),
        };
        let verdict = Verdict {
            assignment: work.id,
            submission,
            randomness: round.randomness.ok_or("the coordinator does not show what scores are drawn from")?,
            step: asked.and_then(|a| a.step),
            chunks: asked.map(|a| a.chunks.clone()).unwrap_or_default(),
            score,
            outcome,
        };
        let signed = Envelope::sign(&Message::Verdict(verdict), &self.key).map_err(|e| e.to_string())?;
        self.home.keep_verdict(work.id, &signed)?;
        self.known.note(work.assignment.miner, right)?;
        self.count()?;
        self.publish(work).await
    }

    /// Notes a verdict for `status`.
    fn count(&self) -> Result<(), String> {
        let mut tally = lock(&self.tally);
        tally.verdicts += 1;
        tally.at = now();
        let text = serde_json::to_vec(&*tally).map_err(|e| e.to_string())?;
        std::fs::write(self.home.folder().join("status.json"), text).map_err(|e| e.to_string())
    }

    /// Sends the verdict that was signed.
    async fn publish(&mut self, work: &WorkView) -> Result<(), String> {
        let signed = self.home.verdict(work.id)?.ok_or("a verdict that was signed is gone")?;
        let text = to_text(&signed).map_err(|e| e.to_string())?;
        match self.client.forward(self.run, text).await {
            Ok(()) => {}
            // The coordinator's clock says that the miner has time left.
            Err(e) if e.code() == Some("too-early") => return Ok(()),
            Err(ClientError::Refused { status, message, .. }) if status < 500 && status != 429 => {
                eprintln!("the coordinator does not take a verdict: {message}");
            }
            Err(e) => return Err(e.to_string()),
        }
        self.looked.over.insert(work.id);
        Ok(())
    }
}
