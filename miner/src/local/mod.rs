//! `local`: a whole run with several workers on one machine, without money or network.
//!
//! The same inner loop, compression and outer step that a market run uses, so what is learned here about batch sizes,
//! densities and widths holds there.

mod corpus;
mod origin;
mod report;
mod run;
mod schedule;
mod settings;
mod store;

use std::path::PathBuf;

use clap::ValueEnum;
use thiserror::Error;
use watershed_engine::device::{self, DeviceChoice, DeviceError};
use watershed_engine::merkle::MerkleError;
use watershed_engine::model::Preset;
use watershed_engine::product::Precision;
use watershed_engine::selftest::{self, SelfTestError};

use crate::stop::Stop;
use corpus::{Corpus, CorpusError};
use origin::{Origin, OriginError};
use run::{LocalRun, RunError};
use schedule::{Schedule, ScheduleError};
use settings::Settings;
use store::StoreError;

/// Which arithmetic to train with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// The numeric contract: the same bits on every device.
    Exact,
    /// The device's own f32: no promise about bits.
    Native,
}

/// What becomes of the optimizer's moments between rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MomentsName {
    /// Carried in the 8-bit block format that a validator can be handed.
    Carried,
    /// Carried in full, for comparison.
    Full,
    /// Zero at the start of each round: nothing to hand over.
    Fresh,
}

fn inner_steps(text: &str) -> Result<Schedule<u32>, ScheduleError> {
    Schedule::parse(text, 1..=10_000)
}

fn top_k(text: &str) -> Result<Schedule<u32>, ScheduleError> {
    Schedule::parse(text, 1..=4096)
}

fn outer_lr(text: &str) -> Result<Schedule<f32>, ScheduleError> {
    Schedule::parse(text, 0.001..=10.0)
}

fn error_decay(text: &str) -> Result<Schedule<f32>, ScheduleError> {
    Schedule::parse(text, 0.0..=1.0)
}

/// Train a small model with several workers on this machine, on the text files in a folder.
///
/// Each round every worker takes H AdamW steps from the shared checkpoint, compresses its pseudo-gradient, and the outer
/// step averages them into the next checkpoint. The checkpoint depends on the text and the flags only, never on the
/// device: two machines that print the same digest hold the same model, bit for bit.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with .txt or .md files; folders below it are read too.
    #[arg(long)]
    text: PathBuf,
    /// Size of the model: nano (0.8 M parameters), micro (10 M) or small (123 M).
    #[arg(long, default_value = "nano")]
    preset: Preset,
    /// Start from a Hugging Face folder (config.json, safetensors, and tokenizer.json, without which a token is a byte).
    #[arg(long, value_name = "DIR", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// Workers that train in parallel between outer steps.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Windows per inner step and worker [default: 8, with --preset small 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Option<u32>,
    /// Tokens of a window [default: 128, with --preset micro 512, with small 1024].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=8192))]
    seq: Option<u32>,
    /// Values kept of every 4096 of a pseudo-gradient; 1024x40,512 for 1024 in the first 40 rounds and 512 in all later ones.
    #[arg(long, default_value = "512", value_parser = top_k)]
    top_k: Schedule<u32>,
    /// Average whole pseudo-gradients without compression, for comparison.
    #[arg(long)]
    dense: bool,
    /// Rounds; as many as a schedule says, or 67.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(schedule::MAX_ROUNDS)))]
    rounds: Option<u32>,
    /// AdamW steps of each worker in a round [default: 5x40,15, which is 5 in each of the first 40 rounds and 15 in all later
    /// ones].
    #[arg(long, value_parser = inner_steps)]
    inner_steps: Option<Schedule<u32>>,
    /// Seed of initialisation and windows.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The device: auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Operand widths of matrix products, 8x8 to 16x16.
    #[arg(long, default_value_t = Precision::default())]
    precision: Precision,
    /// Exact or native arithmetic.
    #[arg(long, value_enum, default_value_t = ProfileName::Exact)]
    profile: ProfileName,
    /// Optimizer moments between rounds.
    #[arg(long, value_enum, default_value_t = MomentsName::Carried)]
    moments: MomentsName,
    /// Highest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    lr: f32,
    /// Learning rate of the outer step [default: 1x40,1.5, which is 1 in the first 40 rounds and 1.5 in all later ones; 1 with
    /// --dense or with --inner-steps of your own]. 1.5 helps long rounds with compression and can harm without
    /// (docs/BENCHMARKS.md).
    #[arg(long, value_parser = outer_lr)]
    outer_lr: Option<Schedule<f32>>,
    /// Nesterov momentum of the outer step; 0 for none.
    #[arg(long, default_value_t = 0.0)]
    outer_momentum: f32,
    /// Decay of the error feedback; 1 keeps everything that was not sent [default: 0.95x40,0.8; 0.95 with --inner-steps of your
    /// own].
    #[arg(long, value_parser = error_decay)]
    error_decay: Option<Schedule<f32>>,
    /// Continue the run that is kept in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Folder for the model (Hugging Face files) and the state of the run.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One JSON object per round on stdout.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Windows of an inner step, and tokens of a window.
    fn step(&self) -> (usize, usize) {
        let (batch, seq) = self.preset.step();
        (self.batch.unwrap_or(batch) as usize, self.seq.unwrap_or(seq) as usize)
    }

    /// What holds in which rounds. The defaults were found together, so rates are those of the default rounds only in these.
    fn schedules(&self) -> Schedules {
        let own_rounds = self.inner_steps.is_some();
        let or = |given: &Option<Schedule<f32>>, plain, short, long| {
            let default = if plain { Schedule::always(short) } else { Schedule::first(short, 40, long) };
            given.clone().unwrap_or(default)
        };
        Schedules {
            inner_steps: self.inner_steps.clone().unwrap_or(Schedule::first(5, 40, 15)),
            outer_lr: or(&self.outer_lr, own_rounds || self.dense, 1.0, 1.5),
            error_decay: or(&self.error_decay, own_rounds, 0.95, 0.8),
        }
    }
}

