//! Checking what a miner handed in. What is found is a fault that anybody finds again, or nothing.

use std::ops::{ControlFlow, Range};

use watershed_engine::merkle::Layout;
use watershed_engine::train::{State, StepRecord, TrainError, Trainer, inner_steps};
use watershed_engine::{moments, pseudo_gradient};
use watershed_protocol::Digest;
use watershed_protocol::market::{Assignment, Commitment, Fault, Reveal, TrajectoryHash};

use super::carried::{decode_moments, digest, feedback_layout, moments_digest, moments_layout};
use super::opening::{OpenedChunk, OpenedChunks};
use super::work::{claim as step_claim, pseudo_gradient_of};
use super::{Carried, RoundError, Workbench, floats_of};

/// Everything that is public about one submission.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The task.
    pub assignment: &'a Assignment,
    /// What the miner bound itself to.
    pub commitment: &'a Commitment,
    /// What it showed.
    pub reveal: &'a Reveal,
    /// What it bound itself to in the assignment that this one continues.
    pub previous: Option<&'a Commitment>,
    /// The upload.
    pub encoded: &'a [u8],
    /// The parameters to start from.
    pub checkpoint: &'a [f32],
}

/// A fault, or a problem of our own.
pub(crate) type Found = Result<Result<(), Fault>, RoundError>;

const SOUND: Found = Ok(Ok(()));

/// Whether two vectors are the same bits.
fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// What opened chunks are held against, the same for all of them: digesting a whole model of zeros once for every chunk
/// would cost more than everything else about it.
struct Trees {
    states: Layout,
    carried: Layout,
    feedback: Layout,
    moments_root: Digest,
    feedback_root: Digest,
}

impl Trees {
    fn of(claim: &Claim<'_>, n: usize, carries: bool) -> Result<Self, RoundError> {
        let zero = Carried::zero(n);
        let (moments_root, feedback_root) = match claim.previous {
            Some(p) if carries => (p.moments, p.error_feedback),
            Some(p) => (zero.moments_digest()?, p.error_feedback),
            None => (zero.moments_digest()?, zero.feedback_digest()?),
        };
        Ok(Self {
            states: State::fresh(vec![0.0; n]).chunks()?,
            carried: moments_layout(n)?,
            feedback: feedback_layout(n)?,
            moments_root,
            feedback_root,
        })
    }
}

impl Workbench {
    /// Number of chunks of the model.
    pub fn chunks(&self) -> u64 {
        self.settings.parameters().div_ceil(pseudo_gradient::CHUNK) as u64
    }

    fn expected(&self) -> pseudo_gradient::Expected {
        let k = self.settings.spec.compression.top_k as usize;
        pseudo_gradient::Expected { params: self.settings.parameters(), k }
    }

    /// The pseudo-gradient in full.
    ///
    /// # Errors
    /// [`RoundError::Decode`].
    pub fn decode(&self, encoded: &[u8]) -> Result<Vec<f32>, RoundError> {
        Ok(pseudo_gradient::decode_dense(encoded, self.expected())?)
    }

    /// Checks the upload against the commitment, and its form. No training is done.
    ///
    /// # Errors
    /// Only for problems of our own.
    pub fn check_reveal(&self, claim: &Claim<'_>) -> Found {
        let (assignment, commitment, reveal) = (claim.assignment, claim.commitment, claim.reveal);
        if commitment.submission != Commitment::submission_of(assignment.miner, claim.encoded) {
            return Ok(Err(Fault::OtherSubmission));
        }
        if commitment.trajectory != TrajectoryHash::of(reveal.start, &reveal.steps) {
            return Ok(Err(Fault::OtherTrajectory));
        }
        let steps = reveal.steps.len();
        if steps != self.settings.spec.inner.steps as usize {
            return Ok(Err(Fault::StepCount(u32::try_from(steps).unwrap_or(u32::MAX))));
        }
        match self.decode(claim.encoded) {
            Ok(values) if values.iter().all(|v| v.is_finite()) => {}
            Ok(_) => return Ok(Err(Fault::Undecodable("it has values that are not finite".to_owned()))),
            Err(e) => return Ok(Err(Fault::Undecodable(e.to_string()))),
        }
        // With carried moments the start is checked by its chunks, and in full when step 0 is replayed.
        if claim.previous.is_none() || !self.settings.spec.inner.carried {
            let start = State::fresh(claim.checkpoint.to_vec());
            if digest(start.digest()?) != reveal.start {
                return Ok(Err(Fault::Start));
            }
        }
        SOUND
    }

