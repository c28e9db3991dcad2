//! One training step on a device.

use crate::burn::backend::Flex;
use crate::burn::tensor::{Device, Tensor};

use super::memory::{on_cpu, read};
use super::{State, TrainError, TrainSettings, digest};
use crate::merkle::StateDigest;
use crate::model::decoder::to_tensors;
use crate::model::{Decoder, Layout, Profile, Tokens};
use crate::ops::host::flush;
use crate::ops::pool;
use crate::ops::tensor::{adamw, sum_of_squares};

/// What a step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy of the batch before the update, in nats per token.
    pub loss: f32,
    /// Global L2 norm of the gradient before clipping.
    pub gradient_norm: f32,
}

/// A model and its optimizer state on a device.
#[derive(Debug)]
pub struct Trainer {
    decoder: Decoder,
    settings: TrainSettings,
    device: Device,
    first: Vec<Tensor<3>>,
    second: Vec<Tensor<3>>,
    updates: u32,
}

impl Trainer {
    /// Puts `state` on `device`.
    ///
    /// # Errors
    /// The state's vectors do not fit the layout.
    pub fn new(
        layout: Layout,
        profile: Profile,
        settings: TrainSettings,
        device: &Device,
        state: &State,
    ) -> Result<Self, TrainError> {
        let device = device.clone().inner();
        let (decoder, first, second) = place(layout, profile, &device, state)?;
        Ok(Self { decoder, settings, device, first, second, updates: state.updates })
    }

    /// The model being trained.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Replaces parameters and moments, keeping the device and the layout.
    ///
    /// # Errors
    /// The state's vectors do not fit the layout.
    pub fn load(&mut self, state: &State) -> Result<(), TrainError> {
        let (layout, profile) = (self.decoder.layout().clone(), self.decoder.profile());
        (self.decoder, self.first, self.second) = place(layout, profile, &self.device, state)?;
        self.updates = state.updates;
        Ok(())
    }

    /// Reads the state back.
    ///
    /// # Errors
    /// The device fails.
    pub fn state(&self) -> Result<State, TrainError> {
        let mut state = State { parameters: Vec::new(), first: Vec::new(), second: Vec::new(), updates: 0 };
        self.read_into(&mut state)?;
        Ok(state)
    }

    /// Reads the state back into `state`, whose memory is reused.
    ///
    /// # Errors
    /// The device fails; `state` is then undefined.
    pub fn read_into(&self, state: &mut State) -> Result<(), TrainError> {
        flatten(self.decoder.parameters().iter().map(|p| p.clone().inner()), &mut state.parameters)?;
        flatten(self.first.iter().cloned(), &mut state.first)?;
        flatten(self.second.iter().cloned(), &mut state.second)?;
        state.updates = self.updates;
        Ok(())
    }

    /// The digest of the state, as [`State::digest`] gives it, hashed where it lies: on the CPU without a copy, and of a state
    /// on another device only the hashes come back.
    ///
    /// # Errors
    /// The device fails.
    pub fn digest(&self) -> Result<StateDigest, TrainError> {
        let parameters = self.decoder.parameters().iter().map(|p| p.clone().inner()).collect();
        let sections = [parameters, self.first.clone(), self.second.clone()];
        digest::digest(self.decoder.layout().total() as u64, &sections)
    }

    /// One AdamW step on `tokens`; `step` is its index in the learning-rate schedule.
    ///
    /// # Errors
    /// Tokens that do not fit, a loss or gradient that is not finite (nothing is updated then), a failing device.
    pub fn step(&mut self, step: u32, tokens: &Tokens) -> Result<StepOutcome, TrainError> {
        near(self.on_cpu(), || self.step_here(step, tokens))
    }

    fn on_cpu(&self) -> bool {
        self.first.iter().all(|t| t.clone().try_into_primitive::<Flex>().is_ok())
    }

    fn step_here(&mut self, step: u32, tokens: &Tokens) -> Result<StepOutcome, TrainError> {
        let loss = self.decoder.loss(tokens)?;
        let mut gradients = loss.backward();
        let mut gradient = Vec::with_capacity(self.first.len());
        for (p, spec) in self.decoder.parameters().iter().zip(self.decoder.layout().params()) {
            let g = p.grad_remove(&mut gradients);
            gradient.push(g.ok_or_else(|| TrainError::NoGradient { name: spec.name.clone() })?);
        }
        let loss = scalar(loss.inner())?;
        let norm = self.gradient_norm(&gradient)?;
        if !loss.is_finite() || !norm.is_finite() {
            return Err(TrainError::Diverged { step, loss, gradient_norm: norm });
        }
        self.update(step, gradient, norm)?;
        Ok(StepOutcome { loss, gradient_norm: norm })
    }

    /// `sqrt` of the squares of all tensors, which are added on the host in declared order.
    fn gradient_norm(&self, gradient: &[Tensor<3>]) -> Result<f32, TrainError> {
        let exact = matches!(self.decoder.profile(), Profile::Exact(_));
        let squares: Vec<Tensor<3>> = gradient
            .iter()
            .map(|g| {
                if exact {
                    sum_of_squares(g.clone())
                } else {
                    (g.clone() * g.clone()).sum().reshape([1, 1, 1])
                }
            })
            .collect();
        let total = read(Tensor::cat(squares, 2))?.into_iter().fold(0f32, |sum, x| flush(sum + x));
        Ok(total.sqrt())
    }

