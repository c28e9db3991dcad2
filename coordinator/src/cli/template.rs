//! A run specification to begin with, and its comments.

use watershed_engine::model::Preset;
use watershed_protocol::data::Mixture;
use watershed_protocol::market::{
    ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, OuterSpec, RewardSpec,
    RoundsSpec, RunSpec,
};
use watershed_protocol::{BasisPoints, Msat, ShardSetId};
use watershed_rounds::model_spec;

/// What a person has to say of a new run.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) title: String,
    pub(super) preset: Preset,
    pub(super) set: ShardSetId,
    pub(super) mixture: Mixture,
    pub(super) vocabulary: u32,
    pub(super) rounds: u32,
    pub(super) inner_steps: u32,
    pub(super) sequence_length: u32,
    pub(super) batch: u32,
    pub(super) min_miners: u32,
    pub(super) reward: Msat,
    pub(super) goal: Msat,
    pub(super) validators: Vec<CommitteeMember>,
    pub(super) seed: u64,
}

/// Sections of the file, with what a person should know of them.
const COMMENTS: &[(&str, &str)] = &[
    (
        "[model]",
        "# The model: a decoder of the Llama family. All numbers of this file are part of the run's name: change one and it is\n# another run.",
    ),
    (
        "[data]",
        "# The text: a shard set (`watershed-shards build`), and the shares of narrative, conversational, technical, sacred, oral,\n# pedagogical and lyric in basis points that sum to 10000.",
    ),
    (
        "[inner]",
        "# What a miner does in a round: `steps` AdamW steps of `batch` sequences. `precision` are the bits of the operands of\n# matrix products. `carried` keeps the optimizer's moments from round to round, which learns faster.",
    ),
    (
        "[compression]",
        "# Of every 4096 values of a pseudo-gradient `top_k` are sent, in 2 bits each; the rest is kept for later and decays.",
    ),
    ("[outer]", "# How the average of all pseudo-gradients moves the checkpoint."),
    (
        "[rounds]",
        "# A round begins when `min_miners` are there, and goes on with whoever delivers. Whoever is late loses its own reward only.\n# `max_size` above 1 gives fast miners more sequences, for more sats.",
    ),
    (
        "[checks]",
        "# What every validator does with every submission: inner steps it replays, chunks whose compression it does again, and\n# sequences it measures on.",
    ),
    (
        "[reward]",
        "# In millisatoshi. Correct work earns `base` of the reward (basis points); the rest depends on how much it lowers the loss,\n# and is paid in full from `full_at` of the round's median on. `window` is how many blocks a reward can stay locked.",
    ),
    (
        "[funding]",
        "# What sponsors pledge before the run begins, in millisatoshi; 0 if you pay. Below the goal everything goes back.\n# `joining_fee` is what a miner pays once to join, in whole satoshis; it goes into the budget.",
    ),
    (
        "[[committee]]",
        "# Who checks. Each holds the secrets of its own part of every reward. `url` is where it gives out its verdicts itself.",
    ),
];

/// The specification.
pub(super) fn specification(c: Choices) -> Result<RunSpec, super::Failed> {
    let bp = |n: u16| BasisPoints::try_from(n).map_err(|e| e.to_string());
    let mut model = model_spec(&c.preset.config());
    model.max_seq = model.max_seq.max(c.sequence_length);
    model.vocab = model.vocab.max(c.vocabulary);
    let total = c.rounds.saturating_mul(c.inner_steps);
    let spec = RunSpec {
        title: c.title,
        seed: c.seed,
        model,
        data: DataSpec {
            shards: c.set,
            mixture: c.mixture,
            sequence_length: c.sequence_length,
            max_epochs: 100,
        },
        inner: InnerSpec {
            steps: c.inner_steps,
            batch: c.batch,
            precision: (12, 12),
            carried: true,
            peak_lr: 3e-3,
            warmup_steps: (total / 20).clamp(1, 100),
            floor: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
        },
        compression: CompressionSpec { top_k: 512, error_decay: 0.95 },
        outer: OuterSpec { rate: 1.0, momentum: 0.0 },
        rounds: RoundsSpec {
            count: c.rounds,
            min_miners: c.min_miners,
            max_miners: 256,
            max_size: 1,
            min_accepted: 1,
            lock_seconds: 120,
            train_seconds: 900,
            reveal_seconds: 300,
            verdict_seconds: 600,
        },
        checks: ChecksSpec {
            replay_steps: 1,
            chunks: 2,
            score_sequences: (c.batch * c.inner_steps).clamp(1, 4),
        },
        reward: RewardSpec {
            per_assignment: c.reward,
            base: bp(5000)?,
            full_at: bp(5000)?,
            tiers: 4,
            window: 144,
            verdict_fee: Msat::new(c.reward.msat() / 100),
        },
        funding: FundingSpec { goal: c.goal, window: 144, joining_fee: Msat::ZERO },
        committee: c.validators,
    };
    spec.check()?;
    Ok(spec)
}

/// The file, with comments.
pub(super) fn file(spec: &RunSpec) -> Result<String, super::Failed> {
    let mut text =
        String::from("# A run of Watershed. `watershed-coordinator run open FILE` signs and opens it.\n\n");
    let mut said = Vec::new();
    for line in toml::to_string(spec)?.lines() {
        if let Some((section, comment)) = COMMENTS.iter().find(|(section, _)| *section == line)
            && !said.contains(section)
        {
            said.push(section);
            text.push_str(comment);
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}
