//! The command line.

mod args;
mod build;
mod deposit;
mod export;

mod import;
mod inspect;
mod key;
mod snapshot;
mod tokenizer;
mod verify;
mod window;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use watershed_shards::library::{Library, default_folder};

/// What a command ends with: an exit code, or a message for the person.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// From consented text to the tokens that a model is trained on, and back.
#[derive(Parser)]
#[command(
    name = "watershed-shards",
    version,
    after_help = "A first tour, with a folder of texts that has a folder for each register (narrative, conversational, \
                  technical, sacred, oral, pedagogical, lyric):\n\n  \
                  watershed-shards import texts/ --license CC0-1.0 --language en\n  \
                  watershed-shards snapshot\n  \
                  watershed-shards build\n  \
                  watershed-shards window --mixture natural --sequence 256 --batches 15 --batch-size 2\n  \
                  watershed-shards attribution --mixture natural --sequence 256 --batches 15 --batch-size 2\n  \
                  watershed-shards verify\n\n\
                  The first deposit makes a key: `watershed-shards key` says where it is and how to keep it."
)]
struct Cli {
    /// Folder of the library; made if it is not there
    #[arg(long, global = true, env = "WATERSHED_SHARDS", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Your key; made if it is not there [default: keys/contributor.key in the library]
    #[arg(long, global = true, env = "WATERSHED_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Threads to work on [default: all cores]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Deposit one text, signed with your key
    Deposit(deposit::DepositArgs),
    /// Change what one of your deposits may be used for
    Consent(deposit::ConsentArgs),
    /// Withdraw one of your deposits: its text is deleted, and the next snapshot does not have it
    Withdraw(deposit::WithdrawArgs),
    /// Deposit every text in folders and files: txt, md, jsonl, parquet
    Import(import::ImportArgs),
    /// Fix which deposits are in force now
    Snapshot(snapshot::SnapshotArgs),
    /// Train or look at a tokenizer
    #[command(subcommand)]
    Tokenizer(tokenizer::TokenizerCommand),
    /// Tokenise a snapshot into shards
    Build(build::BuildArgs),
    /// Draw a window: the exact tokens of some training steps
    Window(window::WindowArgs),
    /// List the deposits that a window reads, with their tokens
    Attribution(window::AttributionArgs),
    /// Show what the library, a snapshot, a shard set or a window is made of
    Stats(inspect::StatsArgs),
    /// Check every file against its hash, signature and consent
    Verify(verify::VerifyArgs),
    /// Write a snapshot as a dataset: Croissant, JSONL and Parquet
    Export(export::ExportArgs),
    /// Delete shards of withdrawn text, and shards that nothing needs
    Prune,
    /// Show your public key, and how to keep the secret one
    Key,
}

/// What all commands are given.
pub(crate) struct Context {
    pub(crate) data: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) json: bool,
}

impl Context {
    /// Opens the library.
    pub(crate) fn library(&self) -> Result<Library, Box<dyn std::error::Error>> {
        Ok(Library::open(&self.data)?)
    }

    /// The key of the person; says so if it is new.
    pub(crate) fn key(&self) -> Result<watershed_protocol::SecretKey, Box<dyn std::error::Error>> {
        key::load(&self.key)
    }

    /// Prints a result: as JSON, or as the lines that `human` makes.
    pub(crate) fn print<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce(&T) -> Vec<String>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut out = std::io::stdout().lock();
        let lines = if self.json { vec![serde_json::to_string(value)?] } else { human(value) };
        let written = lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
        match written {
            // Whoever reads has seen enough, as `head` does.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Set by Ctrl-C and SIGTERM; long work looks at it between texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on Ctrl-C and SIGTERM end the work after the text it is at; until then they end the program.
    pub(crate) fn on_signals() -> Result<Self, ctrlc::Error> {
        let stop = Self::default();
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if !flag.0.swap(true, Ordering::SeqCst) {
                eprintln!("\nstopping after this text");
            }
        })?;
        Ok(stop)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A progress bar of bytes on standard error; none where that is no terminal.
pub(crate) fn progress(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar
}

/// A number of things: `1 text`, `2 texts`.
pub(crate) fn counted(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Outcome {
    let cli = Cli::parse();
    let data = cli.data.or_else(default_folder);
    let data = data.ok_or("there is no home folder; say with --data where the library is")?;
    if let Some(threads) = cli.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global()?;
    }
    let key = cli.key.unwrap_or_else(|| data.join("keys/contributor.key"));
    let context = Context { data, key, json: cli.json };
    match &cli.command {
        Command::Deposit(args) => deposit::deposit(&context, args),
        Command::Consent(args) => deposit::consent(&context, args),
        Command::Withdraw(args) => deposit::withdraw(&context, args),
        Command::Import(args) => import::run(&context, args),
        Command::Snapshot(args) => snapshot::run(&context, args),
        Command::Tokenizer(command) => tokenizer::run(&context, command),
        Command::Build(args) => build::run(&context, args),
        Command::Window(args) => window::window(&context, args),
        Command::Attribution(args) => window::attribute(&context, args),
        Command::Stats(args) => inspect::run(&context, args),
        Command::Verify(args) => verify::run(&context, args),
        Command::Export(args) => export::run(&context, args),
        Command::Prune => build::prune(&context),
        Command::Key => key::show(&context),
    }
}
