//! `run`: new, open, show, pause, resume, cancel.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use watershed_commons::client::Client;
use watershed_engine::model::Preset;
use watershed_protocol::data::{Mixture, Register, Split};
use watershed_protocol::market::view::RunView;
use watershed_protocol::market::{Command, CommitteeMember};
use watershed_protocol::{Envelope, Msat, PublicKey, RunId, ShardSetId};
use watershed_rounds::{data_spec, faults, faults_with_text};
use watershed_shards::library::Store;
use watershed_shards::shard::OpenSet;

use super::check::{check, read, time};
use super::template::{Choices, file, refuse, specification};
use super::{Failed, Home, Outcome};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Where {
    /// The running coordinator
    #[arg(
        long,
        default_value = "http://127.0.0.1:7700",
        env = "WATERSHED_COORDINATOR_URL",
        value_name = "URL"
    )]
    coordinator: String,
}

#[derive(clap::Args, Clone, Debug)]
pub(super) struct NewArgs {
    /// Shard set to train on (`watershed-shards build` prints it)
    #[arg(long)]
    set: ShardSetId,
    /// Library with the shard set [default: that of `watershed-shards`]
    #[arg(long, env = "WATERSHED_LIBRARY", value_name = "DIR")]
    library: Option<PathBuf>,
    /// Key of a validator, or KEY@URL if it gives out its verdicts itself; may be given more than once
    #[arg(long = "validator", required = true, value_name = "KEY[@URL]")]
    validators: Vec<String>,
    /// For people
    #[arg(long, default_value = "A run")]
    title: String,
    /// Size of the model: nano, micro or small
    #[arg(long, default_value = "nano")]
    preset: Preset,
    /// Shares of the registers, such as narrative=4000,technical=6000 [default: as much as there is of each]
    #[arg(long)]
    mixture: Option<Mixture>,
    /// Rounds
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// AdamW steps of a miner in a round
    #[arg(long, visible_alias = "steps", default_value_t = 60)]
    inner_steps: u32,
    /// Tokens of a sequence [default: nano 128, micro 512, small 1024]
    #[arg(long)]
    sequence: Option<u32>,
    /// Sequences of a step [default: nano and micro 8, small 2]
    #[arg(long)]
    batch: Option<u32>,
    /// Miners that a round waits for
    #[arg(long, default_value_t = 2)]
    min_miners: u32,
    /// Most miners in a round: of more, those that owe nothing and have proved themselves, and some newcomers
    #[arg(long, default_value_t = 256)]
    max_miners: u32,
    /// Most batches at once that a fast miner is given, for as many times the reward: 1, 2, 4, 8 or 16
    #[arg(long, default_value_t = 1)]
    max_size: u32,
    /// Accepted submissions without which a round makes no step
    #[arg(long, default_value_t = 1)]
    min_accepted: u32,
    /// Seconds until rewards are locked
    #[arg(long, default_value_t = 120)]
    lock_seconds: u32,
    /// Seconds for the inner steps: the slowest miner that you want must do them in this time
    #[arg(long, default_value_t = 900)]
    train_seconds: u32,
    /// Seconds for the uploads
    #[arg(long, default_value_t = 300)]
    reveal_seconds: u32,
    /// Seconds for the verdicts
    #[arg(long, default_value_t = 600)]
    verdict_seconds: u32,
    /// How often a text may be read in the whole run
    #[arg(long, default_value_t = 100)]
    max_epochs: u32,
    /// Highest learning rate
    #[arg(long, default_value_t = 3e-3)]
    peak_lr: f32,
    /// Values sent of every 4096
    #[arg(long, default_value_t = 512)]
    top_k: u32,
    /// What a verdict pays its validator [default: a hundredth of the reward]
    #[arg(long)]
    verdict_fee: Option<Msat>,
    /// Blocks for which a reward can stay locked
    #[arg(long, default_value_t = 144)]
    window: u32,
    /// What an assignment pays, such as "1000 sat"
    #[arg(long, default_value = "1000 sat")]
    reward: Msat,
    /// What sponsors pledge before the run begins; 0 if you pay
    #[arg(long, default_value = "0 sat")]
    goal: Msat,
    /// What a miner pays once to join [default: what its first task pays; 0 where nothing is to be paid]
    #[arg(long)]
    joining_fee: Option<Msat>,
    /// Seed of initialisation and windows [default: drawn, so that no run reads what another did in the same order]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Subcommand, Clone, Debug)]
pub(super) enum RunCommand {
    /// Write a specification with comments to standard output, to be edited
    New(NewArgs),
    /// Say whether a specification can be trained, and what that costs and takes
    Check {
        /// The file
        file: PathBuf,
        /// Library with the shard set [default: that of `watershed-shards`]
        #[arg(long, env = "WATERSHED_LIBRARY", value_name = "DIR")]
        library: Option<PathBuf>,
    },
    /// Sign a specification and open the run
    Open {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        at: Where,
    },
    /// Show one run, or all
    Show {
        /// The run
        run: Option<RunId>,
        #[command(flatten)]
        at: Where,
    },
    /// Begin no further round
    Pause {
        /// The run
        run: RunId,
        #[command(flatten)]
        at: Where,
    },
    /// Go on, or try an outer step again that failed
    Resume {
        /// The run
        run: RunId,
        #[command(flatten)]
        at: Where,
    },
    /// End a run: pledges go back, the round under way is finished
    Cancel {
        /// The run
        run: RunId,
        /// Why; everybody can read it
        #[arg(long, default_value = "cancelled by the operator")]
        reason: String,
        #[command(flatten)]
        at: Where,
    },
}

fn member(text: &str) -> Result<CommitteeMember, Failed> {
    let (key, url) = match text.split_once('@') {
        Some((key, url)) => (key, Some(url.to_owned())),
        None => (text, None),
    };
    let key: PublicKey = key.parse().map_err(|e| format!("the validator {text:?}: {e}"))?;
    Ok(CommitteeMember { key, url })
}

/// A seed that nobody chose. TOML's integers are signed.
fn drawn() -> Result<u64, Failed> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no randomness: {e}"))?;
    Ok(u64::from_le_bytes(bytes) >> 1)
}

