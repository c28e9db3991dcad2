//! What both processes need: keys, the text of a run, its specification, and the work that miners hand in.

use std::ops::ControlFlow;
use std::path::Path;

use watershed_engine::device;
use watershed_engine::pseudo_gradient::compress;
use watershed_engine::train::{State, Trainer};
use watershed_protocol::data::{ConsentTier, License, Mixture, Register, Split, WindowSpec};
use watershed_protocol::market::{
    Assignment, CompressionSpec, DataSpec, ModelSpec, RewardSpec, RoundsSpec, RunSpec, StepClaim,
};
use watershed_protocol::{BasisPoints, Digest, Msat, RoundNumber, SecretKey};
use watershed_rounds::{Workbench, checkpoint_digest, data_spec, sha256};
use watershed_shards::import::{ImportOptions, import};
use watershed_shards::library::{Library, Store};
use watershed_shards::reading::{Mapping, list};
use watershed_shards::shard::{OpenSet, build};
use watershed_shards::snapshot::{Policy, take};
use watershed_shards::text::MAX_TEXT;
use watershed_shards::tokenizer::Tokenizer;

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const VALIDATORS: u32 = 2;
const TIERS: u32 = 4;
const STEPS: u32 = 4;

/// A key that both processes can make.
pub(crate) fn key(role: &str, index: u32) -> SecretKey {
    let digest = sha256(&[role.as_bytes(), &index.to_le_bytes()].concat());
    SecretKey::from_entropy(digest.0).unwrap()
}

/// Numbers that look random.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// A library with a small shard set of generated words.
pub(crate) fn library(folder: &Path) -> Result<DataSpec, Failed> {
    let texts = folder.join("texts");
    std::fs::create_dir_all(&texts)?;
    let mut noise = Noise::new(1);
    for number in 0..200 {
        let mut text = String::new();
        while text.len() < 2000 {
            for _ in 0..=noise.next() % 8 {
                text.push(char::from(b'a' + (noise.next() % 26) as u8));
            }
            text.push(' ');
        }
        std::fs::write(texts.join(format!("{number}.txt")), text)?;
    }
    let mut library = Library::open(&folder.join("library"))?;
    let options = ImportOptions {
        mapping: Mapping::default(),
        register: Some(Register::Narrative),
        core: Vec::new(),
        license: Some(License::Words("benchmark".to_owned())),
        language: "und".to_owned(),
        author: String::new(),
        source: String::new(),
        tier: ConsentTier::Train,
        limit: MAX_TEXT,
    };
    let files = list(&[texts])?.files;
    import(&mut library, &key("author", 0), &files, &options, 0, &mut |_| (), &|| false)?;
    let policy = Policy { leave_out_near: false, held_out: BasisPoints::try_from(2000)?, seed: 0 };
    let snapshot = take(&library, &policy)?.snapshot;
    let built = build(library.store(), &snapshot, &Tokenizer::bytes(), &|_| (), &|| false)?;
    let set = OpenSet::open(library.store(), built.id)?;
    let mut counts = [0; Register::ALL.len()];
    for (count, register) in counts.iter_mut().zip(Register::ALL) {
        *count = set.set().tokens(*register, Split::Train);
    }
    Ok(data_spec(&set, Mixture::natural(counts)?, 32, 1000))
}

/// A run for so many miners. Stages end when everybody is done, so the deadlines play no part.
pub(crate) fn spec(miners: u32, rounds: u32, data: DataSpec) -> Result<RunSpec, Failed> {
    let mut spec = RunSpec::smallest((0..VALIDATORS).map(|v| key("validator", v).public()));
    spec.title = format!("{miners} simulated miners");
    spec.model = ModelSpec { hidden: 32, heads: 2, ffn: 64, max_seq: 32, ..spec.model };
    spec.data = data;
    (spec.inner.steps, spec.inner.batch) = (STEPS, 2);
    spec.compression.top_k = 512;
    spec.rounds = RoundsSpec {
        count: rounds,
        min_miners: miners,
        max_miners: miners,
        lock_seconds: 600,
        train_seconds: 600,
        reveal_seconds: 600,
        verdict_seconds: 600,
        ..spec.rounds
    };
    spec.checks.score_sequences = 4;
    spec.reward = RewardSpec {
        per_assignment: Msat::new(1_000_000),
        tiers: TIERS,
        verdict_fee: Msat::new(10_000),
        ..spec.reward
    };
    Ok(spec)
}

/// What one round of training gives; every miner hands in this with some noise of its own.
pub(crate) struct Trained {
    delta: Vec<f32>,
    compression: CompressionSpec,
    pub(crate) start: Digest,
    pub(crate) steps: Vec<StepClaim>,
}

impl Trained {
    pub(crate) fn new(spec: &RunSpec, store: &Store) -> Result<Self, Failed> {
        let mut bench = Workbench::new(spec, store, &device::cpu())?;
        let initial = bench.initial();
        let assignment = Assignment {
            run: spec.id()?,
            round: RoundNumber(0),
            miner: key("miner", 0).public(),
            checkpoint: checkpoint_digest(&initial)?,
            previous: None,
            window: WindowSpec {
                shards: spec.data.shards,
                split: Split::Train,
                mixture: spec.data.mixture,
                seed: spec.seed,
                sequence_length: spec.data.sequence_length,
                first: 0,
                sequences: spec.inner.batch * spec.inner.steps,
                max_epochs: spec.data.max_epochs,
            },
            batch: spec.inner.batch,
            reward: spec.reward.per_assignment,
        };
        let state = State::fresh(initial.clone());
        let start = Digest(state.digest()?.0);
        let mut steps = Vec::new();
        let mut told = |_: u32, claim: StepClaim, _: &Trainer| {
            steps.push(claim);
            ControlFlow::Continue(())
        };
        let end = bench.train(&assignment, &state, 0, &mut told)?.state;
        let delta = initial.iter().zip(&end.parameters).map(|(theta, end)| theta - end).collect();
        Ok(Self { delta, compression: spec.compression.clone(), start, steps })
    }

    /// An encoded pseudo-gradient that nobody else has.
    pub(crate) fn submission(&self, miner: u32, round: u32) -> Result<Vec<u8>, Failed> {
        let mut noise = Noise::new((u64::from(miner) << 32) | u64::from(round));
        let noisy = |d: &f32| d * (1.0 + (noise.next() % 1000) as f32 / 1000.0);
        let delta: Vec<f32> = self.delta.iter().map(noisy).collect();
        let mut feedback = vec![0.0; delta.len()];
        let CompressionSpec { top_k, error_decay } = self.compression;
        Ok(compress(&mut feedback, &delta, error_decay, top_k as usize)?)
    }
}
