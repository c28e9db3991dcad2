//! What every kind of cheating meets: markets with adversaries in them, and a table of what each gained.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use watershed_commons::client::from_text;
use watershed_market::{Failed, MinerKind, Options, Summary, ValidatorKind, World, registers, sat, stages};
use watershed_protocol::market::view::RunView;
use watershed_protocol::market::{Message, Outcome};

/// Lets adversaries loose on markets and prints what became of them.
#[derive(Parser)]
struct Args {
    /// Only groups whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// The texts, a folder for each register
    #[arg(long, default_value = "scripts/demo_text")]
    registers: PathBuf,
    /// Where everything is kept; removed first
    #[arg(long, default_value = "target/attacks")]
    dir: PathBuf,
    /// Rounds of each market
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// A market and who misbehaves in it.
struct Group {
    name: &'static str,
    /// Cheat and honest rounds before.
    cheats: &'static [(&'static str, u32)],
    validator: Option<&'static str>,
    coordinator: Option<&'static str>,
    promise: Promise,
}

impl Group {
    /// Whether everybody is to leave before the run is over.
    fn is_left(&self) -> bool {
        self.coordinator == Some("rewrites-history")
    }

    /// Whether honest miners leave, and so are offered less work than in other groups.
    fn some_leave(&self) -> bool {
        self.is_left() || self.coordinator == Some("forget-submission")
    }
}

/// The most that something may come to.
#[derive(Clone, Copy, PartialEq)]
enum Most {
    Nothing,
    /// One validator's half of the reward of so many miners, in every round.
    Half(u64),
    /// The same, in one round.
    HalfOnce(u64),
    /// It is a matter of luck.
    Any,
}

impl Most {
    fn allows(self, msat: u64, rounds: u32) -> bool {
        let half = REWARD * 1000 / 2;
        match self {
            Self::Nothing => msat == 0,
            Self::Half(miners) => msat <= half * miners * u64::from(rounds),
            Self::HalfOnce(miners) => msat <= half * miners,
            Self::Any => true,
        }
    }
}

/// What docs/MARKET.md promises of an attack. A promise that is not kept fails this program.
#[derive(Clone, Copy)]
struct Promise {
    /// What all cheats of the group gain together.
    gained: Most,
    /// What both honest miners lose together.
    lost: Most,
    /// Whether the audit finds that something false was signed; none if that is a matter of luck.
    fault: Option<bool>,
}

/// Nothing is gained, nobody loses, and everything that was signed is true.
const NOTHING: Promise = Promise { gained: Most::Nothing, lost: Most::Nothing, fault: Some(false) };

const GROUPS: &[Group] = &[
    Group {
        name: "no-work",
        cheats: &[("zero", 0), ("random", 0), ("stale", 1), ("zero", 1)],
        validator: None,
        coordinator: None,
        promise: NOTHING,
    },
    Group {
        name: "other-work",
        cheats: &[("scaled", 0), ("wrong-shard", 0), ("wrong-checkpoint", 0), ("low-precision", 0)],
        validator: None,
        coordinator: None,
        promise: NOTHING,
    },
    Group {
        name: "false-words",
        cheats: &[
            ("copied", 0),
            ("garbage", 0),
            ("oversize", 0),
            ("no-reveal", 0),
            ("other-reveal", 0),
            ("no-opening", 0),
        ],
        validator: None,
        coordinator: None,
        promise: NOTHING,
    },
    Group {
        // What is faked in part is found with a probability.
        name: "hidden-work",
        cheats: &[("skipped-steps", 0), ("selective-opening", 0), ("poisoned-chunk", 0)],
        validator: None,
        coordinator: None,
        promise: Promise { gained: Most::Any, fault: None, ..NOTHING },
    },
    Group {
        // Two places, and two that take them and decline. One honest miner at least works in every round that counts.
        name: "decliners",
        cheats: &[("declines", 0), ("takes-back", 0)],
        validator: None,
        coordinator: None,
        promise: Promise { lost: Most::Half(2), ..NOTHING },
    },
    Group {
        name: "colluding-validator",
        cheats: &[("zero", 0)],
        validator: Some("colluding"),
        coordinator: None,
        promise: Promise { gained: Most::Half(1), ..NOTHING },
    },
    Group {
        name: "lazy-validator",
        cheats: &[("zero", 0)],
        validator: Some("lazy"),
        coordinator: None,
        promise: Promise { gained: Most::Half(1), ..NOTHING },
    },
    Group {
        name: "lying-validator",
        cheats: &[],
        validator: Some("lying"),
        coordinator: None,
        promise: Promise { lost: Most::HalfOnce(2), ..NOTHING },
    },
    Group {
        name: "offline-validator",
        cheats: &[],
        validator: Some("offline"),
        coordinator: None,
        promise: Promise { lost: Most::Half(2), ..NOTHING },
    },
    Group {
        name: "swapped-checkpoint",
        cheats: &[],
        validator: None,
        coordinator: Some("swap-checkpoint"),
        promise: Promise { fault: Some(true), ..NOTHING },
    },
    Group {
        name: "dropped-submission",
        cheats: &[],
        validator: None,
        coordinator: Some("drop-submission"),
        promise: Promise { fault: Some(true), ..NOTHING },
    },
    Group {
        // It takes one submission in each round and forgets it. Who loses one works for it no more.
        name: "forgotten-submission",
        cheats: &[],
        validator: None,
        coordinator: Some("forget-submission"),
        promise: Promise { lost: Most::HalfOnce(2), fault: Some(true), ..NOTHING },
    },
    Group {
        // Nobody works for it any more, so its run does not end.
        name: "rewritten-history",
        cheats: &[],
        validator: None,
        coordinator: Some("rewrites-history"),
        promise: Promise { fault: Some(true), ..NOTHING },
    },
    Group {
        name: "withheld-secrets",
        cheats: &[],
        validator: None,
        coordinator: Some("withhold-secrets"),
        promise: NOTHING,
    },
    Group {
        name: "early-judged",
        cheats: &[],
        validator: None,
        coordinator: Some("early-judged"),
        promise: NOTHING,
    },
];

