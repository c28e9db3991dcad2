//! A run specification to begin with, and its comments.

use watershed_engine::model::Preset;
use watershed_protocol::market::{
    ChecksSpec, CommitteeMember, CompressionSpec, DataSpec, FundingSpec, InnerSpec, RewardSpec, RoundsSpec,
    RunSpec,
};
use watershed_protocol::{BasisPoints, Msat};
use watershed_rounds::{Unfit, model_spec};

/// What a person has to say of a new run.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) title: String,
    pub(super) preset: Preset,
    pub(super) data: DataSpec,
    pub(super) vocabulary: u32,
    pub(super) rounds: u32,
    pub(super) inner_steps: u32,
    pub(super) batch: u32,
    pub(super) peak_lr: f32,
    pub(super) top_k: u32,
    pub(super) min_miners: u32,
    pub(super) max_miners: u32,
    pub(super) max_size: u32,
    pub(super) min_accepted: u32,
    /// Locking, training, revealing, judging.
    pub(super) seconds: [u32; 4],
    pub(super) reward: Msat,
    pub(super) verdict_fee: Option<Msat>,
    pub(super) window: u32,
    pub(super) goal: Msat,
    pub(super) validators: Vec<CommitteeMember>,
    /// None: as much as a newcomer's first task pays.
    pub(super) joining_fee: Option<Msat>,
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
        "# What a validator does with a submission: `replay_steps` inner steps in a row, drawn after the commitment, are done again;\n# `chunks` groups of 4096 parameters are compressed again; losses are measured on `score_sequences` of the miner's text and of\n# text that nobody was given. A miner of whose steps a share f is false is not\n# paid with probability 1-(1-f)^v, v being the validators that check it, the whole committee; docs/MARKET.md says what one\n# false step can hide. Of a miner with `trusted_after` submissions accepted and none rejected it is\n# `validators` of them, drawn anew for every task (0 for all): what a task costs in checks so does not grow with the\n# committee. Of such a miner a validator replays only `replay_share` of the submissions (basis points; 10000 is all), and opens\n# chunks and measures always: that leaves a cheat that was patient 1-(1-f*share)^v, so lower it only where rewards are small\n# beside a good name.",
    ),
    (
        "[reward]",
        "# In millisatoshi. Work that lowers the loss earns `base` of the reward (basis points); the rest depends on how much it lowers it,\n# and is paid in full from `full_at` of the round's median on. What lowers no loss earns nothing. Of a newcomer's reward `held_back`\n# is paid later, with its tasks after `proven_after` accepted ones; whoever is found out gets nothing of it and begins again.\n# `window` is how many blocks a reward can stay locked.",
    ),
    (
        "[funding]",
        "# What sponsors pledge before the run begins, in millisatoshi; 0 if you pay. Below the goal everything goes back.\n# `joining_fee` is what a miner pays once to join, in whole satoshis; it goes into the budget. As much as a newcomer's first\n# task pays, it takes from a false identity whatever it can get before it is looked at again.",
    ),
    (
        "[[committee]]",
        "# Who checks. Each holds the secrets of its own part of every reward. `url` is where it gives out its verdicts itself.",
    ),
];