/// The schedules whose defaults depend on each other.
struct Schedules {
    inner_steps: Schedule<u32>,
    outer_lr: Schedule<f32>,
    error_decay: Schedule<f32>,
}

/// Why a local run did not finish.
#[derive(Debug, Error)]
pub(crate) enum LocalError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{name}: {source}")]
    SelfTest { name: String, source: SelfTestError },
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Digest(#[from] MerkleError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{name} must be {allowed}, not {given}")]
    Flag { name: &'static str, allowed: &'static str, given: f32 },
    #[error("stopped before the last round")]
    Stopped,
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
}

pub(crate) fn run(args: &Args) -> Result<(), LocalError> {
    let checks = [
        ("--lr", "above 0 and at most 1", args.lr, args.lr > 0.0 && args.lr <= 1.0),
        ("--outer-momentum", "in 0..1", args.outer_momentum, (0.0..1.0).contains(&args.outer_momentum)),
    ];
    for (name, allowed, given, fine) in checks {
        if !fine {
            return Err(LocalError::Flag { name, allowed, given });
        }
    }
    let origin = args.model.as_deref().map_or_else(|| Ok(Origin::preset(args.preset)), Origin::folder)?;
    let corpus = Corpus::read(&args.text, origin.tokenizer.as_ref())?;
    corpus.check(args.step().1)?;
    let open = device::open(args.device)?;
    if args.profile == ProfileName::Exact {
        selftest::check(&open.device)
            .map_err(|source| LocalError::SelfTest { name: open.name.clone(), source })?;
    }
    let settings = Settings::new(args, &origin, &corpus)?;
    let mut report = report::Report::new(args.json, &settings, &corpus, &open.name);
    let stop = Stop::on_signals()?;
    let store = args.out.as_deref().map(store::Store::open).transpose()?;
    let saved = match (&store, args.resume) {
        (Some(store), true) => store.load(&settings)?,
        (Some(store), false) => {
            store.refuse_if_used()?;
            None
        }
        (None, _) => None,
    };
    let mut local = LocalRun::new(settings, origin.parameters, corpus, &open, saved)?;
    let finished = local.run(store.as_ref(), &stop, &mut report)?;
    if let (Some(store), true) = (&store, finished) {
        report.wrote(&store.write_model(local.model(), local.checkpoint(), &origin.files)?);
    }
    // So that a script can tell it from a run that was finished.
    if finished { Ok(()) } else { Err(LocalError::Stopped) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        local: Args,
    }

    #[test]
    fn the_default_rates_are_for_the_default_rounds_only() {
        let rates = |flags: &[&str]| {
            let flags = ["local", "--text", "."].iter().chain(flags);
            let Program { local } = Program::try_parse_from(flags).unwrap();
            let Schedules { inner_steps, outer_lr, error_decay } = local.schedules();
            [inner_steps.to_string(), outer_lr.to_string(), error_decay.to_string()]
        };
        assert_eq!(rates(&[]), ["5x40,15", "1x40,1.5", "0.95x40,0.8"]);
        assert_eq!(rates(&["--rounds", "9", "--top-k", "64"]), rates(&[]));
        assert_eq!(rates(&["--inner-steps", "60"]), ["60", "1", "0.95"]);
        assert_eq!(rates(&["--dense"])[..2], ["5x40,15", "1"]);
        assert_eq!(
            rates(&["--inner-steps", "60", "--outer-lr", "1.2", "--error-decay", "0.5"]),
            ["60", "1.2", "0.5"]
        );
    }
}