    /// Replays steps from the state before the first of them, which the miner handed over as `file`.
    ///
    /// # Errors
    /// Only for problems of our own.
    pub fn check_steps(&mut self, claim: &Claim<'_>, steps: Range<u32>, file: &[u8]) -> Found {
        let n = self.settings.parameters();
        let step = steps.start;
        let updates = self.updates_before(claim) + step;
        let state = if step == 0 {
            let Ok((first, second)) = decode_moments(file, n) else { return Ok(Err(Fault::Start)) };
            let carried = if self.settings.spec.inner.carried { claim.previous } else { None };
            let wanted = match carried {
                Some(previous) => previous.moments,
                None => Carried::zero(n).moments_digest()?,
            };
            if moments_digest(&first, &second)? != wanted {
                return Ok(Err(Fault::Start));
            }
            State { parameters: claim.checkpoint.to_vec(), first, second, updates }
        } else {
            let Ok(vectors) = floats_of(file, "the state", 3, n) else {
                return Ok(Err(Fault::State { step }));
            };
            let mut vectors = vectors.into_iter();
            let mut next = || vectors.next().unwrap_or_default();
            State { parameters: next(), first: next(), second: next(), updates }
        };
        let before = match step.checked_sub(1) {
            None => Some(claim.reveal.start),
            Some(before) => claim.reveal.steps.get(before as usize).map(|s| s.state),
        };
        if before != Some(digest(state.digest()?)) {
            return Ok(Err(if step == 0 { Fault::Start } else { Fault::State { step } }));
        }
        if steps.end as usize > claim.reveal.steps.len() {
            return Ok(Err(Fault::StepCount(claim.reveal.steps.len() as u32)));
        }
        let base = self.schedule_step(claim.assignment, 0);
        let Self { text, trainer, .. } = self;
        let (failed, assignment) = (std::cell::RefCell::new(None), claim.assignment);
        let window = |step: u32| {
            let skip = u64::from(step - base) * u64::from(assignment.batch);
            text.step_tokens(&assignment.window, skip, assignment.batch, &failed)
        };
        let mut elsewhere = None;
        // Losses are committed to as well: whoever does the whole work again holds them against the validator otherwise.
        let mut compare = |record: &StepRecord, _: &Trainer| {
            let step = record.step - base;
            if claim.reveal.steps.get(step as usize) == Some(&step_claim(record)) {
                return ControlFlow::Continue(());
            }
            elsewhere = Some(step);
            ControlFlow::Break(())
        };
        let replayed =
            inner_steps(trainer, &state, base + steps.start..base + steps.end, &window, &mut compare);
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        match replayed {
            Ok(_) => Ok(elsewhere.map_or(Ok(()), |step| Err(Fault::Replay { step }))),
            Err(TrainError::Diverged { step, .. }) => Ok(Err(Fault::Replay { step: step - base })),
            Err(other) => Err(other.into()),
        }
    }

    fn updates_before(&self, claim: &Claim<'_>) -> u32 {
        if self.settings.spec.inner.carried { claim.previous.map_or(0, |p| p.updates) } else { 0 }
    }

    /// Does the compression of the opened chunks again.
    ///
    /// # Errors
    /// Only for problems of our own.
    pub fn check_chunks(&self, claim: &Claim<'_>, asked: &[u64], opened: &OpenedChunks) -> Found {
        if !asked.iter().copied().eq(opened.chunks.iter().map(|c| c.chunk)) {
            return Ok(Err(Fault::OtherAnswer));
        }
        let submitted = match self.decode(claim.encoded) {
            Ok(values) => values,
            Err(e) => return Ok(Err(Fault::Undecodable(e.to_string()))),
        };
        let (steps, updates) = (self.settings.spec.inner.steps, self.updates_before(claim));
        let wanted = if self.settings.spec.inner.carried { updates + steps } else { 0 };
        if claim.commitment.updates != wanted {
            return Ok(Err(Fault::Updates(claim.commitment.updates)));
        }
        let trees = Trees::of(claim, self.settings.parameters(), self.settings.spec.inner.carried)?;
        for chunk in &opened.chunks {
            if let Err(fault) = self.check_chunk(claim, chunk, &trees, &submitted)? {
                return Ok(Err(fault));
            }
        }
        SOUND
    }

