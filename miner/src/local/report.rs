//! What a person or a program sees of a local run.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::corpus::Corpus;
use super::schedule::ByRound;
use super::settings::Settings;

/// One finished round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RoundReport {
    /// From 1.
    pub(crate) round: u32,
    /// Mean loss of all inner steps of all workers, nats per token.
    pub(crate) train_loss: f32,
    /// Loss on held-out text after the outer step.
    pub(crate) eval_loss: f32,
    /// Size of a worker's encoded pseudo-gradient, mean over workers.
    pub(crate) bytes_per_worker: usize,
    /// Tokens trained on in this round, all workers.
    pub(crate) tokens: u64,
    /// Wall-clock time of the round.
    pub(crate) seconds: f64,
    /// Digest of the checkpoint.
    pub(crate) checkpoint: String,
}

/// Progress on stderr, results on stdout.
pub(crate) struct Report {
    json: bool,
    bar: ProgressBar,
    rounds: u32,
    workers: u64,
    inner_steps: ByRound<u32>,
    header_due: bool,
}

impl Report {
    pub(crate) fn new(json: bool, s: &Settings, corpus: &Corpus, device: &str) -> Self {
        let (train, held_out) = corpus.sizes();
        for (path, why) in &corpus.invalid {
            eprintln!("left out {}: {why}", path.display());
        }
        if corpus.lost > 0 {
            eprintln!(
                "{} characters of the text are not trained on: the tokenizer has no token for them, nor for their bytes",
                corpus.lost
            );
        }
        if !json {
            println!("device    {device}, {}", s.arithmetic);
            let (files, unit) = (corpus.files, corpus.unit());
            println!("text      {files} files, {train} {unit} to train on, {held_out} held out");
            if let Some(start) = &s.start {
                println!("model     starts from {}", &start[..16.min(start.len())]);
            }
            println!(
                "run       {} workers x {} windows of {} tokens, {} rounds of {} steps",
                s.workers, s.batch, s.seq, s.rounds, s.inner_steps
            );
        }
        let workers = u64::from(s.workers);
        let bar = ProgressBar::with_draw_target(
            Some(workers * s.inner_steps.total()),
            ProgressDrawTarget::stderr(),
        );
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} steps, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { json, bar, rounds: s.rounds, workers, inner_steps: s.inner_steps.clone(), header_due: !json }
    }

    /// One inner step is done.
    pub(crate) fn step(&self, round: u32, worker: u32, step: u32, loss: f32) {
        self.bar.set_message(format!(
            "round {}/{} worker {} loss {loss:.3}",
            round + 1,
            self.rounds,
            worker + 1
        ));
        let before = self.workers * self.inner_steps.before(round);
        let of_others = u64::from(worker) * u64::from(self.inner_steps.at(round));
        self.bar.set_position(before + of_others + u64::from(step) + 1);
    }

    /// One round is done.
    pub(crate) fn round(&mut self, r: &RoundReport) {
        let line = if self.json {
            serde_json::to_string(r).unwrap_or_default()
        } else {
            let header = if std::mem::take(&mut self.header_due) {
                "round  train loss  eval loss  bytes/worker  tokens/s  checkpoint\n"
            } else {
                ""
            };
            format!(
                "{header}{:>5}  {:>10.4}  {:>9.4}  {:>12}  {:>8.0}  {}",
                r.round,
                r.train_loss,
                r.eval_loss,
                r.bytes_per_worker,
                r.tokens as f64 / r.seconds.max(1e-9),
                &r.checkpoint[..16.min(r.checkpoint.len())]
            )
        };
        self.bar.suspend(|| println!("{line}"));
    }

    /// The run stopped early.
    pub(crate) fn stopped(&self, kept: bool) {
        self.bar.finish_and_clear();
        let hint =
            if kept { "continue with --resume" } else { "give --out DIR to be able to continue a run" };
        eprintln!("stopped; {hint}");
    }

    /// The run is complete.
    pub(crate) fn finished(&self) {
        self.bar.finish_and_clear();
    }

    /// The model was written.
    pub(crate) fn wrote(&self, dir: &Path) {
        if !self.json {
            println!("model     {}", dir.display());
        }
    }
}
