//! The demo: the whole market on one machine, from a sponsor's pledge to an audited model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use watershed_market::{Failed, MinerKind, Options, Summary, ValidatorKind, World, registers, sat, stages};
use watershed_protocol::data::Register;
use watershed_protocol::market::view::RunView;

/// The whole market on one machine: a sponsor pays, miners train, one of them cheats, validators check.
#[derive(Parser)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Miners; the last one cheats
    #[arg(long, default_value_t = 3)]
    miners: usize,
    /// What the cheater does (`watershed-adversary --help` lists what it can)
    #[arg(long, default_value = "zero")]
    cheat: String,
    /// Folder with text of your own instead of the demo's
    #[arg(long)]
    text: Option<PathBuf>,
    /// The demo's texts, a folder for each register
    #[arg(long, default_value = "scripts/demo_text")]
    registers: PathBuf,
    /// The second miner's device: gpu if there is one
    #[arg(long, default_value = "auto")]
    device: String,
    /// Where everything is kept; removed first
    #[arg(long, default_value = "target/demo/market")]
    dir: PathBuf,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Stop everything at the end instead of staying up
    #[arg(long)]
    exit: bool,
}

/// A person's own text: folders that are named for a register are that, everything else is narrative.
fn own_text(folder: &Path) -> Result<Vec<(PathBuf, String)>, Failed> {
    let known = |name: &str| name.parse::<Register>().is_ok();
    let named: Vec<(PathBuf, String)> =
        registers(folder)?.into_iter().filter(|(path, name)| path.is_dir() && known(name)).collect();
    Ok(if named.is_empty() { vec![(folder.to_owned(), Register::Narrative.to_string())] } else { named })
}

