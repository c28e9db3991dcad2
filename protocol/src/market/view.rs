//! What a coordinator's API shows, as JSON. Envelopes are base64 of their encoding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, Commitment, Opened, Opening, Reveal, StepClaim, TermsOffered};
use super::record::Stepped;
use super::spec::RunSpec;
use crate::amount::Msat;
use crate::hash::Digest;
use crate::id::{AssignmentId, RoundNumber, RunId};
use crate::key::PublicKey;

/// Who a coordinator is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoView {
    /// Its key.
    pub key: PublicKey,
    /// Its Lightning node, `<66 hex digits>@host:port`.
    pub node: String,
    /// The Bitcoin network.
    pub network: String,
    /// The verifier of its log, in the form of C2SP signed notes.
    pub log: String,
    /// Its version.
    pub version: String,
    /// Its clock, in seconds since 1970.
    pub now: u64,
}

/// A run in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its name.
    pub run: RunId,
    /// For people.
    pub title: String,
    /// `funding`, `preparing`, `running`, `closing` or `ended`.
    pub phase: String,
    /// How it ended or will end; else empty.
    pub end: String,
    /// Whether no round is begun.
    pub paused: bool,
    /// What needs the operator's attention; else empty.
    pub trouble: String,
    /// What it waits for; empty while it gets on, or when it is over.
    pub waits_for: Vec<WaitView>,
    /// When it was opened, in seconds since 1970.
    pub opened: u64,
    /// When it ends by itself if no round ends before, in seconds since 1970; none if it has no such day, or is not there yet.
    pub idle_at: Option<u64>,
    /// Rounds that are done.
    pub rounds_done: u32,
    /// Rounds in all.
    pub rounds: u32,
    /// The round under way.
    pub round: Option<RoundView>,
    /// Miners that joined and want work.
    pub miners: usize,
    /// Sums.
    pub sums: SumsView,
    /// All checkpoints.
    pub checkpoints: Vec<CheckpointView>,
    /// The specification.
    pub spec: RunSpec,
    /// The specification as it was signed.
    pub signed: String,
}

/// What keeps a run from getting on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// `pledges`, `checkpoint`, `operator`, `miners`, `channels`, `validators`, `pause` or `rewards`.
    pub what: String,
    /// For people: goes on from "It waits for".
    pub text: String,
    /// Which miners or validators, where they are known; else empty.
    pub keys: Vec<PublicKey>,
}

impl WaitView {
    /// All of them in one sentence's part; empty if there is none.
    pub fn sentence(all: &[Self]) -> String {
        all.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumsView {
    /// Taken from sponsors.
    pub pledged: Msat,
    /// Locked at any time.
    pub locked: Msat,
    /// Paid to miners.
    pub paid: Msat,
    /// Come back from escrows.
    pub back: Msat,
    /// Paid for verdicts.
    pub fees: Msat,
    /// Earned by miners and held back; when the run is over, what of it is paid on request.
    #[serde(default)]
    pub owed: Msat,
    /// Left at the end.
    pub left: Msat,
    /// Submissions accepted.
    pub accepted: u32,
    /// Submissions rejected.
    pub rejected: u32,
}

/// The round under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundView {
    /// Its number, from 0.
    pub number: u32,
    /// `locking`, `training`, `revealing`, `judging` or `stepping`.
    pub stage: String,
    /// When the stage ends, in seconds since 1970.
    pub until: u64,
    /// What scores are drawn from, once it is known.
    pub randomness: Option<Digest>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The run.
    pub run: RunId,
    /// The round that begins with it, from 0: so many are done.
    pub round: RoundNumber,
    /// Merkle root of the parameters.
    pub checkpoint: Digest,
    /// SHA-256 of the file with the parameters.
    pub blob: Digest,
    /// SHA-256 of the file with the outer optimizer's velocity, if it has one.
    pub velocity: Option<Digest>,
    /// Tasks whose submissions are in it, ascending.
    pub accepted: Vec<AssignmentId>,
    /// Loss on held-out text; none if it is no finite number.
    pub loss: Option<f32>,
    /// The bits of the same.
    pub loss_bits: u32,
}

/// A loss as a decimal number, which JSON has for finite ones only.
fn decimal(bits: u32) -> Option<f32> {
    Some(f32::from_bits(bits)).filter(|loss| loss.is_finite())
}

impl From<Stepped> for CheckpointView {
    fn from(stepped: Stepped) -> Self {
        let Stepped { run, round, checkpoint, blob, velocity, accepted, loss } = stepped;
        Self { run, round, checkpoint, blob, velocity, accepted, loss: decimal(loss), loss_bits: loss }
    }
}

/// What a miner showed, with the digests of all steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevealView {
    /// The task.
    pub assignment: AssignmentId,
    /// SHA-256 of the encoded pseudo-gradient, its name among the blobs.
    pub blob: Digest,
    /// State digest before the first step.
    pub start: Digest,
    /// All steps.
    pub steps: Vec<StepView>,
}

/// One inner step, as the miner says it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// State digest after the step.
    pub state: Digest,
    /// Loss before its update; none if it is no finite number.
    pub loss: Option<f32>,
    /// The bits of the same.
    pub loss_bits: u32,
}

impl From<Reveal> for RevealView {
    fn from(reveal: Reveal) -> Self {
        let Reveal { assignment, blob, start, steps } = reveal;
        let step = |s: StepClaim| StepView { state: s.state, loss: decimal(s.loss), loss_bits: s.loss };
        Self { assignment, blob, start, steps: steps.into_iter().map(step).collect() }
    }
}

impl From<RevealView> for Reveal {
    fn from(view: RevealView) -> Self {
        let RevealView { assignment, blob, start, steps } = view;
        let steps = steps.into_iter().map(|s| StepClaim { state: s.state, loss: s.loss_bits }).collect();
        Self { assignment, blob, start, steps }
    }
}

