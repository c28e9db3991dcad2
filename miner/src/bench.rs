//! `bench`: how fast this machine trains.

use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;
use watershed_engine::device::{self, DeviceChoice, DeviceError, OpenDevice};
use watershed_engine::model::{ConfigError, Layout, Preset, Profile, TokenError, Tokens, init};
use watershed_engine::product::Precision;
use watershed_engine::train::{AdamwSettings, State, TrainError, TrainSettings, Trainer};

use crate::process;

/// Measure how fast this machine trains.
///
/// Times whole training steps (forward, backward, clipping, AdamW) of each preset, exact and native, and names the
/// largest preset that fits. On a graphics device the CPU is measured beside it. At the end it says how long the first
/// step was in coming and how much memory was needed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The device: auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Only this preset.
    #[arg(long)]
    preset: Option<Preset>,
    /// Windows per step [default: nano and micro 8, small 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Option<u32>,
    /// Tokens of a window [default: nano 128, micro 512, small 1024].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=8192))]
    seq: Option<u32>,
    /// Operand widths of exact matrix products.
    #[arg(long, default_value_t = Precision::default())]
    precision: Precision,
    /// Seconds of measuring for each line, after one step of warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// One JSON object per line on stdout.
    #[arg(long)]
    json: bool,
}

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Tokens(#[from] TokenError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error("--seconds must be above 0 and at most 3600, not {0}")]
    Seconds(f64),
}

impl Args {
    /// Windows per step and tokens of a window for a preset.
    fn step(&self, preset: Preset) -> (usize, usize) {
        let (batch, seq) = preset.step();
        (self.batch.unwrap_or(batch) as usize, self.seq.unwrap_or(seq) as usize)
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    device: String,
    preset: &'static str,
    parameters: usize,
    /// Windows of a step.
    batch: usize,
    /// Tokens of a window.
    seq: usize,
    profile: String,
    /// Steps that were timed.
    steps: u32,
    /// Median of a step.
    seconds_per_step: f64,
    /// Mean seconds of processor time of a step, of all threads: suffers least from neighbours on the machine.
    processor_seconds_per_step: Option<f64>,
    tokens_per_second: f64,
    /// Hashing the state, as a share of a step: what a commitment after every step costs.
    digest_share: f64,
    /// Tokens per second of this line over those of the native line of the same device.
    ratio_to_native: Option<f64>,
    /// The same over those of the CPU with the same profile.
    ratio_to_cpu: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    if !(args.seconds > 0.0 && args.seconds <= 3600.0) {
        return Err(BenchError::Seconds(args.seconds));
    }
    let open = device::open(args.device)?;
    let mut devices = vec![];
    if open.is_wgpu {
        devices.push(device::cpu());
    }
    devices.push(open);
    if !args.json {
        println!(
            "{:<34} {:<6} {:>12} {:>7}  {:<8} {:>10} {:>10} {:>11} {:>7} {:>8} {:>6}",
            "device",
            "preset",
            "parameters",
            "step",
            "profile",
            "s/step",
            "cpu s/step",
            "tokens/s",
            "digest",
            "/native",
            "/cpu"
        );
    }
    let (mut largest, mut cold_start) = (None, None);
    let mut on_cpu: Vec<Line> = Vec::new();
    for preset in Preset::ALL.into_iter().filter(|p| args.preset.is_none_or(|only| only == *p)) {
        let mut fits = true;
        for device in &devices {
            if let Some(missing) = missing_memory(device, preset, args)? {
                let name = preset.name();
                eprintln!(
                    "{name}: needs about {missing} more memory than {} has free; not measured",
                    device.name
                );
                fits = false;
            }
        }
        if !fits {
            continue;
        }
        for device in &devices {
            let mut run = |profile, name| {
                let first = || cold_start = cold_start.or_else(process::age);
                measure(device, preset, profile, name, args, first)
            };
            let native = run(Profile::Native, "native".to_owned())?;
            let mut exact = run(Profile::Exact(args.precision), args.precision.to_string())?;
            exact.ratio_to_native = Some(exact.tokens_per_second / native.tokens_per_second);
            for mut line in [native, exact] {
                let same = |l: &&Line| l.preset == line.preset && l.profile == line.profile;
                if let Some(cpu) = on_cpu.iter().find(same).filter(|_| device.is_wgpu) {
                    line.ratio_to_cpu = Some(line.tokens_per_second / cpu.tokens_per_second);
                }
                print(&line, args.json);
                if !device.is_wgpu {
                    on_cpu.push(line);
                }
            }
        }
        largest = Some(preset);
    }
    let summary = Summary {
        largest_preset: largest.map(Preset::name),
        cold_start_seconds: cold_start,
        peak_resident_bytes: process::peak_memory(),
    };
    summary.print(args.json);
    Ok(())
}

/// The end of the output.
#[derive(Debug, Serialize)]
struct Summary {
    /// The largest preset that fits, of those asked for.
    largest_preset: Option<&'static str>,
    /// From the start of the process to the end of its first training step.
    cold_start_seconds: Option<f64>,
    /// The most memory this process had resident; memory of a graphics card is not part of it.
    peak_resident_bytes: Option<u64>,
}

impl Summary {
    fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        if let Some(preset) = self.largest_preset {
            println!("largest preset that fits: {preset}");
        }
        if let Some(seconds) = self.cold_start_seconds {
            println!("cold start: {seconds:.2} s from the start of the process to the end of its first step");
        }
        if let Some(bytes) = self.peak_resident_bytes {
            println!("peak memory: {:.0} MiB resident", bytes as f64 / f64::from(1 << 20));
        }
    }
}

