//! Who takes part, and in what run.

use watershed_protocol::data::{Split, WindowSpec};
use watershed_protocol::market::{
    Assignment, DataSpec, Entry, RewardSpec, RoundsSpec, RunSpec, TermsOffered, TextSource,
};
use watershed_protocol::{
    Digest, Domain, Envelope, Msat, Preimage, PublicKey, RoundNumber, RunId, SecretKey, ShardSetId,
    SnapshotId, TokenizerId,
};

pub(crate) const ROUNDS: u32 = 2;
pub(crate) const STEPS: u32 = 3;
pub(crate) const BATCH: u32 = 2;
pub(crate) const TIERS: u32 = 3;
/// Two parts of 1000, 2000 and 4000.
pub(crate) const REWARD: u64 = 14_000;
pub(crate) const FEE: u64 = 10;
pub(crate) const PLEDGES: [u64; 2] = [60_000, 40_001];
pub(crate) const PLEDGED: u64 = 100_001;
/// Shares of seven that a miner earns in a round; none for work that is wrong.
pub(crate) const SHARES: [[u32; 2]; 2] = [[7, 5], [7, 0]];
/// A thousand msat from each validator for each step of the shares.
pub(crate) const PAID: u64 = 2 * 19 * 1_000;
pub(crate) const LEFT: u64 = PLEDGED - PAID - 8 * FEE - 1;

fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

pub(crate) fn coordinator() -> SecretKey {
    key(1)
}

pub(crate) fn stranger() -> SecretKey {
    key(2)
}

/// Ascending by public key, which is the order of lots.
pub(crate) fn validator(n: usize) -> SecretKey {
    let mut keys = [key(10), key(11)];
    keys.sort_by_key(SecretKey::public);
    keys[n]
}

pub(crate) fn miner(n: usize) -> SecretKey {
    [key(20), key(21)][n]
}

/// Its Lightning node.
pub(crate) fn node(n: usize) -> SecretKey {
    [key(30), key(31)][n]
}

/// Something of 32 bytes that has no meaning here.
pub(crate) fn digest(what: &str) -> Digest {
    Domain::Text.hash(what.as_bytes())
}

pub(crate) fn secret(round: u32, miner: usize, validator: usize, tier: u32) -> Preimage {
    Preimage::from_bytes(digest(&format!("secret {round} {miner} {validator} {tier}")).0)
}

pub(crate) fn spec() -> RunSpec {
    let mut spec = RunSpec::smallest([0, 1].map(|n| validator(n).public()));
    spec.title = "a run that is only told".to_owned();
    spec.seed = 5;
    spec.model.max_seq = 32;
    spec.data = DataSpec {
        shards: ShardSetId::of(b"a shard set"),
        snapshot: SnapshotId::of(b"a snapshot"),
        tokenizer: TokenizerId::of(b"a tokenizer"),
        mixture: "narrative=4000,technical=6000".parse().unwrap(),
        sequence_length: 32,
        max_epochs: 4,
    };
    (spec.inner.steps, spec.inner.batch) = (STEPS, BATCH);
    spec.rounds = RoundsSpec { count: ROUNDS, min_miners: 2, max_miners: 2, max_size: 4, ..spec.rounds };
    spec.checks.score_sequences = 2;
    spec.reward = RewardSpec {
        per_assignment: Msat::new(REWARD),
        tiers: TIERS,
        verdict_fee: Msat::new(FEE),
        ..spec.reward
    };
    spec.funding.goal = Msat::new(100_000);
    spec
}

pub(crate) fn other_spec() -> RunSpec {
    RunSpec { seed: 6, ..spec() }
}

pub(crate) fn run() -> RunId {
    spec().id().unwrap()
}

pub(crate) fn opened(spec: &RunSpec, signer: &SecretKey) -> Entry {
    Entry::Run { spec: Envelope::sign(spec, signer).unwrap() }
}

/// What a run of this specification's text trains on.
pub(crate) fn text(run: RunId) -> Entry {
    Entry::Text(TextSource {
        run,
        shards: spec().data.shards,
        set: digest("set"),
        snapshot: SnapshotId::of(b"a snapshot"),
        tokenizer: TokenizerId::of(b"a tokenizer"),
        index: digest("index"),
        consents: Some(digest("consents")),
    })
}

/// The parameters with which a round begins.
pub(crate) fn checkpoint(round: u32) -> Digest {
    digest(&format!("checkpoint {round}"))
}

/// A miner's task, but for what it continues.
pub(crate) fn task(round: u32, miner: PublicKey, first: u64) -> Assignment {
    let spec = spec();
    Assignment {
        run: run(),
        round: RoundNumber(round),
        miner,
        checkpoint: checkpoint(round),
        previous: None,
        window: WindowSpec {
            shards: spec.data.shards,
            split: Split::Train,
            mixture: spec.data.mixture,
            seed: spec.seed,
            sequence_length: spec.data.sequence_length,
            first,
            sequences: BATCH * STEPS,
            max_epochs: spec.data.max_epochs,
        },
        batch: BATCH,
        reward: Msat::new(REWARD),
    }
}

pub(crate) fn lots(round: u32, miner: usize) -> Vec<TermsOffered> {
    let lot = |v: usize, tier: u32| TermsOffered {
        validator: validator(v).public(),
        tier,
        hash: secret(round, miner, v, tier).hash(),
        amount: Msat::new(1_000 << tier),
    };
    (0..2).flat_map(|v| (0..TIERS).map(move |tier| lot(v, tier))).collect()
}
