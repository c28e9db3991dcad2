//! What checking costs, as a share of doing the work: `scripts/bench validation`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::time::Instant;

use watershed_engine::device;
use watershed_engine::model::Preset;
use watershed_protocol::data::{Mixture, Split, WindowSpec};
use watershed_protocol::market::{Assignment, Commitment, InnerSpec, Reveal, RunSpec, TrajectoryHash};
use watershed_protocol::{Digest, Msat, RoundNumber, SecretKey, ShardSetId, decode, encode};
use watershed_rounds::{
    Carried, Claim, OpenedChunks, Workbench, data_spec, floats, model_spec, open_chunks, sha256,
};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

fn spec(preset: Preset, set: &OpenSet, mixture: Mixture, steps: u32, batch: u32) -> RunSpec {
    let mut spec = RunSpec::smallest([SecretKey::from_entropy([1; 32]).unwrap().public()]);
    spec.model = model_spec(&preset.config());
    spec.data = data_spec(set, mixture, 128, 100);
    spec.inner = InnerSpec { steps, batch, warmup_steps: 10, ..spec.inner };
    spec.compression.top_k = 512;
    (spec.rounds.count, spec.rounds.max_miners) = (10, 4);
    spec.checks.score_sequences = 4;
    (spec.reward.per_assignment, spec.reward.tiers) = (Msat::new(1_000_000), 4);
    spec
}