const REWARD: u64 = 1500;

/// Rounds of a run whose participants are to leave before it is over.
const MANY_ROUNDS: u32 = 60;

fn options(args: &Args, group: &Group) -> Result<Options, Failed> {
    std::fs::create_dir_all(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?;
    let dir =
        std::fs::canonicalize(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?.join(group.name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(Failed::io(dir.to_string_lossy()))?;
    }
    let mut miners = vec![MinerKind::honest("honest-1", "cpu"), MinerKind::honest("honest-2", "cpu")];
    for (cheat, after) in group.cheats {
        let name = if *after > 0 { format!("{cheat}-after-{after}") } else { (*cheat).to_owned() };
        miners.push(MinerKind::cheating(&name, cheat, *after));
    }
    let validators = vec![
        ValidatorKind { name: "validator-1".to_owned(), falsehood: None },
        ValidatorKind { name: "validator-2".to_owned(), falsehood: group.validator.map(str::to_owned) },
    ];
    let mut settings = stages([60, 90, 15, 45]);
    if group.name == "decliners" {
        settings.extend([("min_miners", 1), ("max_miners", 2), ("held_back", 5_000)]);
    }
    if group.some_leave() {
        // Who stays works on alone.
        settings.push(("min_miners", 1));
    }
    Ok(Options {
        dir,
        texts: registers(&args.registers)?,
        goal: 0,
        miners,
        validators,
        rounds: if group.is_left() { MANY_ROUNDS } else { args.rounds },
        inner_steps: 12,
        batch: 2,
        sequence: 64,
        reward: REWARD,
        settings,
        false_coordinator: group.coordinator.map(str::to_owned),
        keys_of: None,
    })
}

/// Why each miner's work was not counted, in words.
async fn reasons(world: &World, found: &mut BTreeMap<String, Vec<String>>) -> Result<(), Failed> {
    for kind in &world.options.miners {
        let Ok(key) = world.key_of(&kind.name, "miner.key") else { continue };
        let Ok(view) = world.client.miner(world.run, key, u64::MAX).await else { continue };
        let said = found.entry(kind.name.clone()).or_default();
        for work in view.works {
            let mut add = |reason: String| {
                // Numbers differ from round to round.
                let reason: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
                if !reason.is_empty() && !said.contains(&reason) {
                    said.push(reason);
                }
            };
            add(work.reason.clone());
            for verdict in &work.verdicts {
                let opened = from_text(verdict).and_then(|e| e.open::<Message>().ok());
                if let Some(Message::Verdict(v)) = opened.map(|o| o.into_value())
                    && let Outcome::Rejected(fault) = v.outcome
                {
                    add(fault.to_string());
                }
            }
        }
    }
    Ok(())
}

struct Row {
    attack: String,
    caught: String,
    gained: u64,
    harmed: u64,
}

fn rows(group: &Group, summary: &Summary, reasons: &BTreeMap<String, Vec<String>>, rounds: u32) -> Vec<Row> {
    let honest = summary.miners.iter().filter(|m| m.cheat.is_none());
    let harmed = if group.some_leave() {
        // Whoever leaves loses no round that was never begun, but its part of a reward for every verdict that is missing. A
        // verdict's fee is a hundredth of the reward.
        let (tasks, verdicts) = (summary.locked_msat / (REWARD * 1000), summary.fees_msat / (REWARD * 10));
        (2 * tasks).saturating_sub(verdicts) * REWARD * 1000 / 2
    } else {
        let whole = REWARD * 1000 * u64::from(rounds);
        honest.map(|m| whole.saturating_sub(m.earned_msat)).sum()
    };
    let mut rows = Vec::new();
    for miner in summary.miners.iter().filter(|m| m.cheat.is_some()) {
        let after = group.cheats.iter().find(|(c, a)| {
            let name = if *a > 0 { format!("{c}-after-{a}") } else { (*c).to_owned() };
            name == miner.name
        });
        // What it earned while it was honest is its own.
        let own = after.map_or(0, |(_, after)| u64::from(*after)) * REWARD * 1000;
        let caught = reasons.get(&miner.name).map(|r| r.join("; ")).unwrap_or_default();
        let gained = miner.earned_msat.saturating_sub(own);
        rows.push(Row { attack: miner.name.clone(), caught, gained, harmed });
    }
    if group.validator.is_some() || group.coordinator.is_some() {
        let caught = if summary.sound {
            "audit: nothing false was signed".to_owned()
        } else {
            format!("audit: {}", summary.audit)
        };
        rows.push(Row { attack: group.name.to_owned(), caught, gained: 0, harmed });
    }
    rows
}

/// One market. Counts in `broken` what is not as promised.
async fn attack(args: &Args, group: &Group, broken: &mut u32) -> Result<Vec<Row>, Failed> {
    println!("\n== {}", group.name);
    let mut world = World::start(options(args, group)?, &|_| {}).await?;
    let mut found = BTreeMap::new();
    let limit = Duration::from_secs(900);
    if group.is_left() {
        // Somebody looks at the record before, and again at the end.
        let stepped = async |w: &World| Ok((w.view().await?.checkpoints.len() > 1).then_some(()));
        world.until("the first checkpoint", limit.as_secs(), stepped).await?;
        world.audit(&["--record-only"]).await?;
        world.follow_out(limit).await?;
    } else {
        let mut ignore = |_: &RunView| {};
        let follow = world.follow(limit, &mut ignore);
        tokio::pin!(follow);
        // Reasons are looked at in every round: a coordinator shows recent work only.
        loop {
            tokio::select! {
                done = &mut follow => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => reasons(&world, &mut found).await?,
            }
        }
    }
    reasons(&world, &mut found).await?;
    if group.promise.fault == Some(true) {
        // A coordinator has a minute to write down what it took.
        let fault = async |w: &World| Ok((!w.audit(&[]).await?.1).then_some(()));
        if let Err(e) = world.until("a fault that the audit finds", 90, fault).await {
            println!("{e}");
        }
    }
    let summary = world.summary(100).await?;
    println!(
        "{} accepted, {} rejected; books agree: {}; audit: {}",
        summary.accepted, summary.rejected, summary.sums_agree, summary.audit
    );
    let rows = rows(group, &summary, &found, args.rounds);
    world.stop()?;
    let gained = rows.iter().map(|r| r.gained).sum();
    let lost = rows.first().map_or(0, |r| r.harmed);
    let Promise { gained: most_gained, lost: most_lost, fault } = group.promise;
    for (kept, what) in [
        (summary.sums_agree, "the miners' books do not agree with the coordinator's"),
        (most_gained.allows(gained, args.rounds), "more was gained than should be"),
        (most_lost.allows(lost, args.rounds), "honest miners lost more than should be"),
        (fault.is_none_or(|fault| fault != summary.sound), "the audit does not find what it should"),
    ] {
        if !kept {
            println!("NOT AS PROMISED: {what} (gained {}, lost {})", sat(gained), sat(lost));
            *broken += 1;
        }
    }
    Ok(rows)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let (mut all, mut broken) = (Vec::new(), 0);
        for group in GROUPS.iter().filter(|g| g.name.contains(&args.only)) {
            all.extend(attack(&args, group, &mut broken).await?);
        }
        Ok::<_, Failed>((all, broken))
    });
    match outcome {
        Ok((rows, broken)) => {
            println!("\n{:<20} {:>10} {:>14}  caught by", "attack", "gained", "honest lost");
            for row in rows {
                println!(
                    "{:<20} {:>10} {:>14}  {}",
                    row.attack,
                    sat(row.gained),
                    sat(row.harmed),
                    row.caught
                );
            }
            match broken {
                0 => ExitCode::SUCCESS,
                n => {
                    eprintln!("error: {n} promises were not kept");
                    ExitCode::FAILURE
                }
            }
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