/// What to know of each number, by section and name.
const FIELDS: &[(&str, &str, &str)] = &[
    ("", "title", "For people; 200 bytes at most."),
    ("", "seed", "Decides the initial parameters and which text comes first."),
    ("[model]", "vocab", "Tokens that the model knows; at least those of the shard set."),
    ("[model]", "hidden", "Width of the residual stream. Cost grows with its square."),
    ("[model]", "layers", "Decoder layers, one after another."),
    ("[model]", "heads", "Query heads; a multiple of `kv_heads`."),
    ("[model]", "kv_heads", "Key and value heads. Fewer save memory and lose little."),
    ("[model]", "head_dim", "Width of a head; even."),
    ("[model]", "ffn", "Width of the feed-forward block; commonly 8/3 of `hidden`."),
    ("[model]", "max_seq", "Longest sequence the model is made for."),
    ("[model]", "rope_theta", "Base of the rotary embedding; larger for longer sequences."),
    ("[model]", "rms_eps", "Added under the root of RMSNorm."),
    (
        "[model]",
        "tied_embeddings",
        "One matrix for input and output embeddings: fewer parameters, for small models better.",
    ),
    ("[model]", "qkv_bias", "Biases of queries, keys and values, as Qwen has them."),
    ("[data]", "shards", "The tokenised text (`watershed-shards build` prints it)."),
    ("[data]", "snapshot", "The snapshot it was made from: which deposits are in it, each with its consent."),
    ("[data]", "tokenizer", "What made tokens of it."),
    ("[data]", "mixture", "Shares in the order above; a register of 0 is not read."),
    ("[data]", "sequence_length", "Tokens of a sequence; at most `max_seq`."),
    (
        "[data]",
        "max_epochs",
        "How often a text may be read in the whole run. Beyond about 4 a model learns texts by heart.",
    ),
    (
        "[inner]",
        "steps",
        "Steps between two exchanges. More means less traffic, and models that drift further apart.",
    ),
    ("[inner]", "batch", "Sequences of a step. A fast miner has `batch` times up to `rounds.max_size`."),
    (
        "[inner]",
        "precision",
        "Bits of the left and right operands, 8 to 16. 12 and 12 learn like floats; 8 is faster and learns worse.",
    ),
    ("[inner]", "carried", "False begins every round with moments of zero."),
    ("[inner]", "peak_lr", "Highest learning rate. Small models bear 3e-3, large ones need less."),
    ("[inner]", "warmup_steps", "Steps in which the rate rises to its peak, over the whole run."),
    ("[inner]", "floor", "The rate falls as a cosine to this share of the peak at the last step."),
    ("[inner]", "beta1", "Decay of the first moment: how many steps the direction remembers."),
    ("[inner]", "beta2", "Decay of the second moment: how many steps the scale remembers."),
    ("[inner]", "eps", "Added to the root of the second moment."),
    ("[inner]", "weight_decay", "Decoupled; matrices only."),
    ("[inner]", "clip", "Gradients of a larger norm are scaled down to it."),
    (
        "[compression]",
        "top_k",
        "Of 4096. 512 is about 1/40 of the bytes of all values; 64 learns slower and costs less to send.",
    ),
    (
        "[compression]",
        "error_decay",
        "What is left of the unsent rest after a round. 1 forgets nothing and can run away.",
    ),
    ("[outer]", "rate", "1 applies the average as it is."),
    ("[outer]", "momentum", "Nesterov momentum; 0 keeps no velocity. Values near 0.9 want a smaller `rate`."),
    (
        "[rounds]",
        "count",
        "Rounds in all; the learning rate's schedule ends with the last. Pledges that do not pay them all end the run sooner.",
    ),
    ("[rounds]", "min_miners", "Fewest miners that a round is begun with."),
    (
        "[rounds]",
        "max_miners",
        "Most miners of a round. Of more, those that owe nothing come first, then those that have proved themselves, by lot.",
    ),
    (
        "[rounds]",
        "newcomers",
        "Share of these places that is kept for newcomers (basis points); one at least where there are two.",
    ),
    ("[rounds]", "max_size", "1, 2, 4, 8 or 16. What a miner gets is bounded by what it delivered before."),
    ("[rounds]", "min_accepted", "With fewer accepted submissions the checkpoint stays as it is."),
    ("[rounds]", "lock_seconds", "For offers, channels and locked rewards."),
    ("[rounds]", "train_seconds", "For the inner steps. Only miners that are fast enough are asked."),
    ("[rounds]", "reveal_seconds", "For the uploads."),
    ("[rounds]", "verdict_seconds", "For openings, checks, scores and verdicts."),
    ("[reward]", "per_assignment", "The most that an assignment of one batch size pays."),
    ("[reward]", "base", "What work earns that lowers the loss at all."),
    ("[reward]", "full_at", "Share of the round's median score from which on everything is paid."),
    ("[reward]", "held_back", "Of a newcomer's reward, until it has proved itself; 9000 at most."),
    (
        "[reward]",
        "proven_after",
        "Submissions accepted, with none rejected since, that prove a miner: then what was held back is paid.",
    ),
    (
        "[reward]",
        "tiers",
        "Parts of each validator's part, each twice the one before: 4 pay in steps of 1/15.",
    ),
    (
        "[reward]",
        "window",
        "At 10 minutes each, at least twice the four stages together; a lock that is not released comes back after it.",
    ),
    ("[reward]", "verdict_fee", "What a validator gets for a verdict, whatever it says."),
    ("[funding]", "goal", "At least what a round of `min_miners` costs, verdicts included."),
    ("[funding]", "window", "Blocks for which a pledge waits for the others."),
    ("[funding]", "joining_fee", "Whole satoshis; 0 lets everybody in, with as many keys as they like."),
    (
        "[funding]",
        "idle_seconds",
        "If no round ends for so long, the run ends by itself and the rest goes back. 0 is never, if you pay.",
    ),
    ("[[committee]]", "key", "`watershed-validator init` prints it."),
    ("[[committee]]", "url", "Miners ask here when the coordinator is silent."),
];