fn options(args: &Args) -> Result<Options, Failed> {
    if args.dir.exists() {
        std::fs::remove_dir_all(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?;
    }
    std::fs::create_dir_all(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?;
    let dir = std::fs::canonicalize(&args.dir).map_err(Failed::io(args.dir.to_string_lossy()))?;
    let texts = match &args.text {
        Some(folder) => own_text(folder)?,
        None => registers(&args.registers)?,
    };
    let count = args.miners.max(2);
    let mut miners = vec![MinerKind::honest("miner-1", "cpu")];
    for i in 2..count {
        miners.push(MinerKind::honest(&format!("miner-{i}"), if i == 2 { &args.device } else { "cpu" }));
    }
    miners.push(MinerKind::cheating(&format!("miner-{count}"), &args.cheat, 0));
    let validator = |name: &str| ValidatorKind { name: name.to_owned(), falsehood: None };
    let reward = 1500;
    let rounds = args.rounds.max(1);
    Ok(Options {
        dir,
        texts,
        goal: (reward + 2 * reward / 100) * u64::from(rounds) * count as u64 + 1000,
        miners,
        validators: vec![validator("validator-1"), validator("validator-2")],
        rounds,
        inner_steps: 30,
        batch: 4,
        sequence: 128,
        reward,
        settings: stages([60, 300, 60, 120]),
        false_coordinator: None,
        keys_of: None,
    })
}

fn say(text: &str) {
    println!("\n== {text}");
}

/// Tells what changed.
fn progress(before: Option<&RunView>, now: &RunView) {
    let stage = |v: &RunView| v.round.as_ref().map(|r| (r.number, r.stage.clone()));
    if before.map(|b| b.phase.as_str()) != Some(now.phase.as_str()) {
        println!("run is {}", now.phase);
    }
    if before.and_then(stage) != stage(now)
        && let Some((number, stage)) = stage(now)
    {
        println!("round {number}: {stage}");
    }
    let known = before.map_or(0, |b| b.checkpoints.len());
    for c in now.checkpoints.iter().skip(known) {
        let loss = f32::from_bits(c.loss_bits);
        let hash: String = c.checkpoint.to_string().chars().take(16).collect();
        println!(
            "loss {loss:.4} after {} rounds, with {} submissions; checkpoint {hash}...",
            c.round.0,
            c.accepted.len()
        );
    }
}

fn tell(s: &Summary) {
    say("what came of it");
    for (rounds, loss) in s.losses.iter().enumerate() {
        println!("loss on text that nobody trained on, after {rounds} rounds: {loss:.4}");
    }
    println!("pledged   {:>12}", sat(s.pledged_msat));
    println!("locked    {:>12}   before any work began", sat(s.locked_msat));
    println!("settled   {:>12}   paid for work that was found right", sat(s.paid_msat));
    println!("returned  {:>12}   for work that was not", sat(s.back_msat));
    println!("verdicts  {:>12}   credited to the validators", sat(s.fees_msat));
    if s.owed_msat > 0 {
        println!("held back {:>12}   until the end, and paid then", sat(s.owed_msat));
    }
    println!("left      {:>12}   the sponsor's", sat(s.left_msat));
    for m in &s.miners {
        let what = m.cheat.as_ref().map_or("worked".to_owned(), |c| format!("cheated ({c})"));
        println!("{:<9} {:>12}   {what}", m.name, sat(m.earned_msat));
    }
    println!(
        "{} submissions accepted, {} rejected; the miners' own books agree: {}",
        s.accepted, s.rejected, s.sums_agree
    );
    println!("audit     {}", s.audit);
    println!("files     {}", s.folder);
}

/// What the demo promises.
fn check(s: &Summary) -> Result<(), Failed> {
    let wrong = |what: &str| Err(Failed::Answer(format!("this should not be: {what}")));
    if !s.sound {
        return wrong("the audit found a fault");
    }
    if !s.sums_agree || s.pledged_msat != s.paid_msat + s.fees_msat + s.owed_msat + s.left_msat {
        return wrong("the sats do not add up");
    }
    if s.miners.iter().any(|m| m.cheat.is_some() && m.earned_msat > 0) {
        return wrong("the cheater was paid");
    }
    if s.miners.iter().any(|m| m.cheat.is_none() && m.earned_msat == 0) {
        return wrong("an honest miner was not paid");
    }
    if s.losses.windows(2).any(|w| w[1] >= w[0]) {
        return wrong("the loss did not fall in every round");
    }
    Ok(())
}

/// Follows the run to its end, and says what came of it.
async fn watch(args: &Args, world: &mut World) -> Result<(), Failed> {
    let limit = Duration::from_secs(120 + u64::from(world.options.rounds) * 300);
    say(&format!("miners work; watch at {}/runs/{}", world.url, world.run));
    let mut last: Option<RunView> = None;
    let mut told = |now: &RunView| {
        progress(last.as_ref(), now);
        last = Some(now.clone());
    };
    world.follow(limit, &mut told).await?;
    say("the audit: everything that was signed is followed, everything that was computed is computed again");
    let summary = world.summary(100).await?;
    tell(&summary);
    if let Some(path) = &args.summary {
        let text = serde_json::to_string_pretty(&summary).map_err(|e| Failed::Answer(e.to_string()))?;
        std::fs::write(path, text).map_err(Failed::io(path.to_string_lossy()))?;
    }
    check(&summary)
}

async fn demo(args: &Args) -> Result<(), Failed> {
    let stopped = watershed_payments::cli::stop_signal();
    tokio::pin!(stopped);
    let mut world = tokio::select! {
        world = World::start(options(args)?, &say) => world?,
        () = &mut stopped => return Err(Failed::Answer("stopped before anything had begun".to_owned())),
    };
    let kept = tokio::select! {
        kept = watch(args, &mut world) => Some(kept),
        () = &mut stopped => None,
    };
    let outcome = match kept {
        Some(kept) if args.exit => kept,
        Some(kept) => {
            if let Err(e) = &kept {
                eprintln!("error: {e}");
            }
            say(&format!("everything stays up at {}; Ctrl-C stops it", world.url));
            stopped.await;
            kept
        }
        None => Err(Failed::Answer("stopped before the end".to_owned())),
    };
    say("stopping everything");
    world.stop()?;
    outcome
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
    let outcome = runtime.block_on(demo(&args));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