/// Seconds of the middle one of seven times: each is short beside what else a machine may do at that moment.
fn median(mut check: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..7)
        .map(|_| {
            let began = Instant::now();
            check();
            began.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[3]
}

fn measure(
    name: &str,
    preset: Preset,
    store: &Store,
    set: ShardSetId,
    mixture: Mixture,
    steps: u32,
    batch: u32,
) {
    let spec = spec(preset, &OpenSet::open(store, set).unwrap(), mixture, steps, batch);
    let mut bench = Workbench::new(&spec, store, &device::cpu()).unwrap();
    let miner = SecretKey::from_entropy([2; 32]).unwrap().public();
    let assignment = Assignment {
        run: spec.id().unwrap(),
        round: RoundNumber(0),
        miner,
        checkpoint: Digest([0; 32]),
        previous: None,
        window: WindowSpec {
            shards: set,
            split: Split::Train,
            mixture,
            seed: 0,
            sequence_length: 128,
            first: 0,
            sequences: steps * batch,
            max_epochs: 100,
        },
        batch,
        reward: Msat::new(1_000_000),
    };
    let checkpoint = bench.initial();
    let before = Carried::zero(checkpoint.len());
    let start = before.start(&checkpoint).unwrap();
    let (mut claims, mut middle) = (Vec::new(), None);
    let began = Instant::now();
    let end = bench
        .train(&assignment, &start, 0, &mut |step, claim, trainer| {
            claims.push(claim);
            if step + 1 == steps / 2 {
                middle = Some(trainer.state().unwrap());
            }
            ControlFlow::Continue(())
        })
        .unwrap()
        .state;
    let submission = bench.submit(&checkpoint, &end, &before).unwrap();
    let work = began.elapsed().as_secs_f64();
    let begun = Digest(start.digest().unwrap().0);
    let commitment = Commitment {
        assignment: assignment.id().unwrap(),
        submission: Commitment::submission_of(miner, &submission.encoded),
        trajectory: TrajectoryHash::of(begun, &claims),
        error_feedback: submission.carried.feedback_digest().unwrap(),
        moments: submission.carried.moments_digest().unwrap(),
        updates: submission.carried.updates,
    };
    let reveal = Reveal {
        assignment: commitment.assignment,
        blob: sha256(&submission.encoded),
        start: begun,
        steps: claims,
    };
    let chunks = spread(&bench, CHUNKS);
    let opened =
        encode(&open_chunks(&chunks, (&start, &end), (&before, &submission.carried)).unwrap()).unwrap();
    let state = middle.unwrap();
    let file = floats(&[&state.parameters, &state.first, &state.second]);
    let claim = Claim {
        assignment: &assignment,
        commitment: &commitment,
        reveal: &reveal,
        previous: None,
        encoded: &submission.encoded,
        checkpoint: &checkpoint,
    };
    let score = median(|| {
        assert_eq!(bench.check_reveal(&claim).unwrap(), Ok(()));
        let decoded = bench.decode(&submission.encoded).unwrap();
        bench.score(&assignment, &checkpoint, &decoded, Digest([7; 32])).unwrap();
    });
    let replay = median(|| {
        assert_eq!(bench.check_steps(&claim, steps / 2..steps / 2 + 1, &file).unwrap(), Ok(()));
    });
    let compression = median(|| {
        let opened: OpenedChunks = decode(&opened).unwrap();
        assert_eq!(bench.check_chunks(&claim, &chunks, &opened).unwrap(), Ok(()));
    });
    let all = score + replay + compression;
    let share = |seconds: f64| 100.0 * seconds / work;
    println!(
        "{name:<8} {steps:>4} {batch:>5} {work:>9.2} s {:>8.1} % {:>8.1} % {:>8.1} % {:>8.1} % {:>12}",
        share(score),
        share(replay),
        share(compression),
        share(all),
        submission.encoded.len(),
    );
    for count in [2, 16, 32, 64] {
        let chunks = spread(&bench, count);
        let began = Instant::now();
        let opened = open_chunks(&chunks, (&start, &end), (&before, &submission.carried)).unwrap();
        let opened = encode(&opened).unwrap();
        let opening = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let read: OpenedChunks = decode(&opened).unwrap();
        assert_eq!(bench.check_chunks(&claim, &chunks, &read).unwrap(), Ok(()));
        let checking = began.elapsed().as_secs_f64();
        println!(
            "         {count:>4} of {} chunks: the miner opens them in {:.1} % of the work, a validator checks them in {:.1} %; \
             {:.1} MB are sent, beside {:.1} MB of state",
            bench.chunks(),
            share(opening),
            share(checking),
            opened.len() as f64 / 1e6,
            file.len() as f64 / 1e6,
        );
    }
}

/// Chunks as `run new` has them opened.
const CHUNKS: u64 = 16;

/// As many chunks, all over the model.
fn spread(bench: &Workbench, count: u64) -> Vec<u64> {
    let all = bench.chunks();
    let count = count.min(all);
    (0..count).map(|n| n * all / count).collect()
}

fn main() {
    let library = std::env::var_os("WATERSHED_LIBRARY").map(std::path::PathBuf::from);
    let set = std::env::var("WATERSHED_SET").ok().and_then(|s| s.parse::<ShardSetId>().ok());
    let (Some(library), Some(set)) = (library, set) else {
        eprintln!("run `scripts/bench validation`: it makes a library and names its shard set");
        return;
    };
    let store = Store::new(&library);
    let opened = watershed_shards::shard::OpenSet::open(&store, set).unwrap();
    let mut tokens = [0; 7];
    for (register, tokens) in watershed_protocol::data::Register::ALL.iter().zip(&mut tokens) {
        *tokens = opened.set().tokens(*register, Split::Train);
    }
    let mixture = Mixture::natural(tokens).unwrap();
    println!(
        "{:<8} {:>4} {:>5} {:>11} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "model", "H", "batch", "the work", "score", "replay", "chunks", "in all", "bytes sent"
    );
    for (steps, batch) in [(15, 2), (30, 4), (60, 8)] {
        measure("nano", Preset::Nano, &store, set, mixture, steps, batch);
    }
    measure("micro", Preset::Micro, &store, set, mixture, 30, 4);
    println!("\nA miner that fakes a share of its inner steps is caught in a round with this probability:");
    println!("{:<10} {:>12} {:>12} {:>12} {:>12}", "faked", "1 validator", "2", "3", "2, 5 rounds");
    for faked in [0.01f64, 0.05, 0.1, 0.25, 0.5, 1.0] {
        let caught = |checks: i32| 100.0 * (1.0 - (1.0 - faked).powi(checks));
        println!(
            "{:<10} {:>10.1} % {:>10.1} % {:>10.1} % {:>10.1} %",
            format!("{:.0} %", faked * 100.0),
            caught(1),
            caught(2),
            caught(3),
            caught(10)
        );
    }
    println!(
        "\nA miner that alters one chunk of 196 (nano) after honest steps is caught in a round with this probability:"
    );
    println!("{:<10} {:>12} {:>12} {:>12} {:>12}", "opened", "1 validator", "2", "3", "2, 5 rounds");
    for opened in [2.0f64, 16.0, 32.0, 64.0] {
        let caught = |checks: i32| 100.0 * (1.0 - (1.0 - opened / 196.0).powi(checks));
        println!(
            "{:<10} {:>10.1} % {:>10.1} % {:>10.1} % {:>10.1} %",
            format!("{opened:.0} chunks"),
            caught(1),
            caught(2),
            caught(3),
            caught(10)
        );
    }
}