/// The specification.
pub(super) fn specification(c: Choices) -> Result<RunSpec, super::Failed> {
    let mut model = model_spec(&c.preset.config());
    model.max_seq = model.max_seq.max(c.data.sequence_length);
    model.vocab = model.vocab.max(c.vocabulary);
    let [lock_seconds, train_seconds, reveal_seconds, verdict_seconds] = c.seconds;
    let total = c.rounds.saturating_mul(c.inner_steps);
    let smallest = RunSpec::smallest([]);
    let reward = RewardSpec {
        per_assignment: c.reward,
        held_back: BasisPoints::HALF,
        proven_after: (c.rounds / 10).clamp(1, 4),
        tiers: 4,
        window: c.window,
        verdict_fee: c.verdict_fee.unwrap_or(Msat::new(c.reward.msat() / 100)),
        ..smallest.reward
    };
    let first = reward.least(1).unwrap_or_default().msat().div_ceil(1000).saturating_mul(1000);
    let joining_fee = c.joining_fee.unwrap_or(Msat::new(first).min(RunSpec::MAX_JOINING_FEE));
    let spec = RunSpec {
        title: c.title,
        seed: c.seed,
        model,
        data: c.data,
        inner: InnerSpec {
            steps: c.inner_steps,
            batch: c.batch,
            peak_lr: c.peak_lr,
            warmup_steps: (total / 20).clamp(1, 100),
            ..smallest.inner
        },
        compression: CompressionSpec { top_k: c.top_k, ..smallest.compression },
        rounds: RoundsSpec {
            count: c.rounds,
            min_miners: c.min_miners,
            max_miners: c.max_miners,
            newcomers: BasisPoints::QUARTER,
            max_size: c.max_size,
            min_accepted: c.min_accepted,
            lock_seconds,
            train_seconds,
            reveal_seconds,
            verdict_seconds,
        },
        checks: ChecksSpec {
            chunks: 16,
            score_sequences: (c.batch * c.inner_steps).clamp(1, 4),
            trusted_after: 20,
            ..smallest.checks
        },
        reward,
        funding: FundingSpec { goal: c.goal, joining_fee, ..smallest.funding },
        committee: c.validators,
        ..smallest
    };
    refuse(&watershed_rounds::faults(&spec))?;
    Ok(spec)
}

/// Refuses what nobody can train, with everything that is wrong with it.
pub(super) fn refuse(faults: &[Unfit]) -> Result<(), super::Failed> {
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    Err(format!("nobody can train this:\n{}", lines.join("\n")).into())
}

