//! A record of many tasks is followed in a time that grows with it, not with its square.

use std::time::{Duration, Instant};

use watershed_commons::record::Runs;
use watershed_protocol::data::{Split, WindowSpec};
use watershed_protocol::market::{
    Assignment, Commitment, Entry, Message, Opened, Opening, Outcome, Reveal, RunSpec, StepClaim, Stepped,
    TermsOffered, TrajectoryHash, Verdict,
};
use watershed_protocol::{AssignmentId, Envelope, Msat, Preimage, PublicKey, RoundNumber, SecretKey, encode};

use crate::cast::{
    BATCH, REWARD, STEPS, TIERS, checkpoint, coordinator, digest, node, opened, spec, validator,
};

const ROUNDS: u32 = 20;
const MINERS: u32 = 1_000;

fn miner(n: u32) -> SecretKey {
    let mut entropy = [7; 32];
    entropy[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_entropy(entropy).unwrap()
}

fn task(spec: &RunSpec, round: u32, n: u32, miner: PublicKey, previous: Option<AssignmentId>) -> Assignment {
    let sequences = BATCH * STEPS;
    Assignment {
        run: spec.id().unwrap(),
        round: RoundNumber(round),
        miner,
        checkpoint: checkpoint(round),
        previous,
        window: WindowSpec {
            shards: spec.data.shards,
            split: Split::Train,
            mixture: spec.data.mixture,
            seed: spec.seed,
            sequence_length: spec.data.sequence_length,
            first: u64::from(round * MINERS + n) * u64::from(sequences),
            sequences,
            max_epochs: spec.data.max_epochs,
        },
        batch: BATCH,
        reward: Msat::new(REWARD),
    }
}

fn preimage(round: u32, n: u32, lot: u32) -> Preimage {
    let mut bytes = [9; 32];
    for (place, number) in [round, n, lot].into_iter().enumerate() {
        bytes[4 * place..4 * place + 4].copy_from_slice(&number.to_le_bytes());
    }
    Preimage::from_bytes(bytes)
}

/// Everybody gets a task in every round; the first miner alone does it.
fn told(spec: &RunSpec) -> Vec<Vec<u8>> {
    let run = spec.id().unwrap();
    let keys: Vec<SecretKey> = (0..MINERS).map(miner).collect();
    let publics: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    let validators = [0, 1].map(|v| validator(v).public());
    let signed = |message: &Message, key: &SecretKey| Entry::Message {
        envelope: Envelope::sign(message, key).unwrap(),
    };
    let stepped = |round: u32, accepted| {
        let (blob, checkpoint) = (digest("a file"), checkpoint(round));
        let round = RoundNumber(round);
        Entry::Checkpoint(Stepped { run, round, checkpoint, blob, velocity: None, accepted, loss: 0 })
    };
    let mut text = crate::cast::text(run);
    if let Entry::Text(text) = &mut text {
        text.shards = spec.data.shards;
    }
    let mut entries = vec![opened(spec, &coordinator()), text, stepped(0, Vec::new())];
    let mut last = None;
    for round in 0..ROUNDS {
        let mut id = None;
        for (n, public) in (0..).zip(&publics) {
            let assignment = task(spec, round, n, *public, last.filter(|_| n == 0));
            id = id.or(assignment.id().ok());
            let lot = |lot: u32| TermsOffered {
                validator: validators[(lot / TIERS) as usize],
                tier: lot % TIERS,
                hash: preimage(round, n, lot).hash(),
                amount: Msat::new(1_000 << (lot % TIERS)),
            };
            let lots = (0..2 * TIERS).map(lot).collect();
            entries.push(Entry::Assigned { assignment, lots, node: node(0).public() });
        }
        let assignment = id.unwrap();
        let (start, steps) =
            (digest("start"), vec![StepClaim { state: digest("state"), loss: 0 }; STEPS as usize]);
        let submission = Commitment::submission_of(publics[0], &round.to_le_bytes());
        let commitment = Commitment {
            assignment,
            submission,
            trajectory: TrajectoryHash::of(start, &steps),
            error_feedback: digest("error feedback"),
            moments: digest("moments"),
            updates: STEPS * (round + 1),
        };
        entries.push(signed(&Message::Commit(commitment), &keys[0]));
        entries.push(signed(
            &Message::Reveal(Reveal { assignment, blob: digest("upload"), start, steps }),
            &keys[0],
        ));
        let randomness = Verdict::randomness(run, RoundNumber(round), &mut [submission]);
        entries.push(Entry::Round { run, round: RoundNumber(round), shown: vec![assignment], randomness });
        let opening = Opening { assignment, step: Some(0), chunks: vec![0, 1] };
        entries.push(signed(&Message::Open(opening), &validator(0)));
        let (step, state, chunks) = (Some(0), Some(digest("a state")), digest("chunks"));
        let opened = Opened { assignment, validator: validators[0], step, state, chunks };
        entries.push(signed(&Message::Opened(opened), &keys[0]));
        let verdict = Verdict {
            assignment,
            submission,
            randomness,
            step: Some(0),
            chunks: vec![0, 1],
            score: Some(watershed_protocol::market::Score {
                own_before: 4,
                own_after: 3,
                unseen_before: 4,
                unseen_after: 3,
            }),
            outcome: Outcome::Earned { share: 1, preimages: vec![preimage(round, 0, 0)] },
        };
        entries.push(signed(&Message::Verdict(verdict), &validator(0)));
        entries.push(stepped(round + 1, vec![assignment]));
        last = Some(assignment);
    }
    entries.iter().map(|e| encode(e).unwrap()).collect()
}

#[test]
fn the_last_of_twenty_thousand_tasks_take_as_long_as_the_first() {
    let mut spec = spec();
    spec.rounds.count = ROUNDS;
    spec.rounds.max_miners = MINERS;
    spec.funding.goal = Msat::ZERO;
    let entries = told(&spec);
    let mut runs = Runs::default();
    let mut follow = |entries: &[Vec<u8>]| {
        let began = Instant::now();
        for entry in entries {
            runs.follow(entry).unwrap();
        }
        began.elapsed()
    };
    let part = entries.len() / 10;
    let first = follow(&entries[..part]);
    follow(&entries[part..9 * part]);
    let last = follow(&entries[9 * part..]);
    assert_eq!(runs.runs[&spec.id().unwrap()].works.len(), (ROUNDS * MINERS) as usize);
    println!("{} entries: the first tenth in {first:?}, the last in {last:?}", entries.len());
    // Looking at all tasks before for each would make it nineteen times as long.
    assert!(last < 6 * first + Duration::from_millis(500), "{first:?}, then {last:?}");
}
