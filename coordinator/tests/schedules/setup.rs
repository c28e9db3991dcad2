//! Keys, the one envelope, and specifications of small runs.

use std::sync::OnceLock;

use watershed_protocol::market::{Command, OuterSpec, RewardSpec, RoundsSpec, RunSpec};
use watershed_protocol::{BasisPoints, Envelope, Msat, PublicKey, RunId, SecretKey};

use crate::Kind;
use crate::rng::Rng;

/// Blocks do not exist here: a lot is held for this many seconds.
pub(crate) const HOLD: u64 = 3_000;

/// Keys of somebody who has as many as it likes, with one node.
const CROWD: u8 = 7;

pub(crate) struct Cast {
    /// Signs specifications.
    pub(crate) coordinator: SecretKey,
    pub(crate) miners: Vec<PublicKey>,
    pub(crate) validators: Vec<PublicKey>,
    pub(crate) outsider: PublicKey,
    /// Two of each miner.
    pub(crate) nodes: Vec<[String; 2]>,
    /// The machine does not look at signatures, so one serves for everything.
    pub(crate) envelope: Envelope,
}

fn secret(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

/// Made once: keys take longer than everything else.
pub(crate) fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(|| {
        let node = |n: u8| format!("02{}@127.0.0.1:9735", secret(n).public());
        let pause = Command::Pause { run: RunId::from_bytes([0; 32]), at: 0 };
        Cast {
            coordinator: secret(21),
            miners: (1..=5).chain(100..=100 + CROWD).map(|n| secret(n).public()).collect(),
            validators: (11..=13).map(|n| secret(n).public()).collect(),
            outsider: secret(20).public(),
            nodes: (1..=5)
                .map(|n| [node(30 + n), node(40 + n)])
                .chain((0..=CROWD).map(|_| [node(99), node(99)]))
                .collect(),
            envelope: Envelope::sign(&pause, &secret(21)).unwrap(),
        }
    })
}

pub(crate) fn spec(rng: &mut Rng, kind: Kind) -> RunSpec {
    let max_miners = rng.small(1, 4);
    let min_miners = if kind == Kind::Honest { 1 } else { rng.small(1, max_miners.min(2)) };
    let validators = rng.between(1, 3);
    let funded = matches!(kind, Kind::Funded) || rng.chance(20);
    let committee = cast().validators.iter().take(usize::try_from(validators).unwrap());
    let mut spec = RunSpec::smallest(committee.copied());
    (spec.title, spec.seed) = ("a schedule".to_owned(), rng.next());
    spec.inner.steps = 2;
    spec.compression.top_k = 4;
    spec.outer = OuterSpec { rate: 0.7, momentum: 0.9 };
    spec.rounds = RoundsSpec {
        count: rng.small(1, 3),
        min_miners,
        max_miners,
        max_size: if rng.chance(50) { 1 } else { 2 },
        newcomers: BasisPoints::QUARTER,
        min_accepted: rng.small(1, max_miners.min(2)),
        lock_seconds: 600,
        train_seconds: 600,
        reveal_seconds: 400,
        verdict_seconds: 600,
    };
    spec.checks.validators = rng.small(0, 2);
    spec.checks.replay_share = if rng.chance(30) { BasisPoints::HALF } else { BasisPoints::WHOLE };
    spec.reward = RewardSpec {
        per_assignment: Msat::new(rng.between(1_000, 9_999)),
        tiers: rng.small(1, 3),
        held_back: rng
            .pick(&[BasisPoints::ZERO, BasisPoints::HALF, BasisPoints::try_from(9_000).unwrap()])
            .unwrap(),
        proven_after: rng.small(1, 2),
        verdict_fee: Msat::new(if rng.chance(50) { 0 } else { 17 }),
        ..spec.reward
    };
    if funded {
        // From what pays one round of the fewest miners to what pays all rounds of many.
        let task = spec.reward.per_assignment.msat() + 3 * spec.reward.verdict_fee.msat();
        let tasks = rng.between(u64::from(min_miners), 20);
        spec.funding.goal = Msat::new(task * tasks);
    }
    // Honest parties get on in time; the rest sometimes do not.
    spec.funding.idle_seconds = match kind {
        Kind::Honest => 10_000_000,
        _ if rng.chance(50) => 10_000_000,
        _ => rng.small(2_200, 30_000),
    };
    spec
}
