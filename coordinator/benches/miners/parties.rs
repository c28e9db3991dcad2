//! Miners and validators: what the real ones say, without wallets and without computing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use watershed_commons::client::{Client, ClientError};
use watershed_protocol::market::view::{MinerView, RoundView, RoundWorkView, WorkView};
use watershed_protocol::market::{
    Commitment, Join, Message, Opened, Opening, Outcome, Reveal, Score, TrajectoryHash, Verdict,
};
use watershed_protocol::{AssignmentId, Envelope, Msat, Preimage, PublicKey, Receipt, RunId, SecretKey};
use watershed_rounds::sha256;

use super::coordinator::clock;
use super::setup::{Noise, Trained, key};

/// How long training takes. All end at once, so all commitments come at once.
const TRAINING: Duration = Duration::from_secs(1);

/// Messages of a validator that are on their way at once.
const TOGETHER: usize = 16;

/// Bytes of an opened state and of opened chunks.
const OPENED: usize = 16 << 10;

const MAX_BLOB: usize = 1 << 20;

/// What was measured, in microseconds by kind of request; and when which stage was seen first, by each miner.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) took: Mutex<BTreeMap<&'static str, Vec<u64>>>,
    pub(crate) seen: Mutex<Vec<(String, u64)>>,
    pub(crate) errors: Mutex<BTreeMap<String, u32>>,
}

impl Measured {
    async fn time<T>(
        &self,
        kind: &'static str,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let began = Instant::now();
        let result = request.await;
        let took = began.elapsed().as_micros() as u64;
        self.took.lock().unwrap().entry(kind).or_default().push(took);
        if let Err(e) = &result {
            let text: String = e.to_string().chars().take(60).collect();
            *self.errors.lock().unwrap().entry(format!("{kind}: {text}")).or_default() += 1;
        }
        result
    }
}

/// What all parties share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) run: RunId,
    pub(crate) tiers: u32,
    pub(crate) measured: Arc<Measured>,
    pub(crate) trained: Arc<Trained>,
    /// Ready-made submissions by miner and round: no time of the rounds goes into making them.
    pub(crate) submissions: Arc<BTreeMap<(u32, u32), Vec<u8>>>,
}

impl World {
    async fn say(&self, message: &Message, key: &SecretKey) -> Result<(), ClientError> {
        self.measured.time("message", self.client.say(self.run, message, key)).await
    }

    async fn upload(
        &self,
        id: AssignmentId,
        bytes: Vec<u8>,
        key: &SecretKey,
    ) -> Result<watershed_protocol::Digest, ClientError> {
        self.measured.time("upload", self.client.upload(id, bytes, key)).await
    }

    async fn download(&self, blob: watershed_protocol::Digest) -> Result<Vec<u8>, ClientError> {
        self.measured.time("download", self.client.download(blob, MAX_BLOB)).await
    }
}

/// An invoice is about as long as this.
fn invoice(hash: watershed_protocol::PaymentHash) -> String {
    format!("lnbcrt{hash}{}", "q".repeat(330))
}

