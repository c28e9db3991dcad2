//! A small run with its text, and two miners that work in it.

use std::ops::ControlFlow;

use watershed_engine::device::{OpenDevice, cpu};
use watershed_engine::outer::OuterState;
use watershed_engine::train::{State, Trainer};
use watershed_protocol::data::{ConsentTier, Deposit, License, Manifest, Register, Split, WindowSpec};
use watershed_protocol::market::{
    Assignment, Commitment, DataSpec, InnerSpec, ModelSpec, Reveal, RoundsSpec, RunSpec, StepClaim,
    TrajectoryHash,
};
use watershed_protocol::{BasisPoints, Digest, Msat, PublicKey, RoundNumber, SecretKey};
use watershed_rounds::{
    Carried, Claim, OpenedChunks, OuterResult, Submission, Workbench, checkpoint_digest, data_spec, floats,
    open_chunks, sha256,
};
use watershed_shards::library::{Content, Library, Outcome};
use watershed_shards::shard::{OpenSet, build};
use watershed_shards::snapshot::{Policy, take};
use watershed_shards::text::normalize;
use watershed_shards::tokenizer::Tokenizer;

pub(crate) const STEPS: u32 = 6;
pub(crate) const BATCH: u32 = 2;

/// A run and everything that computes it.
pub(crate) struct World {
    /// Where the library is, which goes with the world.
    folder: tempfile::TempDir,
    pub(crate) spec: RunSpec,
    pub(crate) bench: Workbench,
    pub(crate) now: OuterState,
}

/// What one miner did in one round.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) assignment: Assignment,
    pub(crate) checkpoint: Vec<f32>,
    pub(crate) previous: Option<Commitment>,
    pub(crate) before: Carried,
    pub(crate) start: State,
    /// After each step.
    pub(crate) states: Vec<State>,
    pub(crate) submission: Submission,
    pub(crate) commitment: Commitment,
    pub(crate) reveal: Reveal,
}

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