/// What a miner showed, in short: a thousand miners with 1,500 steps each have more digests than an answer should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownView {
    /// SHA-256 of the encoded pseudo-gradient, its name among the blobs.
    pub blob: Digest,
    /// State digest before the first step.
    pub start: Digest,
    /// How many steps.
    pub steps: u32,
}

impl From<&Reveal> for ShownView {
    fn from(reveal: &Reveal) -> Self {
        let steps = u32::try_from(reveal.steps.len()).unwrap_or(u32::MAX);
        Self { blob: reveal.blob, start: reveal.start, steps }
    }
}

/// What changes about a run while it runs: an event of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewsView {
    /// Changes with every event; the id of the event in the stream.
    pub version: u64,
    /// `funding`, `preparing`, `running`, `closing` or `ended`.
    pub phase: String,
    /// The round under way.
    pub round: Option<RoundView>,
    /// Tasks of the round under way, by their stage.
    pub works: BTreeMap<String, u32>,
    /// Rounds that are done.
    pub rounds_done: u32,
    /// Miners that joined and want work.
    pub miners: usize,
    /// Sums.
    pub sums: SumsView,
}

/// A task with everything that came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkView {
    /// Its name.
    pub id: AssignmentId,
    /// The task.
    pub assignment: Assignment,
    /// `hashing`, `offering`, `offered`, `locking`, `paid`, `confirming`, `locked`, `committed`, `revealed` or `dropped`.
    pub stage: String,
    /// Why it was dropped; else empty.
    pub reason: String,
    /// Validators that are asked for payment hashes.
    pub holders: Vec<PublicKey>,
    /// Validators that gave payment hashes.
    pub hashed: Vec<PublicKey>,
    /// Offered lots.
    pub lots: Vec<TermsOffered>,
    /// What the miner bound itself to.
    pub commitment: Option<Commitment>,
    /// What it showed, without the digests of all steps: these are at `works/{assignment}/reveal`.
    pub reveal: Option<ShownView>,
    /// What validators asked for.
    pub openings: Vec<(PublicKey, Opening)>,
    /// What the miner answered.
    pub opened: Vec<Opened>,
    /// Validators that found nothing wrong.
    pub sound: Vec<PublicKey>,
    /// Signed verdicts.
    pub verdicts: Vec<String>,
    /// Verdicts that were looked at again because they contradict each other, and whether they hold.
    pub rulings: Vec<(PublicKey, bool)>,
    /// Submissions of its miner that were accepted and rejected before.
    pub record: (u32, u32),
    /// Whether no further verdict is taken.
    pub judged: bool,
    /// Whether the submission went into the checkpoint.
    pub accepted: bool,
    /// Whether money is still locked for it.
    pub escrow_open: bool,
    /// Whether the miner's receipts are in the record.
    pub receipts: bool,
}

/// What a validator works from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundWorkView {
    /// Changes when there is something for a validator to do; ask for what comes after it.
    pub version: u64,
    /// The round under way.
    pub round: Option<RoundView>,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// Whether the run is over.
    pub ended: bool,
    /// Tasks of the round.
    pub works: Vec<WorkView>,
}

/// What a miner works from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinerView {
    /// Changes with every event that concerns it; ask for what comes after it.
    pub version: u64,
    /// Whether it joined and wants work.
    pub active: bool,
    /// Whether there is a channel for rewards, `none yet`, or why not.
    pub channel: String,
    /// Whether the run is over.
    pub ended: bool,
    /// `funding`, `preparing`, `running`, `closing` or `ended`.
    pub phase: String,
    /// The round under way.
    pub round: Option<RoundView>,
    /// The newest checkpoint, without the list of what is in it.
    pub checkpoint: Option<CheckpointView>,
    /// Submissions accepted and rejected so far.
    pub record: (u32, u32),
    /// Submissions accepted since the last rejected one.
    pub good: u32,
    /// What it has earned and is held back.
    pub held_back: Msat,
    /// What it is paid of that on request when the run is over.
    pub due: Msat,
    /// The assignment whose state it carries, as the coordinator knows it.
    pub last: Option<AssignmentId>,
    /// Its tasks that are not over: the newest last.
    pub works: Vec<WorkView>,
}

/// A file of a shard set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// `set`, `index` or `shard`.
    pub role: String,
    /// Its name among the blobs.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
}

/// A pledge's invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PledgeView {
    /// BOLT 11, payable by any wallet.
    pub invoice: String,
    /// Names the pledge.
    pub hash: String,
    /// `invoiced`, `held`, `claiming`, `settled` or `given-back`.
    pub state: String,
    /// How much.
    pub amount: Msat,
    /// Its part of what the run did not spend, as far as it is not paid back.
    #[serde(default)]
    pub left: Msat,
    /// What was paid back after the end of the run.
    #[serde(default)]
    pub refunded: Msat,
    /// How paying back by itself stands: `none` if no destination was left, `waiting`, `paid`, or `claim` if it could not be
    /// paid there, so that the token is needed.
    #[serde(default)]
    pub refund: String,
}

/// A pledge that was just made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PledgeMade {
    /// The pledge.
    #[serde(flatten)]
    pub pledge: PledgeView,
    /// Whoever shows this may claim what is left of the pledge. It is told once.
    pub claim: String,
}

/// A signed message on its way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Base64 of an encoded envelope.
    pub envelope: String,
}

/// That a message was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenView {
    /// For what belongs into the record: base64 of a signed `Promise` that it will be there.
    pub promise: Option<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For programs; does not change.
    pub code: String,
    /// For people.
    pub message: String,
}