fn print(line: &Line, json: bool) {
    if json {
        println!("{}", serde_json::to_string(line).unwrap_or_default());
        return;
    }
    let ratio = |r: Option<f64>| r.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    println!(
        "{:<34} {:<6} {:>12} {:>7}  {:<8} {:>10.4} {:>10} {:>11.0} {:>6.1}% {:>8} {:>6}",
        line.device.chars().take(34).collect::<String>(),
        line.preset,
        line.parameters,
        format!("{}x{}", line.batch, line.seq),
        line.profile,
        line.seconds_per_step,
        line.processor_seconds_per_step.map_or_else(|| "-".to_owned(), |s| format!("{s:.4}")),
        line.tokens_per_second,
        100.0 * line.digest_share,
        ratio(line.ratio_to_native),
        ratio(line.ratio_to_cpu),
    );
}

/// Steps of one profile on one device; `first` is called after the first.
fn measure(
    device: &OpenDevice,
    preset: Preset,
    profile: Profile,
    name: String,
    args: &Args,
    first: impl FnOnce(),
) -> Result<Line, BenchError> {
    let mut config = preset.config();
    let (batch, seq) = args.step(preset);
    config.max_seq = config.max_seq.max(seq);
    let layout = Layout::new(&config)?;
    let parameters = layout.total();
    let settings = TrainSettings {
        adamw: AdamwSettings::default(),
        peak_lr: 1e-4,
        warmup_steps: 10,
        total_steps: 1_000_000,
        floor: 0.1,
    };
    let state = State::fresh(init(&layout, 0));
    let mut trainer = Trainer::new(layout, profile, settings, &device.device, &state)?;
    drop(state);
    let ids = (0..batch * (seq + 1)).map(|i| ((i * 7919 + i / 13) % config.vocab.min(256)) as u32).collect();
    let tokens = Tokens::new(ids, batch, seq)?;
    trainer.step(0, &tokens)?;
    first();
    let mut times: Vec<Duration> = Vec::new();
    let (started, processor) = (Instant::now(), process::processor_time());
    while times.len() < 3 || started.elapsed().as_secs_f64() < args.seconds {
        let step = Instant::now();
        trainer.step(times.len() as u32 + 1, &tokens)?;
        times.push(step.elapsed());
    }
    let processor_seconds_per_step =
        processor.zip(process::processor_time()).map(|(from, to)| (to - from) / times.len() as f64);
    times.sort();
    let median = times[times.len() / 2].as_secs_f64();
    let mut digests: Vec<f64> = Vec::new();
    for _ in 0..5 {
        let digest = Instant::now();
        std::hint::black_box(trainer.digest()?);
        digests.push(digest.elapsed().as_secs_f64());
    }
    digests.sort_by(f64::total_cmp);
    let digest_share = digests[digests.len() / 2] / median;
    Ok(Line {
        device: device.name.clone(),
        preset: preset.name(),
        parameters,
        batch,
        seq,
        profile: name,
        steps: times.len() as u32,
        seconds_per_step: median,
        processor_seconds_per_step,
        tokens_per_second: (batch * seq) as f64 / median,
        digest_share,
        ratio_to_native: None,
        ratio_to_cpu: None,
    })
}

/// How much memory a device lacks for a preset, as text; none if it fits or if that cannot be known.
fn missing_memory(device: &OpenDevice, preset: Preset, args: &Args) -> Result<Option<String>, BenchError> {
    let config = preset.config();
    let parameters = Layout::new(&config)?.total() as u64;
    let (batch, seq) = args.step(preset);
    // Parameters, gradients, two moments and the copies a step makes; then what the backward pass keeps of each layer,
    // attention scores included; then logits, their gradient and softmax.
    let layer = (12 * config.hidden + 6 * config.ffn) as u64 + (4 * config.heads * seq) as u64;
    let activations = (batch * seq) as u64 * (layer * config.layers as u64 + 4 * config.vocab as u64);
    let needed = 4 * (7 * parameters + activations);
    // a software rasterizer computes in the memory of the host
    let free = if device.is_card { device.memory() } else { process::free_memory() };
    Ok(free
        .filter(|free| *free < needed)
        .map(|free| format!("{:.1} GiB", (needed - free) as f64 / (1u64 << 30) as f64)))
}