/// Words that depend on the number, with little to learn but something.
fn words(number: u64) -> String {
    let word = |i: u64| {
        let hash = (number * 1_000_003 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{}{}", ["ka", "lo", "mi", "tu", "ren", "sa"][(hash >> 60) as usize % 6], hash >> 54)
    };
    (0..200).map(word).collect::<Vec<_>>().join(" ") + "\n"
}

fn deposit(library: &mut Library, text: &str, register: Register) {
    let signer = key(1);
    let normalized = normalize(text.as_bytes(), 1 << 20).unwrap();
    let manifest = Manifest {
        contributor: signer.public(),
        text: normalized.id(),
        bytes: normalized.text.len() as u64,
        revision: 0,
        title: "words".to_owned(),
        author: String::new(),
        language: "en".to_owned(),
        register,
        core: Vec::new(),
        license: License::Spdx("CC0-1.0".to_owned()),
        tier: ConsentTier::Train,
        source: String::new(),
    };
    let offered = (Deposit::sign(manifest, &signer).unwrap(), Content::Text(text.to_owned()));
    let outcome = library.deposit(std::slice::from_ref(&offered), 1_700_000_000).unwrap().remove(0);
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
}

/// Two registers, a part of each held out.
fn text(folder: &std::path::Path) -> DataSpec {
    let mut library = Library::open(folder).unwrap();
    for (register, from) in [(Register::Narrative, 0), (Register::Technical, 100)] {
        (from..from + 12).for_each(|number| deposit(&mut library, &words(number), register));
    }
    let held_out = BasisPoints::try_from(2500).unwrap();
    let taken = take(&library, &Policy { leave_out_near: true, held_out, seed: 0 }).unwrap();
    let id = build(library.store(), &taken.snapshot, &Tokenizer::bytes(), &|_| (), &|| false).unwrap().id;
    let set = OpenSet::open(library.store(), id).unwrap();
    data_spec(&set, "narrative=4000,technical=6000".parse().unwrap(), 32, 4)
}

fn spec(data: DataSpec) -> RunSpec {
    let mut spec = RunSpec::smallest([key(9).public()]);
    (spec.title, spec.seed) = ("a small run".to_owned(), 11);
    spec.model = ModelSpec { hidden: 32, heads: 2, ffn: 64, max_seq: 32, ..spec.model };
    spec.data = data;
    spec.inner = InnerSpec { steps: STEPS, batch: BATCH, warmup_steps: 2, ..spec.inner };
    spec.compression.top_k = 256;
    spec.rounds = RoundsSpec { count: 2, min_miners: 2, max_miners: 2, ..spec.rounds };
    spec.checks.score_sequences = 4;
    (spec.reward.per_assignment, spec.reward.tiers) = (Msat::new(63_000), 6);
    spec
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// Of a specification that is changed before it is used.
    pub(crate) fn with(change: impl FnOnce(&mut RunSpec)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(text(folder.path()));
        change(&mut spec);
        let store = watershed_shards::library::Store::new(folder.path());
        let bench = Workbench::new(&spec, &store, &cpu()).unwrap();
        let now = OuterState { parameters: bench.initial(), velocity: Vec::new() };
        Self { folder, spec, bench, now }
    }

    /// The same run, perhaps in other words, on a device.
    pub(crate) fn bench_on(&self, spec: &RunSpec, device: &OpenDevice) -> Workbench {
        let store = watershed_shards::library::Store::new(self.folder.path());
        Workbench::new(spec, &store, device).unwrap()
    }

    /// Two workers' tasks of a round, from the checkpoint as it stands.
    pub(crate) fn assignment(&self, round: u32, miner: usize, previous: Option<&Work>) -> Assignment {
        let data = &self.spec.data;
        let sequences = BATCH * STEPS;
        Assignment {
            run: self.spec.id().unwrap(),
            round: RoundNumber(round),
            miner: miner_key(miner),
            checkpoint: checkpoint_digest(&self.now.parameters).unwrap(),
            previous: previous.map(|work| work.assignment.id().unwrap()),
            window: WindowSpec {
                shards: data.shards,
                split: Split::Train,
                mixture: data.mixture,
                seed: self.spec.seed,
                sequence_length: data.sequence_length,
                first: u64::from((2 * round + miner as u32) * sequences),
                sequences,
                max_epochs: data.max_epochs,
            },
            batch: BATCH,
            reward: self.spec.reward.per_assignment,
        }
    }

    /// Honest work.
    pub(crate) fn work(&mut self, round: u32, miner: usize, previous: Option<&Work>) -> Work {
        let assignment = self.assignment(round, miner, previous);
        let checkpoint = self.now.parameters.clone();
        work(&mut self.bench, assignment, checkpoint, previous)
    }

    /// A round of both miners, and the step that it leads to.
    pub(crate) fn round(&mut self, round: u32, previous: Option<&[Work; 2]>) -> ([Work; 2], OuterResult) {
        let works = [0, 1].map(|miner| self.work(round, miner, previous.map(|p| &p[miner])));
        let accepted: Vec<_> =
            works.iter().map(|w| (w.commitment.submission, 0.1, w.submission.encoded.clone())).collect();
        let next = self.bench.outer(&self.now, &accepted).unwrap();
        self.now = next.state.clone();
        (works, next)
    }

    /// Two rounds; the second's work continues the first's.
    pub(crate) fn two_rounds(&mut self) -> [[Work; 2]; 2] {
        let (first, _) = self.round(0, None);
        let (second, _) = self.round(1, Some(&first));
        [first, second]
    }
}

pub(crate) fn miner_key(n: usize) -> PublicKey {
    key(20 + n as u8).public()
}

/// Does an assignment as a miner does.
pub(crate) fn work(
    bench: &mut Workbench,
    assignment: Assignment,
    checkpoint: Vec<f32>,
    previous: Option<&Work>,
) -> Work {
    let before = match previous {
        Some(work) => work.submission.carried.clone(),
        None => Carried::zero(bench.settings().parameters()),
    };
    let start = before.start(&checkpoint).unwrap();
    let (claims, states) = train(bench, &assignment, &start, 0, u32::MAX);
    let submission = bench.submit(&checkpoint, states.last().unwrap(), &before).unwrap();
    let reveal = Reveal {
        assignment: assignment.id().unwrap(),
        blob: sha256(&submission.encoded),
        start: Digest(start.digest().unwrap().0),
        steps: claims,
    };
    let mut work = Work {
        commitment: Commitment {
            assignment: assignment.id().unwrap(),
            submission: Commitment::submission_of(assignment.miner, &submission.encoded),
            trajectory: TrajectoryHash::of(reveal.start, &reveal.steps),
            error_feedback: submission.carried.feedback_digest().unwrap(),
            moments: submission.carried.moments_digest().unwrap(),
            updates: submission.carried.updates,
        },
        previous: previous.map(|work| work.commitment.clone()),
        assignment,
        checkpoint,
        before,
        start,
        states,
        submission,
        reveal,
    };
    work.commit();
    work
}

/// Steps `done..` from a state, at most `most` of them: what is claimed of each and where it led.
pub(crate) fn train(
    bench: &mut Workbench,
    assignment: &Assignment,
    from: &State,
    done: u32,
    most: u32,
) -> (Vec<StepClaim>, Vec<State>) {
    let (mut claims, mut states) = (Vec::new(), Vec::new());
    let mut progress = |step: u32, claim: StepClaim, trainer: &Trainer| {
        assert_eq!(step, done + claims.len() as u32);
        claims.push(claim);
        states.push(trainer.state().unwrap());
        if claims.len() as u32 >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trajectory = bench.train(assignment, from, done, &mut progress).unwrap();
    assert_eq!(Some(&trajectory.state), states.last());
    (claims, states)
}

impl Work {
    /// Binds itself to whatever stands in the submission and the reveal.
    pub(crate) fn commit(&mut self) {
        self.reveal.blob = sha256(&self.submission.encoded);
        self.commitment.submission =
            Commitment::submission_of(self.assignment.miner, &self.submission.encoded);
        self.commitment.trajectory = TrajectoryHash::of(self.reveal.start, &self.reveal.steps);
        self.commitment.error_feedback = self.submission.carried.feedback_digest().unwrap();
        self.commitment.moments = self.submission.carried.moments_digest().unwrap();
        self.commitment.updates = self.submission.carried.updates;
    }

    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim {
            assignment: &self.assignment,
            commitment: &self.commitment,
            reveal: &self.reveal,
            previous: self.previous.as_ref(),
            encoded: &self.submission.encoded,
            checkpoint: &self.checkpoint,
        }
    }

    /// The state before a step, as it is uploaded.
    pub(crate) fn file(&self, step: u32) -> Vec<u8> {
        match step.checked_sub(1) {
            None => self.before.moments.clone(),
            Some(before) => {
                let state = &self.states[before as usize];
                floats(&[&state.parameters, &state.first, &state.second])
            }
        }
    }

    pub(crate) fn open(&self, chunks: &[u64]) -> OpenedChunks {
        let states = (&self.start, self.states.last().unwrap());
        open_chunks(chunks, states, (&self.before, &self.submission.carried)).unwrap()
    }
}
