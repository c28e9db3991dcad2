//! Kills processes of a market with SIGKILL at random moments, run after run, and looks whether anything was lost.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use watershed_market::{Failed, MinerKind, Options, ValidatorKind, World, registers, stages};

/// Kills coordinator, miners, validators and bitcoind while runs go on.
#[derive(Parser)]
struct Args {
    /// How often something is killed, in all
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Seed of the moments and victims
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds of each run
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The texts, a folder for each register
    #[arg(long, default_value = "scripts/demo_text")]
    registers: PathBuf,
    /// Where everything is kept; removed first
    #[arg(long, default_value = "target/soak")]
    dir: PathBuf,
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const VICTIMS: [&str; 6] = ["coordinator", "miner-1", "miner-2", "validator-1", "validator-2", "bitcoind"];

/// What an assignment pays, in sat.
const REWARD: u64 = 1500;

fn options(args: &Args, number: u32) -> Result<Options, Failed> {
    std::fs::create_dir_all(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?;
    let dir = std::fs::canonicalize(&args.dir)
        .map_err(Failed::io(args.dir.to_string_lossy()))?
        .join(format!("run-{number}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(Failed::io(dir.to_string_lossy()))?;
    }
    let validator = |name: &str| ValidatorKind { name: name.to_owned(), falsehood: None };
    Ok(Options {
        dir,
        texts: registers(&args.registers)?,
        miners: vec![MinerKind::honest("miner-1", "cpu"), MinerKind::honest("miner-2", "cpu")],
        validators: vec![validator("validator-1"), validator("validator-2")],
        rounds: args.rounds,
        inner_steps: 20,
        batch: 2,
        sequence: 64,
        reward: REWARD,
        // Twice of what two miners and two verdicts each cost: a round whose miners were killed is paid again.
        goal: 2 * 2 * (REWARD + 2 * REWARD / 100) * u64::from(args.rounds),
        settings: stages([60, 90, 45, 90]),
        false_coordinator: None,
        keys_of: None,
    })
}

/// Kills one process, waits a little, and starts it again.
async fn kill(world: &mut World, random: &mut Random) -> Result<String, Failed> {
    let victim = VICTIMS[random.below(VICTIMS.len() as u64) as usize];
    let pause = Duration::from_millis(random.below(3000));
    if victim == "bitcoind" {
        if let Some(bitcoind) = &mut world.bitcoind {
            bitcoind.restart("KILL", pause).await?;
        }
    } else {
        world.end(victim, "KILL")?;
        tokio::time::sleep(pause).await;
        world.revive(victim)?;
    }
    Ok(victim.to_owned())
}

/// One run; how often something was killed in it.
async fn run(args: &Args, number: u32, left: u32, random: &mut Random) -> Result<u32, Failed> {
    let began = Instant::now();
    let mut world = World::start(options(args, number)?, &|_| {}).await?;
    let mut killed: Vec<String> = Vec::new();
    while (killed.len() as u32) < left {
        tokio::time::sleep(Duration::from_millis(500 + random.below(6000))).await;
        let ended = world.view().await.is_ok_and(|v| v.phase == "ended" || v.phase == "closing");
        if ended {
            break;
        }
        killed.push(kill(&mut world, random).await?);
    }
    let view = world.follow(Duration::from_secs(1200), &mut |_| {}).await?;
    // What miners are owed is theirs a moment after the run has ended.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let summary = world.summary(100).await?;
    let wallet = world.options.dir.join("coordinator/wallet").to_string_lossy().into_owned();
    let books =
        world.programs.output("watershed-payments", &["--data", &wallet, "ledger", "reconcile"]).await;
    println!(
        "run {number}: {} kills in {:.0} s ({}); {} of {} rounds, {} accepted, pledged {}, paid {}, back {}; books agree: {}; ledger: {}; {}",
        killed.len(),
        began.elapsed().as_secs_f64(),
        killed.join(" "),
        view.rounds_done,
        view.rounds,
        summary.accepted,
        summary.pledged_msat / 1000,
        summary.paid_msat / 1000,
        summary.back_msat / 1000,
        summary.sums_agree,
        if books.is_ok() { "exact" } else { "differs" },
        summary.audit,
    );
    let whole =
        summary.pledged_msat == summary.paid_msat + summary.fees_msat + summary.owed_msat + summary.left_msat;
    if !summary.sums_agree || !summary.sound || !whole {
        return Err(Failed::Answer(format!(
            "something was lost; everything is in {}",
            world.options.dir.display()
        )));
    }
    books?;
    world.stop()?;
    Ok(killed.len() as u32)
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
        let mut random = Random(args.seed);
        let (mut kills, mut runs) = (0, 0);
        while kills < args.kills {
            runs += 1;
            kills += run(&args, runs, args.kills - kills, &mut random).await?;
        }
        println!("{kills} kills in {runs} runs: every run ended, nothing was lost, nothing was paid twice");
        Ok::<_, Failed>(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