/// The file, with comments.
pub(super) fn file(spec: &RunSpec) -> Result<String, super::Failed> {
    let mut text =
        String::from("# A run of Watershed. `watershed-coordinator run open FILE` signs and opens it.\n\n");
    let (mut section, mut said) = (String::new(), Vec::new());
    for line in toml::to_string(spec)?.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        if let Some((name, comment)) = COMMENTS.iter().find(|(name, _)| *name == line)
            && !said.contains(&(*name, ""))
        {
            said.push((name, ""));
            text.push_str(comment);
            text.push('\n');
        }
        let field = line.split(" = ").next().unwrap_or_default();
        if let Some((of, name, comment)) =
            FIELDS.iter().find(|(of, name, _)| *of == section && *name == field)
            && !said.contains(&(*of, *name))
        {
            said.push((of, name));
            text.push_str(&format!("# {comment}\n"));
        }
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use watershed_protocol::{SecretKey, ShardSetId, SnapshotId, TokenizerId};

    use super::*;

    fn choices() -> Choices {
        let key = |n| SecretKey::from_entropy([n; 32]).unwrap().public();
        let member = |n| CommitteeMember { key: key(n), url: Some("http://127.0.0.1:7800".to_owned()) };
        Choices {
            title: "a title".to_owned(),
            preset: Preset::Nano,
            data: DataSpec {
                shards: ShardSetId::of(b"1"),
                snapshot: SnapshotId::of(b"2"),
                tokenizer: TokenizerId::of(b"3"),
                mixture: "narrative=10000".parse().unwrap(),
                sequence_length: 128,
                max_epochs: 100,
            },
            vocabulary: 256,
            rounds: 40,
            inner_steps: 60,
            batch: 8,
            peak_lr: 3e-3,
            top_k: 512,
            min_miners: 2,
            max_miners: 256,
            max_size: 1,
            min_accepted: 1,
            seconds: [120, 900, 300, 600],
            reward: Msat::new(1_000_000),
            verdict_fee: None,
            window: 144,
            goal: Msat::ZERO,
            validators: vec![member(1), member(2)],
            joining_fee: None,
            seed: 0,
        }
    }

    #[test]
    fn every_number_is_explained_and_the_file_is_the_specification() {
        let spec = specification(choices()).unwrap();
        let text = file(&spec).unwrap();
        assert_eq!(toml::from_str::<RunSpec>(&text).unwrap(), spec);
        let lines: Vec<&str> = text.lines().collect();
        let (mut section, mut committee, mut explained) = ("", 0, 0);
        for (before, line) in lines.iter().zip(&lines[1..]) {
            if line.starts_with('[') {
                section = line;
                committee += usize::from(section == "[[committee]]");
            }
            // The policy has a comment of its own; a second member is like the first.
            if line.contains(" = ") && section != "[checks]" && committee < 2 {
                assert!(before.starts_with("# "), "{line:?} is not explained");
                explained += 1;
            }
        }
        assert_eq!(explained, FIELDS.len(), "something is explained that is not there");
        assert!(lines.iter().all(|l| l.len() <= 140), "a line is too long to be read");
    }

    #[test]
    fn what_is_written_can_be_trained_whatever_the_size() {
        for (rounds, inner_steps) in [(1, 1), (5, 15), (3, 2), (40, 60), (1_000, 100)] {
            let spec = specification(Choices { rounds, inner_steps, ..choices() }).unwrap();
            assert!(spec.inner.warmup_steps <= rounds * inner_steps);
            assert_eq!(watershed_rounds::faults(&spec), []);
        }
    }

    #[test]
    fn joining_costs_what_a_first_task_pays_unless_somebody_says_otherwise() {
        let with = |reward, joining_fee| {
            specification(Choices { reward: Msat::new(reward), joining_fee, ..choices() }).unwrap().funding
        };
        assert_eq!(with(1_000_000, None).joining_fee, Msat::new(500_000));
        assert_eq!(with(1_000_001, None).joining_fee, Msat::new(501_000), "whole satoshis");
        assert_eq!(with(1_000_000, Some(Msat::ZERO)).joining_fee, Msat::ZERO);
        assert_eq!(with(1_000_000, Some(Msat::new(7_000))).joining_fee, Msat::new(7_000));
    }

    #[test]
    fn a_reward_outlives_its_round() {
        let with = |seconds, window| specification(Choices { seconds, window, ..choices() });
        assert!(with([120, 900, 300, 600], 7).is_ok());
        let refused = with([120, 900, 300, 600], 6).unwrap_err().to_string();
        assert!(refused.contains("reward.window"), "{refused}");
        assert!(with([600, 86_400, 600, 600], 144).is_err());
    }
}
