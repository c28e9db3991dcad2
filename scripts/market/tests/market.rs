//! Whole markets of real programs, with a real bitcoind and real Lightning nodes.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::time::Duration;

use watershed_market::{MinerKind, Options, Summary, ValidatorKind, World, registers};

const LIMIT: Duration = Duration::from_secs(600);

fn options(dir: &Path, miners: Vec<MinerKind>) -> Options {
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo_text");
    let validator = |name: &str| ValidatorKind { name: name.to_owned(), falsehood: None };
    Options {
        dir: dir.to_owned(),
        texts: registers(&texts).unwrap(),
        miners,
        validators: vec![validator("validator-1"), validator("validator-2")],
        rounds: 2,
        inner_steps: 8,
        batch: 2,
        sequence: 64,
        reward: 1500,
        goal: 0,
        seconds: [90, 180, 60, 120],
        false_coordinator: None,
        keys_of: None,
    }
}

fn earned(summary: &Summary, name: &str) -> u64 {
    summary.miners.iter().find(|m| m.name == name).unwrap().earned_msat
}

async fn finished(mut world: World) -> Summary {
    world.follow(LIMIT, &mut |_| {}).await.unwrap();
    let summary = world.summary(100).await.unwrap();
    assert!(summary.sums_agree, "{summary:?}");
    assert!(summary.sound, "{summary:?}");
    world.stop().unwrap();
    summary
}

#[tokio::test(flavor = "multi_thread")]
async fn pledges_pay_for_work_that_was_done_and_for_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![
        MinerKind::honest("miner-1", "cpu"),
        MinerKind::honest("miner-2", "cpu"),
        MinerKind::cheating("miner-3", "zero", 0),
    ];
    let options = Options { rounds: 3, goal: 15_000, inner_steps: 15, ..options(dir.path(), miners) };
    let world = World::start(options, &|_| {}).await.unwrap();
    let summary = finished(world).await;
    assert_eq!(summary.end, "finished");
    assert!(summary.losses.windows(2).all(|w| w[1] < w[0]), "{:?}", summary.losses);
    assert_eq!(earned(&summary, "miner-3"), 0);
    assert!(earned(&summary, "miner-1") > 0 && earned(&summary, "miner-2") > 0);
    assert_eq!((summary.accepted, summary.rejected), (6, 3));
    assert_eq!(summary.pledged_msat, summary.paid_msat + summary.fees_msat + summary.left_msat);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_participants_reach_the_same_checkpoints_on_other_devices_and_in_another_order() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let small = |dir: &Path, miners, keys_of: Option<PathBuf>| Options {
        inner_steps: 3,
        batch: 1,
        sequence: 32,
        keys_of,
        ..options(dir, miners)
    };
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")];
    let first = World::start(small(one.path(), miners, None), &|_| {}).await.unwrap();
    let first = finished(first).await;
    // Through wgpu this time, which is a software device where there is no card.
    let miners = vec![MinerKind::honest("miner-2", "gpu"), MinerKind::honest("miner-1", "cpu")];
    let second = small(two.path(), miners, Some(one.path().to_owned()));
    let second = finished(World::start(second, &|_| {}).await.unwrap()).await;
    assert_eq!(first.checkpoint, second.checkpoint);
    assert_eq!(first.losses, second.losses);
    assert_ne!(first.run, second.run);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_comes_back_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")];
    let mut world = World::start(options(dir.path(), miners), &|_| {}).await.unwrap();
    // While miners train: a coordinator that is killed just as it locks may lose channels, which takes hundreds of blocks to
    // sort out. `scripts/soak market` kills at any moment.
    let training = async |w: &World| {
        let stage = w.view().await?.round.map(|r| r.stage);
        Ok(stage.filter(|s| s == "training"))
    };
    world.until("the miners train", 120, training).await.unwrap();
    for victim in ["miner-1", "coordinator", "validator-1", "miner-2"] {
        world.end(victim, "KILL").unwrap();
        world.revive(victim).unwrap();
    }
    world.bitcoind.as_mut().unwrap().restart("KILL", Duration::from_secs(1)).await.unwrap();
    let summary = finished(world).await;
    assert_eq!(summary.end, "finished");
    assert!(summary.paid_msat > 0);
}
