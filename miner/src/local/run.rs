//! The rounds of a local run.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use thiserror::Error;
use watershed_engine::device::OpenDevice;
use watershed_engine::merkle::MerkleError;
use watershed_engine::model::{ConfigError, Layout, ModelConfig, TokenError, Tokens, init};
use watershed_engine::moments;
use watershed_engine::outer::{
    OuterError, OuterSpec, OuterState, PseudoGradientSource, Submission, outer_step,
};
use watershed_engine::pseudo_gradient::{self, Decoder, Expected};
use watershed_engine::train::{State, TrainError, Trainer, inner_steps};

use super::corpus::Corpus;
use super::report::{Report, RoundReport};
use super::settings::{Settings, checkpoint_digest};
use super::store::{Meta, Saved, Store, StoreError};
use crate::stop::Stop;

/// Held-out windows the checkpoint is judged by after each round.
const EVALUATION_WINDOWS: usize = 64;

/// Why a run stopped.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Tokens(#[from] TokenError),
    #[error(transparent)]
    Outer(#[from] OuterError),
    #[error(transparent)]
    Moments(#[from] moments::EncodeError),
    #[error("the moments do not read back: {0}")]
    MomentsBack(#[from] moments::DecodeError),
    #[error(transparent)]
    Compress(#[from] pseudo_gradient::EncodeError),
    #[error("the pseudo-gradient does not read back: {0}")]
    CompressBack(#[from] pseudo_gradient::DecodeError),
    #[error(transparent)]
    Digest(#[from] MerkleError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the saved run lacks {0}; remove it to start the run again")]
    Incomplete(String),
}

/// What a worker keeps from one round to the next, in the least memory: there may be many workers.
#[derive(Clone, Debug)]
struct Worker {
    /// Empty without compression.
    error_feedback: Vec<f32>,
    moments: Moments,
    updates: u32,
}

/// The optimizer's moments between rounds.
#[derive(Clone, Debug)]
enum Moments {
    /// Before the first round, or in every one.
    Fresh,
    /// In 8 bits.
    Encoded(Vec<u8>),
    Full {
        first: Vec<f32>,
        second: Vec<f32>,
    },
}

/// A pseudo-gradient as others receive it. It stays encoded, so that memory does not grow with the workers.
#[derive(Clone, Debug)]
enum Sent {
    Encoded(Vec<u8>),
    /// Without compression.
    Whole(Vec<f32>),
}

impl Sent {
    fn source(
        &self,
        expected: Expected,
    ) -> Result<Box<dyn PseudoGradientSource + Sync + '_>, pseudo_gradient::DecodeError> {
        Ok(match self {
            Self::Encoded(bytes) => Box::new(Decoder::new(bytes, expected)?),
            Self::Whole(values) => Box::new(values.as_slice()),
        })
    }

    /// Its size on the way, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Whole(values) => size_of_val(values.as_slice()),
        }
    }
}

/// A worker that was stopped between two inner steps.
#[derive(Clone, Debug)]
struct UnderWay {
    worker: u32,
    steps: u32,
    state: State,
}

/// A run and everything it consists of.
pub(crate) struct LocalRun {
    settings: Settings,
    corpus: Corpus,
    layout: Layout,
    trainer: Trainer,
    outer: OuterState,
    workers: Vec<Worker>,
    rounds_done: u32,
    /// Pseudo-gradients of the round under way.
    submissions: Vec<Sent>,
    losses: Vec<f32>,
    under_way: Option<UnderWay>,
    evaluation: Vec<Tokens>,
}

impl LocalRun {
    /// A new run from `parameters` (random ones if there are none), or the continuation of a saved one.
    pub(crate) fn new(
        settings: Settings,
        parameters: Option<Vec<f32>>,
        corpus: Corpus,
        device: &OpenDevice,
        saved: Option<Saved>,
    ) -> Result<Self, RunError> {
        let layout = Layout::new(&settings.model)?;
        let n = layout.total();
        let parameters = parameters.unwrap_or_else(|| init(&layout, settings.seed));
        let feedback = if settings.top_k.is_some() { n } else { 0 };
        let blank = Worker { error_feedback: vec![0.0; feedback], moments: Moments::Fresh, updates: 0 };
        let state = State::fresh(parameters.clone());
        let trainer = Trainer::new(layout.clone(), settings.profile, settings.train, &device.device, &state)?;
        let evaluation = corpus.evaluation(EVALUATION_WINDOWS, settings.seq)?;
        let mut run = Self {
            workers: vec![blank; settings.workers as usize],
            outer: OuterState { parameters, velocity: Vec::new() },
            settings,
            corpus,
            layout,
            trainer,
            rounds_done: 0,
            submissions: Vec::new(),
            losses: Vec::new(),
            under_way: None,
            evaluation,
        };
        if let Some(saved) = saved {
            run.restore(saved)?;
        }
        Ok(run)
    }

    /// The model's configuration.
    pub(crate) fn model(&self) -> &ModelConfig {
        self.layout.config()
    }

    /// The parameters after the last completed round.
    pub(crate) fn checkpoint(&self) -> &[f32] {
        &self.outer.parameters
    }

    /// Runs until all rounds are done (true) or a stop is asked for (false). Everything is saved after each round and on
    /// a stop.
    pub(crate) fn run(
        &mut self,
        store: Option<&Store>,
        stop: &Stop,
        report: &mut Report,
    ) -> Result<bool, RunError> {
        while self.rounds_done < self.settings.rounds {
            let started = Instant::now();
            while self.submissions.len() < self.workers.len() {
                if !self.work(stop, report)? {
                    if let Some(store) = store {
                        store.save(&self.settings, self.saved())?;
                    }
                    report.stopped(store.is_some());
                    return Ok(false);
                }
            }
            let round = self.finish_round(started)?;
            if let Some(store) = store {
                store.save(&self.settings, self.saved())?;
            }
            report.round(&round);
        }
        report.finished();
        Ok(true)
    }

    /// The next worker's inner steps and its submission; false if stopped before the last step.
    fn work(&mut self, stop: &Stop, report: &Report) -> Result<bool, RunError> {
        let s = &self.settings;
        let index = self.submissions.len() as u32;
        let (start, taken) = match self.under_way.take().filter(|u| u.worker == index) {
            Some(u) => (u.state, u.steps),
            None => (self.start(index)?, 0),
        };
        let (round, corpus) = (self.rounds_done, &self.corpus);
        let first = s.first_step(round);
        let steps = first + taken..first + s.inner_steps.at(round);
        let window = |step: u32| corpus.window(s.seed, index, step, s.batch, s.seq);
        let trajectory = inner_steps(&mut self.trainer, &start, steps, &window, &mut |record, _| {
            report.step(round, index, record.step - first, record.loss);
            if stop.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.losses.extend(trajectory.steps.iter().map(|r| r.loss));
        if trajectory.stopped {
            let steps = taken + trajectory.steps.len() as u32;
            self.under_way = Some(UnderWay { worker: index, steps, state: trajectory.state });
            return Ok(false);
        }
        self.submit(index, trajectory.state)?;
        Ok(true)
    }

    /// Where a worker starts a round: the checkpoint with the moments it carries.
    fn start(&self, index: u32) -> Result<State, RunError> {
        let parameters = self.outer.parameters.clone();
        let Some(w) = self.workers.get(index as usize) else { return Ok(State::fresh(parameters)) };
        let (first, second) = match &w.moments {
            Moments::Fresh => return Ok(State::fresh(parameters)),
            Moments::Encoded(bytes) => {
                let decoded = moments::decode(bytes, parameters.len())?;
                (decoded.first, decoded.second)
            }
            Moments::Full { first, second } => (first.clone(), second.clone()),
        };
        Ok(State { parameters, first, second, updates: w.updates })
    }

    /// Compresses the worker's pseudo-gradient and keeps its error feedback and moments.
    fn submit(&mut self, index: u32, end: State) -> Result<(), RunError> {
        let mut delta: Vec<f32> = end.parameters;
        for (d, theta) in delta.iter_mut().zip(&self.outer.parameters) {
            *d = watershed_engine::scalar::flush(*theta - *d, 0);
        }
        let Some(worker) = self.workers.get_mut(index as usize) else {
            return Err(RunError::Incomplete(format!("worker {index}")));
        };
        let round = self.rounds_done;
        self.submissions.push(match (&self.settings.top_k, &self.settings.error_decay) {
            (Some(top_k), Some(decay)) => {
                let (feedback, k) = (&mut worker.error_feedback, top_k.at(round) as usize);
                Sent::Encoded(pseudo_gradient::compress(feedback, &delta, decay.at(round), k)?)
            }
            _ => Sent::Whole(delta),
        });
        if self.settings.carried {
            worker.updates = end.updates;
            worker.moments = if self.settings.eight_bit {
                Moments::Encoded(moments::encode(&end.first, &end.second)?)
            } else {
                Moments::Full { first: end.first, second: end.second }
            };
        }
        Ok(())
    }

    /// The outer step and what is reported of it.
    fn finish_round(&mut self, started: Instant) -> Result<RoundReport, RunError> {
        let s = &self.settings;
        let k = s.top_k.as_ref().map_or(0, |top_k| top_k.at(self.rounds_done) as usize);
        let expected = Expected { params: self.layout.total(), k };
        let sources: Vec<_> =
            self.submissions.iter().map(|sent| sent.source(expected)).collect::<Result<_, _>>()?;
        let submissions: Vec<Submission<'_>> = sources
            .iter()
            .enumerate()
            .map(|(i, gradient)| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&(i as u64).to_be_bytes());
                Submission { id, gradient: gradient.as_ref(), weight: 1.0 }
            })
            .collect();
        let momentum = (s.outer_momentum > 0.0).then_some(s.outer_momentum);
        let (next, _) = outer_step(
            &self.outer,
            &submissions,
            &OuterSpec { rate: s.outer_lr.at(self.rounds_done), momentum },
        )?;
        drop(sources);
        self.outer = next;
        let bytes: usize = self.submissions.drain(..).map(|sent| sent.size()).sum();
        let [eval_loss] = self.trainer.evaluate(&self.outer.parameters, [&self.evaluation])?;
        let losses = std::mem::take(&mut self.losses);
        let steps = s.inner_steps.at(self.rounds_done);
        self.rounds_done += 1;
        Ok(RoundReport {
            round: self.rounds_done,
            train_loss: losses.iter().sum::<f32>() / losses.len().max(1) as f32,
            eval_loss,
            bytes_per_worker: bytes / (s.workers as usize).max(1),
            tokens: u64::from(s.workers) * u64::from(steps) * (s.batch * s.seq) as u64,
            seconds: started.elapsed().as_secs_f64(),
            checkpoint: checkpoint_digest(&self.outer.parameters)?,
        })
    }

    /// Everything needed to continue.
    fn saved(&self) -> Saved {
        let mut vectors = HashMap::from([("checkpoint".to_owned(), self.outer.parameters.clone())]);
        vectors.insert("velocity".to_owned(), self.outer.velocity.clone());
        let mut files = HashMap::new();
        for (i, w) in self.workers.iter().enumerate() {
            vectors.insert(format!("worker.{i}.error_feedback"), w.error_feedback.clone());
            match &w.moments {
                Moments::Fresh => {}
                Moments::Encoded(bytes) => drop(files.insert(format!("worker.{i}.moments"), bytes.clone())),
                Moments::Full { first, second } => {
                    vectors.insert(format!("worker.{i}.first"), first.clone());
                    vectors.insert(format!("worker.{i}.second"), second.clone());
                }
            }
        }
        for (i, sent) in self.submissions.iter().enumerate() {
            let name = format!("round.{i}.pseudo_gradient");
            match sent {
                Sent::Encoded(bytes) => drop(files.insert(name, bytes.clone())),
                Sent::Whole(values) => drop(vectors.insert(name, values.clone())),
            }
        }
        if let Some(u) = &self.under_way {
            vectors.insert("under_way.parameters".to_owned(), u.state.parameters.clone());
            vectors.insert("under_way.first".to_owned(), u.state.first.clone());
            vectors.insert("under_way.second".to_owned(), u.state.second.clone());
        }
        let meta = Meta {
            rounds: self.rounds_done,
            updates: self.workers.iter().map(|w| w.updates).collect(),
            submitted: self.submissions.len() as u32,
            under_way: self.under_way.as_ref().map(|u| (u.worker, u.steps, u.state.updates)),
            losses: self.losses.clone(),
            ..Meta::default()
        };
        Saved { meta, vectors, files }
    }

    fn restore(&mut self, saved: Saved) -> Result<(), RunError> {
        let Saved { meta, mut vectors, mut files } = saved;
        let total = self.layout.total();
        let mut take = |name: String| match vectors.remove(&name) {
            Some(v) if v.len() == total => Ok(v),
            _ => Err(RunError::Incomplete(name)),
        };
        self.outer.parameters = take("checkpoint".to_owned())?;
        for (i, w) in self.workers.iter_mut().enumerate() {
            if self.settings.top_k.is_some() {
                w.error_feedback = take(format!("worker.{i}.error_feedback"))?;
            }
            let updates = meta.updates.get(i).copied();
            w.updates = updates.ok_or_else(|| RunError::Incomplete(format!("updates of worker {i}")))?;
            w.moments = match (w.updates, self.settings.eight_bit) {
                (0, _) => Moments::Fresh,
                (_, true) => {
                    let name = format!("worker.{i}.moments");
                    Moments::Encoded(files.remove(&name).ok_or(RunError::Incomplete(name))?)
                }
                (_, false) => Moments::Full {
                    first: take(format!("worker.{i}.first"))?,
                    second: take(format!("worker.{i}.second"))?,
                },
            };
        }
        for i in 0..meta.submitted {
            let name = format!("round.{i}.pseudo_gradient");
            self.submissions.push(match &self.settings.top_k {
                Some(_) => Sent::Encoded(files.remove(&name).ok_or(RunError::Incomplete(name))?),
                None => Sent::Whole(take(name)?),
            });
        }
        if let Some((worker, steps, updates)) = meta.under_way {
            let state = State {
                parameters: take("under_way.parameters".to_owned())?,
                first: take("under_way.first".to_owned())?,
                second: take("under_way.second".to_owned())?,
                updates,
            };
            self.under_way = Some(UnderWay { worker, steps, state });
        }
        self.outer.velocity = vectors.remove("velocity").unwrap_or_default();
        self.rounds_done = meta.rounds;
        self.losses = meta.losses;
        Ok(())
    }
}