struct Miner {
    world: World,
    index: u32,
    key: SecretKey,
    node: SecretKey,
    done: BTreeSet<(AssignmentId, &'static str, Option<PublicKey>)>,
}

/// One miner, until the run is over.
pub(crate) async fn miner(world: World, index: u32) {
    let (key, node) = (key("miner", index), key("node", index));
    let join = Join {
        run: world.run,
        node: format!("02{}@127.0.0.1:9735", node.public()),
        tokens_per_second: 1_000_000,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    };
    while world.say(&Message::Join(join.clone()), &key).await.is_err() {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let (news, mut view) = watch::channel(None);
    let poller = world.clone();
    let poll = async {
        let (mut version, mut seen) = (u64::MAX, None);
        loop {
            let answer = poller.client.present(poller.run, &key, version);
            let Ok(answer) = poller.measured.time("miner's view", answer).await else {
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            };
            version = answer.version;
            let stage = answer.round.as_ref().map(|r| format!("{} {}", r.stage, r.number));
            if seen != stage {
                if let Some(stage) = &stage {
                    poller.measured.seen.lock().unwrap().push((stage.clone(), clock()));
                }
                seen = stage;
            }
            let ended = answer.ended;
            let _ = news.send(Some(answer));
            if ended {
                return;
            }
        }
    };
    let mut miner = Miner { world, index, key, node, done: BTreeSet::new() };
    let act = async {
        while view.changed().await.is_ok() {
            let Some(now) = view.borrow_and_update().clone() else { continue };
            for work in &now.works {
                // What failed is tried again with the next news.
                let _ = miner.act(&now, work).await;
            }
        }
    };
    tokio::select! {
        () = poll => {}
        () = act => {}
    }
}

impl Miner {
    async fn act(&mut self, view: &MinerView, work: &WorkView) -> Result<(), ClientError> {
        let (id, round) = (work.id, view.round.as_ref().map(|r| r.stage.as_str()));
        let first = |what| !self.done.contains(&(id, what, None));
        if work.judged {
            if work.accepted && !work.receipts && first("receipts") {
                let receipts = work.lots.iter().map(|lot| {
                    let subject = id.subject();
                    let receipt = Receipt { payment_hash: lot.hash, amount: lot.amount, subject };
                    Envelope::sign(&receipt, &self.node).unwrap()
                });
                let receipts = receipts.collect();
                self.say(id, "receipts", Message::Receipts { assignment: id, receipts }).await?;
            }
            return Ok(());
        }
        match work.stage.as_str() {
            "offered" if first("accept") => {
                let invoices = work.lots.iter().map(|l| invoice(l.hash)).collect();
                self.say(id, "accept", Message::Accept { assignment: id, invoices }).await
            }
            "paid" if first("locked") => {
                let reports = work.lots.iter().map(|l| (l.hash, 1000)).collect();
                self.say(id, "locked", Message::Locked { assignment: id, reports }).await
            }
            "locked" if first("commit") => {
                if let Some(checkpoint) = &view.checkpoint {
                    self.world.download(checkpoint.blob).await?;
                }
                tokio::time::sleep(TRAINING).await;
                let commitment = self.commitment(work);
                self.say(id, "commit", Message::Commit(commitment)).await
            }
            "committed" if round == Some("revealing") && first("reveal") => {
                let encoded = self.encoded(work).clone();
                let blob = self.world.upload(id, encoded, &self.key).await?;
                let trained = &self.world.trained;
                let reveal =
                    Reveal { assignment: id, blob, start: trained.start, steps: trained.steps.clone() };
                self.say(id, "reveal", Message::Reveal(reveal)).await
            }
            "revealed" => {
                for (validator, asked) in &work.openings {
                    if !self.done.contains(&(id, "opened", Some(*validator))) {
                        self.open(id, *validator, asked).await?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn say(
        &mut self,
        id: AssignmentId,
        what: &'static str,
        message: Message,
    ) -> Result<(), ClientError> {
        self.world.say(&message, &self.key).await?;
        self.done.insert((id, what, None));
        Ok(())
    }

    fn encoded(&self, work: &WorkView) -> &Vec<u8> {
        &self.world.submissions[&(self.index, work.assignment.round.0)]
    }

    fn commitment(&self, work: &WorkView) -> Commitment {
        let encoded = self.encoded(work);
        let trained = &self.world.trained;
        Commitment {
            assignment: work.id,
            submission: Commitment::submission_of(self.key.public(), encoded),
            trajectory: TrajectoryHash::of(trained.start, &trained.steps),
            error_feedback: sha256(b"error feedback"),
            moments: sha256(b"moments"),
            updates: (work.assignment.round.0 + 1) * trained.steps.len() as u32,
        }
    }

    async fn open(
        &mut self,
        id: AssignmentId,
        validator: PublicKey,
        asked: &Opening,
    ) -> Result<(), ClientError> {
        let mut noise = Noise::new(u64::from_le_bytes(id.to_bytes()[..8].try_into().unwrap()));
        let mut blob = |kind: u8| {
            let mut bytes = [&[kind][..], &validator.to_bytes()].concat();
            bytes.resize_with(OPENED, || noise.next() as u8);
            bytes
        };
        let (state, chunks) = (blob(0), blob(1));
        let state = self.world.upload(id, state, &self.key).await?;
        let chunks = self.world.upload(id, chunks, &self.key).await?;
        let opened = Opened { assignment: id, validator, step: asked.step, state: Some(state), chunks };
        self.world.say(&Message::Opened(opened), &self.key).await?;
        self.done.insert((id, "opened", Some(validator)));
        Ok(())
    }
}

fn preimage(validator: u32, id: AssignmentId, tier: u32) -> Preimage {
    let text = [&validator.to_le_bytes()[..], &id.to_bytes(), &tier.to_le_bytes()].concat();
    Preimage::from_bytes(sha256(&text).0)
}

/// One validator, until the run is over.
pub(crate) async fn validator(world: World, index: u32) {
    let key = key("validator", index);
    let me = key.public();
    let (mut version, mut judged, mut looked) = (u64::MAX, BTreeSet::new(), None);
    loop {
        let view = world.measured.time("validator's view", world.client.works(world.run, version)).await;
        let Ok(view) = view else {
            tokio::time::sleep(Duration::from_millis(300)).await;
            continue;
        };
        if view.ended {
            return;
        }
        version = view.version;
        let mut messages = Vec::new();
        for work in view.works.iter().filter(|w| w.stage == "hashing" && !w.hashed.contains(&me)) {
            let hashes = (0..world.tiers).map(|tier| preimage(index, work.id, tier).hash()).collect();
            messages.push((work.id, None, Message::Hashes { assignment: work.id, hashes }));
        }
        let round = view.round.clone().filter(|r| r.stage == "judging");
        if let Some(round) = &round {
            if looked != Some(round.number) {
                first_look(&world, &view).await;
                looked = Some(round.number);
            }
            for work in view.works.iter().filter(|w| w.stage == "revealed" && !judged.contains(&w.id)) {
                messages.extend(judge(&world, index, me, round, work));
            }
        }
        let say = |(id, blobs, message): (AssignmentId, Option<Opened>, Message)| {
            let (world, key) = (&world, &key);
            async move {
                if let Some(opened) = blobs {
                    world.download(opened.state?).await.ok()?;
                    world.download(opened.chunks).await.ok()?;
                }
                world.say(&message, key).await.ok()?;
                matches!(message, Message::Verdict(_)).then_some(id)
            }
        };
        let said = stream::iter(messages).map(say).buffer_unordered(TOGETHER);
        judged.extend(said.filter_map(std::future::ready).collect::<Vec<_>>().await);
        let waits = view.works.iter().any(|w| w.stage == "revealed" && !judged.contains(&w.id));
        if round.is_some() && waits {
            // As the real one does: deadlines for answers pass without news.
            version = u64::MAX;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Downloads what every validator downloads when a round is shown.
async fn first_look(world: &World, view: &RoundWorkView) {
    let blobs = view.checkpoint.iter().map(|c| c.blob);
    let blobs: Vec<_> =
        blobs.chain(view.works.iter().filter_map(|w| Some(w.reveal.as_ref()?.blob))).collect();
    stream::iter(blobs).map(|blob| world.download(blob)).buffer_unordered(TOGETHER).count().await;
}

fn judge(
    world: &World,
    index: u32,
    me: PublicKey,
    round: &RoundView,
    work: &WorkView,
) -> Option<(AssignmentId, Option<Opened>, Message)> {
    let id = work.id;
    if !work.openings.iter().any(|(validator, _)| *validator == me) {
        return Some((
            id,
            None,
            Message::Open(Opening { assignment: id, step: Some(1), chunks: vec![0, 1] }),
        ));
    }
    let opened = work.opened.iter().find(|o| o.validator == me)?;
    let (before, after) = (2f32.to_bits(), 1f32.to_bits());
    let score = Score { own_before: before, own_after: after, unseen_before: before, unseen_after: after };
    let verdict = Verdict {
        assignment: id,
        submission: work.commitment.as_ref()?.submission,
        randomness: round.randomness?,
        step: Some(1),
        chunks: vec![0, 1],
        score: Some(score),
        outcome: Outcome::Earned {
            share: (1 << world.tiers) - 1,
            preimages: (0..world.tiers).map(|tier| preimage(index, id, tier)).collect(),
        },
    };
    Some((id, Some(opened.clone()), Message::Verdict(verdict)))
}