    fn check_chunk(
        &self,
        claim: &Claim<'_>,
        opened: &OpenedChunk,
        trees: &Trees,
        submitted: &[f32],
    ) -> Found {
        let n = self.settings.parameters();
        let chunk = opened.chunk;
        let Trees { states, carried, feedback, moments_root, feedback_root } = trees;
        let (moments_root, feedback_root) = (*moments_root, *feedback_root);
        let last = claim.reveal.steps.last().map_or(claim.reveal.start, |s| s.state);
        let of = |part: &super::Part, root, layout, section| part.is_of(root, layout, section, chunk);
        for (section, part) in opened.start.iter().enumerate() {
            if !of(part, claim.reveal.start, states, section) {
                return Ok(Err(Fault::ChunkOpening {
                    chunk,
                    what: "the state before the first step".into(),
                }));
            }
        }
        for (section, part) in opened.end.iter().enumerate() {
            if !of(part, last, states, section) {
                return Ok(Err(Fault::ChunkOpening { chunk, what: "the state after the last step".into() }));
            }
        }
        for section in 0..2 {
            if !of(&opened.moments_before[section], moments_root, carried, section) {
                return Ok(Err(Fault::ChunkOpening { chunk, what: "the moments before".into() }));
            }
            if !of(&opened.moments_after[section], claim.commitment.moments, carried, section) {
                return Ok(Err(Fault::ChunkOpening { chunk, what: "the moments after".into() }));
            }
            if !same(&opened.start[section + 1].values, &opened.moments_before[section].values) {
                return Ok(Err(Fault::Start));
            }
        }
        if !of(&opened.feedback_before, feedback_root, feedback, 0) {
            return Ok(Err(Fault::ChunkOpening { chunk, what: "the error feedback before".into() }));
        }
        if !of(&opened.feedback_after, claim.commitment.error_feedback, feedback, 0) {
            return Ok(Err(Fault::ChunkOpening { chunk, what: "the error feedback after".into() }));
        }
        let from = chunk as usize * pseudo_gradient::CHUNK;
        let range = from..(from + pseudo_gradient::CHUNK).min(n);
        let theta = claim.checkpoint.get(range.clone()).ok_or(RoundError::NoChunk(chunk))?;
        if !same(&opened.start[0].values, theta) {
            return Ok(Err(Fault::Start));
        }
        let [end, first, second] = &opened.end;
        let kept = if self.settings.spec.inner.carried {
            match moments::encode(&first.values, &second.values)
                .map(|bytes| moments::decode(&bytes, first.values.len()))
            {
                Ok(Ok(kept)) => (kept.first, kept.second),
                _ => return Ok(Err(Fault::Moments { chunk })),
            }
        } else {
            (vec![0.0; theta.len()], vec![0.0; theta.len()])
        };
        let [after_first, after_second] = &opened.moments_after;
        if !same(&after_first.values, &kept.0) || !same(&after_second.values, &kept.1) {
            return Ok(Err(Fault::Moments { chunk }));
        }
        let delta = pseudo_gradient_of(theta, &end.values);
        let mut feedback = opened.feedback_before.values.clone();
        let compression = &self.settings.spec.compression;
        let k = compression.top_k as usize;
        let what = |what: &str| Ok(Err(Fault::Compression { chunk, what: what.to_owned() }));
        let Ok(encoded) = pseudo_gradient::compress(&mut feedback, &delta, compression.error_decay, k) else {
            return what("values");
        };
        let expected = pseudo_gradient::Expected { params: delta.len(), k };
        let values = pseudo_gradient::decode_dense(&encoded, expected)?;
        if !submitted.get(range).is_some_and(|s| same(s, &values)) {
            return what("values");
        }
        if !same(&feedback, &opened.feedback_after.values) {
            return what("error feedback");
        }
        SOUND
    }
}
