//! Whole markets of real programs, with a real bitcoind and real Lightning nodes.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use watershed_commons::log::{Folder, Log, LogError};
use watershed_commons::record::{RunTold, Runs};
use watershed_market::{MinerKind, Options, Summary, ValidatorKind, World, registers, stages};

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
        settings: stages([90, 180, 60, 120]),
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
    assert_eq!(
        summary.pledged_msat,
        summary.paid_msat + summary.fees_msat + summary.owed_msat + summary.left_msat
    );
}

/// The run, as the coordinator's log tells it.
async fn recorded(world: &World) -> RunTold {
    let key = world.client.info().await.unwrap().log.parse().unwrap();
    let log = Log::open(Folder(world.options.dir.join("coordinator/log")), &key).unwrap();
    let mut runs = Runs::default();
    let mut follow = |_: u64, bytes: &[u8]| -> Result<(), LogError> {
        runs.follow(bytes).unwrap();
        Ok(())
    };
    log.verify_entries(&mut follow).unwrap();
    runs.runs.remove(&world.run).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_proved_nothing_is_checked_by_all_and_others_by_few_without_replay() {
    let dir = tempfile::tempdir().unwrap();
    // Patience does not help a proven miner: what it opens is not what it sent.
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::cheating("miner-2", "scaled", 1)];
    let mut options = Options { rounds: 3, ..options(dir.path(), miners) };
    let third = ValidatorKind { name: "validator-3".to_owned(), falsehood: None };
    options.validators.push(third);
    options.settings.extend([("validators", 2), ("replay_share", 0), ("trusted_after", 1)]);
    let mut world = World::start(options, &|_| {}).await.unwrap();
    world.follow(LIMIT, &mut |_| {}).await.unwrap();
    let summary = world.summary(100).await.unwrap();
    assert!(summary.sound && summary.sums_agree, "{summary:?}");
    assert_eq!((summary.accepted, summary.rejected), (4, 2), "{summary:?}");

    let told = recorded(&world).await;
    let cheat = world.key_of("miner-2", "miner.key").unwrap();
    for work in told.works.values() {
        let (round, miner) = (work.assignment.round.0, work.assignment.miner);
        let holders: BTreeSet<_> = work.lots.iter().map(|lot| lot.validator).collect();
        let proven = round == 1 || round == 2 && miner != cheat;
        assert_eq!(holders.len(), if proven { 2 } else { 3 }, "round {round} of {miner}");
        assert_eq!(work.openings.len(), holders.len());
        assert!(
            work.openings.values().all(|asked| asked.step.is_none() == proven),
            "round {round} of {miner}"
        );
        assert_eq!(work.is_accepted(), round == 0 || miner != cheat);
    }
    assert_eq!(told.works.len(), 6);
    world.stop().unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_closes_names_the_miner_that_is_away_and_ends_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")];
    // Long enough that a miner is killed at work, short enough that its part is soon over.
    let (inner_steps, settings) = (200, stages([60, 30, 15, 30]));
    let options = Options { rounds: 1, inner_steps, settings, ..options(dir.path(), miners) };
    let mut world = World::start(options, &|_| {}).await.unwrap();
    let training = async |w: &World| {
        let stage = w.view().await?.round.map(|r| r.stage);
        Ok(stage.filter(|s| s == "training"))
    };
    world.until("the miners train", 120, training).await.unwrap();
    world.end("miner-1", "KILL").unwrap();
    let waiting = async |w: &World| {
        let view = w.view().await?;
        let rewards = view.waits_for.iter().find(|w| w.what == "rewards").map(|w| w.keys.clone());
        assert!(view.phase == "closing" || rewards.is_none(), "{view:?}");
        Ok(rewards.filter(|keys| keys.len() == 1))
    };
    let waits_for = world.until("the run waits for the one that is away", 180, waiting).await.unwrap();
    assert_eq!(waits_for, [world.key_of("miner-1", "miner.key").unwrap()]);
    for (name, told) in [("miner-1", true), ("miner-2", false)] {
        let data = world.options.dir.join(name).to_string_lossy().into_owned();
        let doctor = ["doctor", "--device", "cpu", "--data", &data];
        // It also finds that the wallet of one that runs is in use, and listens on this machine only.
        let said = match world.programs.output("watershed-miner", &doctor).await {
            Ok(said) => said,
            Err(e) => e.to_string(),
        };
        assert_eq!(said.contains("closes and waits for this miner"), told, "{name}: {said}");
    }
    world.revive("miner-1").unwrap();
    let summary = finished(world).await;
    assert_eq!((summary.accepted, earned(&summary, "miner-1")), (1, 0), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_submission_is_forgotten_proves_it_and_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")];
    let false_coordinator = Some("forget-submission".to_owned());
    let settings = stages([60, 90, 15, 45]);
    let options = Options { rounds: 60, false_coordinator, settings, ..options(dir.path(), miners) };
    let mut world = World::start(options, &|_| {}).await.unwrap();
    let denied = "signed that it took the reveal of round 0, and now says: the work was not shown in time";
    let leaves = async |w: &World| {
        let said = |name: &&str| w.said(name).contains(denied);
        Ok(["miner-1", "miner-2"].into_iter().find(said))
    };
    let cheated = world.until("a miner finds that it was cheated", 180, leaves).await.unwrap();
    world.leaves(cheated, LIMIT).await.unwrap();
    // A service that starts it again changes nothing.
    world.revive(cheated).unwrap();
    world.leaves(cheated, LIMIT).await.unwrap();
    let run = world.run.to_string();
    let data = world.options.dir.join("coordinator").to_string_lossy().into_owned();
    let cancel = ["--data", &data, "run", "cancel", &run, "--reason", "seen", "--coordinator", &world.url];
    world.programs.output("watershed-coordinator", &cancel).await.unwrap();
    world.follow(LIMIT, &mut |_| {}).await.unwrap();

    let told = recorded(&world).await;
    let key = world.key_of(cheated, "miner.key").unwrap();
    let works = told.works.values().filter(|w| w.assignment.miner == key).count();
    assert!(works <= 1, "it worked in {works} rounds");
    let broken = async |w: &World| {
        let (said, sound) = w.audit(&["--record-only"]).await?;
        Ok((!sound).then_some(said))
    };
    let said = world.until("the promise is due", 90, broken).await.unwrap();
    assert!(said.contains("lacks the message") && said.contains("signed by the coordinator"), "{said}");
    let summary = world.summary(0).await.unwrap();
    assert!(summary.sums_agree && summary.accepted > 0, "{summary:?}");
    assert_eq!(earned(&summary, cheated), 0);
    world.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_works_for_a_coordinator_that_rewrites_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")];
    let false_coordinator = Some("rewrites-history".to_owned());
    let options = Options { rounds: 60, inner_steps: 3, false_coordinator, ..options(dir.path(), miners) };
    let mut world = World::start(options, &|_| {}).await.unwrap();
    let stepped = async |w: &World| Ok((w.view().await?.checkpoints.len() > 1).then_some(()));
    world.until("the first checkpoint", 120, stepped).await.unwrap();
    let (said, sound) = world.audit(&["--record-only"]).await.unwrap();
    assert!(sound, "{said}");
    world.follow_out(LIMIT).await.unwrap();
    for name in ["miner-1", "miner-2", "validator-1", "validator-2"] {
        let said = world.said(name);
        assert!(said.contains("has rewritten its history"), "{name}: {said}");
    }
    // What was locked was judged by both validators, and is over: both books say the same.
    let summary = world.summary(0).await.unwrap();
    assert!(!summary.sound && summary.audit.contains("rewritten"), "{summary:?}");
    assert!(summary.sums_agree && summary.accepted > 0, "{summary:?}");
    let verdict_fee = summary.locked_msat / 100;
    assert_eq!(summary.fees_msat, 2 * verdict_fee, "{summary:?}");
    world.stop().unwrap();
}

/// The money of a run that is paid for must not wait because others, which nobody paid for, have names that come later.
#[tokio::test(flavor = "multi_thread")]
async fn a_funded_run_is_trained_at_once_whatever_collects_pledges_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { rounds: 1, goal: 7_000, ..options(dir.path(), Vec::new()) };
    let mut world = World::start(options, &|_| {}).await.unwrap();
    let file = std::fs::read_to_string(dir.path().join("run.toml")).unwrap();
    let data = dir.path().join("coordinator").to_string_lossy().into_owned();
    for n in 0..40 {
        let titled = file.lines().map(|line| match line.starts_with("title =") {
            true => format!("title = \"nobody pays for number {n}\""),
            false => line.to_owned(),
        });
        let path = dir.path().join("unpaid.toml");
        std::fs::write(&path, titled.collect::<Vec<_>>().join("\n")).unwrap();
        let open = ["--data", &data, "run", "open", &path.to_string_lossy(), "--coordinator", &world.url];
        world.programs.output("watershed-coordinator", &open).await.unwrap();
    }
    // All who work begin with what is there now.
    for name in ["validator-1", "validator-2"] {
        world.end(name, "KILL").unwrap();
        world.revive(name).unwrap();
    }
    world.add(&MinerKind::honest("miner-1", "cpu")).await.unwrap();
    let view = world.follow(Duration::from_secs(180), &mut |_| {}).await.unwrap();
    assert_eq!((view.end.as_str(), view.sums.accepted), ("finished", 1), "{view:?}");

    let runs = world.client.runs().await.unwrap();
    assert_eq!(runs.len(), 41);
    assert!(runs.is_sorted_by(|a, b| a.opened >= b.opened), "the newest first");
    assert_eq!(runs.last().unwrap().run, world.run);
    for run in &runs[..40] {
        assert_eq!((run.phase.as_str(), run.waits_for[0].what.as_str()), ("funding", "pledges"));
    }
    let show = ["--data", &data, "run", "show", "--coordinator", &world.url];
    let shown = world.programs.output("watershed-coordinator", &show).await.unwrap();
    assert_eq!(shown.matches("waits     for pledges").count(), 40, "{shown}");
    world.stop().unwrap();
}