fn new(args: &NewArgs) -> Outcome {
    let library = super::library(args.library.as_ref())?;
    let set = OpenSet::open(&Store::new(&library), args.set).map_err(|e| {
        format!("{e}\nIt was looked for in {}; `--library` names another place", library.display())
    })?;
    let (batch, sequence) = args.preset.step();
    let (batch, sequence) = (args.batch.unwrap_or(batch), args.sequence.unwrap_or(sequence));
    let mixture = match args.mixture {
        Some(mixture) => mixture,
        None => {
            let least = 2 * u64::from(sequence);
            let enough =
                |r: &Register| Some(set.set().tokens(*r, Split::Train)).filter(|t| *t >= least).unwrap_or(0);
            let mut tokens = [0; Register::ALL.len()];
            for (register, tokens) in Register::ALL.iter().zip(&mut tokens) {
                *tokens = enough(register);
            }
            Mixture::natural(tokens)?
        }
    };
    let spec = specification(Choices {
        title: args.title.clone(),
        preset: args.preset,
        data: data_spec(&set, mixture, sequence, args.max_epochs),
        vocabulary: set.set().vocabulary,
        rounds: args.rounds,
        inner_steps: args.inner_steps,
        batch,
        peak_lr: args.peak_lr,
        top_k: args.top_k,
        min_miners: args.min_miners,
        max_miners: args.max_miners,
        max_size: args.max_size,
        min_accepted: args.min_accepted,
        seconds: [args.lock_seconds, args.train_seconds, args.reveal_seconds, args.verdict_seconds],
        reward: args.reward,
        verdict_fee: args.verdict_fee,
        window: args.window,
        goal: args.goal,
        validators: args.validators.iter().map(|v| member(v)).collect::<Result<_, _>>()?,
        joining_fee: args.joining_fee,
        seed: args.seed.map_or_else(drawn, Ok)?,
    })?;
    // Whatever cannot be run is refused here, not when sponsors have pledged.
    refuse(&faults_with_text(&spec, &set))?;
    print!("{}", file(&spec)?);
    Ok(ExitCode::SUCCESS)
}

fn print(home: &Home, view: &RunView) -> Outcome {
    if home.json {
        println!("{}", serde_json::to_string(view)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("run       {}", view.run);
    println!("title     {}", view.title);
    let paused = if view.paused { ", paused" } else { "" };
    let end = if view.end.is_empty() { String::new() } else { format!(" ({})", view.end) };
    println!("phase     {}{paused}{end}", view.phase);
    if !view.trouble.is_empty() {
        println!("trouble   {}; `run resume` tries again", view.trouble);
    }
    for wait in &view.waits_for {
        println!("waits     for {}", wait.text);
        for key in &wait.keys {
            println!("          {key}");
        }
    }
    if let Some(at) = view.idle_at {
        println!(
            "ends      by itself in {}, if no round ends before",
            time(at.saturating_sub(millis() / 1000))
        );
    }
    let stage = view.round.as_ref().map_or(String::new(), |r| format!(", round {} is {}", r.number, r.stage));
    println!("rounds    {} of {}{stage}; {} miners", view.rounds_done, view.rounds, view.miners);
    let s = &view.sums;
    println!(
        "sats      pledged {}, locked {}, paid {}, back {}, verdicts {}, held back {}, left {}",
        s.pledged, s.locked, s.paid, s.back, s.fees, s.owed, s.left
    );
    println!("work      {} accepted, {} rejected", s.accepted, s.rejected);
    for checkpoint in &view.checkpoints {
        println!(
            "loss      {:.4} after {} rounds, checkpoint {}",
            f32::from_bits(checkpoint.loss_bits),
            checkpoint.round.0,
            checkpoint.checkpoint
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds since 1970: commands are told apart, and put in order, by when they were given.
fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn run(home: &Home, command: RunCommand) -> Outcome {
    let steer = async |at: &Where, command: Command| {
        let view = Client::new(&at.coordinator)?.command(&command, &home.key()?).await?;
        print(home, &view)
    };
    match command {
        RunCommand::New(args) => new(&args),
        RunCommand::Check { file, library } => check(home.json, &file, &super::library(library.as_ref())?),
        RunCommand::Open { file, at } => {
            let spec = read(&file)?;
            refuse(&faults(&spec)).map_err(|e| format!("{}: {e}", file.display()))?;
            let spec = Envelope::sign(&spec, &home.key()?)?;
            steer(&at, Command::Open { spec }).await
        }
        RunCommand::Show { run: Some(run), at } => {
            print(home, &Client::new(&at.coordinator)?.run(run).await?)
        }
        RunCommand::Show { run: None, at } => {
            for view in Client::new(&at.coordinator)?.runs().await? {
                print(home, &view)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        RunCommand::Pause { run, at } => steer(&at, Command::Pause { run, at: millis() }).await,
        RunCommand::Resume { run, at } => steer(&at, Command::Resume { run, at: millis() }).await,
        RunCommand::Cancel { run, reason, at } => {
            steer(&at, Command::Cancel { run, reason, at: millis() }).await
        }
    }
}