    fn update(&mut self, step: u32, gradient: Vec<Tensor<3>>, norm: f32) -> Result<(), TrainError> {
        let hyper = self.settings.hyper(step, self.updates)?;
        let exact = matches!(self.decoder.profile(), Profile::Exact(_));
        let decays: Vec<bool> = self.decoder.layout().params().iter().map(|p| p.decay).collect();
        let slots = self.first.iter_mut().zip(&mut self.second).zip(gradient).zip(decays);
        for (parameter, (((first, second), g), decay)) in self.decoder.parameters_mut().iter_mut().zip(slots)
        {
            let n = self.settings.numbers(hyper, norm, decay);
            let blank = Tensor::empty([1, 1, 1], &self.device);
            // The old tensors are given up so that the CPU can update them in place.
            let p = std::mem::replace(parameter, blank.clone()).inner();
            let (m, v) = (std::mem::replace(first, blank.clone()), std::mem::replace(second, blank));
            let (p, m, v) = if exact {
                adamw(p, g, m, v, n)
            } else {
                let g = g.mul_scalar(n.gradient_scale);
                let m = m.mul_scalar(n.beta1) + g.clone().mul_scalar(n.one_minus_beta1);
                let v = v.mul_scalar(n.beta2) + (g.clone() * g).mul_scalar(n.one_minus_beta2);
                let root = v.clone().mul_scalar(n.c2).add_scalar(n.eps_squared).sqrt();
                let p = p.clone()
                    - (m.clone().mul_scalar(n.c1) / root).mul_scalar(n.lr)
                    - p.mul_scalar(n.lr_decay);
                (p, m, v)
            };
            (*first, *second) = (m, v);
            *parameter = Tensor::from_inner(p).require_grad();
        }
        self.updates = self.updates.saturating_add(1);
        Ok(())
    }

    /// Mean loss of other parameters, in the trainer's layout and on its device, on each of `sets` of batches, every batch
    /// weighted alike. Nothing is kept for a gradient, and the trainer's state stays.
    ///
    /// # Errors
    /// As [`Trainer::step`], without divergence; a length that does not fit the layout; [`TrainError::Device`] if a set is
    /// empty.
    pub fn evaluate<const N: usize>(
        &self,
        parameters: &[f32],
        sets: [&[Tokens]; N],
    ) -> Result<[f32; N], TrainError> {
        let (layout, profile) = (self.decoder.layout().clone(), self.decoder.profile());
        let decoder = Decoder::new(layout, profile, &self.device, parameters, false)?;
        near(self.on_cpu(), || {
            let mut losses = [0.0; N];
            for (loss, batches) in losses.iter_mut().zip(sets) {
                *loss = mean_loss(&decoder, batches)?;
            }
            Ok(losses)
        })
    }
}

fn mean_loss(decoder: &Decoder, batches: &[Tokens]) -> Result<f32, TrainError> {
    if batches.is_empty() {
        return Err(TrainError::Device("no batches to evaluate".to_owned()));
    }
    let mut sum = 0f32;
    for tokens in batches {
        sum += scalar(decoder.loss(tokens)?)?;
    }
    Ok(sum / batches.len() as f32)
}

impl Drop for Trainer {
    /// The memory that steps reuse is of no use to anything else.
    fn drop(&mut self) {
        pool::clear();
    }
}

/// A decoder and its moments on a device.
fn place(
    layout: Layout,
    profile: Profile,
    device: &Device,
    state: &State,
) -> Result<(Decoder, Vec<Tensor<3>>, Vec<Tensor<3>>), TrainError> {
    layout.check_length(state.first.len())?;
    layout.check_length(state.second.len())?;
    let first = to_tensors(&layout, &state.first, device);
    let second = to_tensors(&layout, &state.second, device);
    Ok((Decoder::new(layout, profile, device, &state.parameters, true)?, first, second))
}

/// Runs many small operations. On the CPU it does so on a thread of the pool: one outside hands each operation over and sleeps
/// until it is done.
fn near<T: Send>(on_cpu: bool, run: impl FnOnce() -> T + Send) -> T {
    if on_cpu { rayon::scope(|_| run()) } else { run() }
}

/// Replaces `flat` with the elements of all tensors. Those on the CPU are copied once, straight from their storage.
fn flatten(tensors: impl Iterator<Item = Tensor<3>>, flat: &mut Vec<f32>) -> Result<(), TrainError> {
    flat.clear();
    for t in tensors {
        match on_cpu(&t) {
            Some(held) => flat.extend_from_slice(held.storage()),
            None => flat.extend_from_slice(&read(t)?),
        }
    }
    Ok(())
}

fn scalar(t: Tensor<3>) -> Result<f32, TrainError> {
    read(t)?.first().copied().ok_or_else(|| TrainError::Device("an empty result".to_owned()))
}
