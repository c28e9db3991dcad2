//! The computing side of a task. Runs on a thread of its own; may be stopped after any step and goes on from there.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use watershed_engine::device::OpenDevice;
use watershed_engine::train::{State, Trainer};
use watershed_protocol::market::{Assignment, Commitment, Opening, Reveal, StepClaim, TrajectoryHash};
use watershed_protocol::{AssignmentId, Digest, SystemTrouble, encode};
use watershed_rounds::{Carried, Workbench, floats_of, open_chunks, sha256};
use watershed_shards::library::Store;

use super::conduct::{Cheat, Conduct};
use super::keep::{Finished, Keep};
use crate::disk::Room;

/// How much work a kill may cost, where the disk has no room for the state after every step.
const KEEP: Duration = Duration::from_secs(10);

/// What the worker tells while it works.
pub(super) type Told<'a> = dyn Fn(u32, f32) + Sync + 'a;

/// A workbench with the files of its run.
pub(super) struct Worker {
    pub(super) bench: Workbench,
    pub(super) keep: Keep,
    /// Every how many steps a state is kept.
    every: u32,
    room: Room,
    conduct: Conduct,
    device: OpenDevice,
}

/// A task and its checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: AssignmentId,
    pub(super) assignment: Assignment,
    pub(super) checkpoint: Vec<f32>,
}

/// Whether a write failed because nothing is left of the disk, or of the user's share of it.
pub(super) fn is_full(said: &str) -> bool {
    matches!(SystemTrouble::said(said), Some(SystemTrouble::DiskFull | SystemTrouble::Quota))
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl Worker {
    pub(super) fn new(
        bench: Workbench,
        keep: Keep,
        (disk, mut room): (u64, Room),
        conduct: Conduct,
        device: OpenDevice,
    ) -> Self {
        let each = 12 * bench.settings().parameters() as u64;
        let steps = u64::from(bench.settings().spec.inner.steps);
        // Half of what there is: the rest is for what a task cannot do without.
        let disk = disk.min(room.spare() / 2);
        let every = (each * steps).div_ceil(disk.max(1)).clamp(1, steps);
        Self { bench, keep, every: u32::try_from(every).unwrap_or(1), room, conduct, device }
    }

    /// Bytes of a state between two steps.
    fn state_bytes(&self) -> u64 {
        12 * self.bench.settings().parameters() as u64
    }

    /// Bytes that a task takes on the disk at least: a checkpoint that arrives and is put in its place, one state, what is
    /// carried, and the submission.
    pub(super) fn task_bytes(&self) -> u64 {
        3 * self.state_bytes()
    }

    /// Writes what a task cannot do without: for that every state between steps is let go of, if there is no room otherwise.
    fn must(&self, id: AssignmentId, write: impl Fn(&Keep) -> Result<(), String>) -> Result<(), String> {
        match write(&self.keep) {
            Err(e) if is_full(&e) => {
                self.keep.thin(id, true);
                write(&self.keep)
            }
            written => written,
        }
    }

    fn steps(&self) -> u32 {
        self.bench.settings().spec.inner.steps
    }

    /// What is carried into a task; none if it is lost.
    pub(super) fn carried(&self, assignment: &Assignment) -> Result<Option<Carried>, String> {
        let n = self.bench.settings().parameters();
        match assignment.previous {
            None => Ok(Some(Carried::zero(n))),
            Some(previous) => self.keep.carried(previous, n),
        }
    }

    /// Tokens per second of an inner step here, by `seconds` for two of them.
    pub(super) fn speed(&mut self, assignment: &Assignment, clock: &dyn Fn() -> f64) -> Result<u32, String> {
        let state = State::fresh(self.bench.initial());
        let mut ends = Vec::new();
        let mut told = |step: u32, _: StepClaim, _: &Trainer| {
            ends.push(clock());
            if step >= 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.bench.train(assignment, &state, 0, &mut told).map_err(text)?;
        let tokens = f64::from(assignment.batch) * f64::from(assignment.window.sequence_length);
        // The first step warms up; of a run with a single step there is no other.
        let seconds = match ends.as_slice() {
            [first, .., last] => (last - first) / (ends.len() - 1) as f64,
            [only] => *only,
            [] => return Ok(1),
        };
        Ok((tokens / seconds.max(1e-9)).clamp(1.0, 4e9) as u32)
    }

    /// Does a task, from wherever it stands. None if it was stopped.
    pub(super) fn train(
        &mut self,
        task: &Task,
        told: &Told<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<Finished>, String> {
        if let Some(finished) = self.keep.finished(task.id)? {
            return Ok(Some(finished));
        }
        self.keep.begin(task.id, &task.assignment)?;
        let cheat = self.conduct.in_round(task.assignment.round.0);
        let before = self.carried(&task.assignment)?.ok_or("what was carried into this task is lost")?;
        let mut start = before.start(&task.checkpoint).map_err(text)?;
        if cheat == Some(Cheat::WrongCheckpoint) {
            start.parameters = self.bench.initial().iter().map(|p| p * 1.01).collect();
        }
        let start_digest = Digest(start.digest().map_err(text)?.0);
        let Some((claims, end)) = self.inner(task, &start, cheat, told, stop)? else { return Ok(None) };
        let mut submitted = end.clone();
        if cheat == Some(Cheat::Scaled) {
            for (p, theta) in submitted.parameters.iter_mut().zip(&task.checkpoint) {
                *p = theta - 10.0 * (theta - *p);
            }
        }
        if cheat == Some(Cheat::PoisonedChunk) {
            for (p, theta) in submitted.parameters.iter_mut().zip(&task.checkpoint).take(4096) {
                *p = theta - 30.0 * (*p - theta);
            }
        }
        if cheat.is_some() {
            // A cheat gets right what costs nothing.
            submitted.updates = start.updates + self.steps();
        }
        let submission = self.bench.submit(&task.checkpoint, &submitted, &before).map_err(text)?;
        let mut encoded = submission.encoded;
        match cheat {
            Some(Cheat::Garbage) => {
                encoded = encoded.iter().map(|b| b.wrapping_mul(31).wrapping_add(7)).collect()
            }
            Some(Cheat::Oversize) => encoded = vec![0x57; 65 << 20],
            Some(Cheat::Stale) => {
                if let Some(old) =
                    task.assignment.previous.map(|id| self.keep.submission(id)).transpose()?.flatten()
                {
                    encoded = old;
                }
            }
            _ => {}
        }
        self.must(task.id, |keep| keep.keep_carried(task.id, &submission.carried))?;
        let commitment = Commitment {
            assignment: task.id,
            submission: Commitment::submission_of(task.assignment.miner, &encoded),
            trajectory: TrajectoryHash::of(start_digest, &claims),
            error_feedback: submission.carried.feedback_digest().map_err(text)?,
            moments: submission.carried.moments_digest().map_err(text)?,
            updates: submission.carried.updates,
        };
        if cheat == Some(Cheat::OtherReveal) {
            encoded = self.bench.submit(&task.checkpoint, &start, &before).map_err(text)?.encoded;
        }
        let reveal =
            Reveal { assignment: task.id, blob: sha256(&encoded), start: start_digest, steps: claims };
        let finished = Finished { commitment, reveal };
        self.must(task.id, |keep| keep.finish(task.id, &finished, &encoded))?;
        Ok(Some(finished))
    }

    /// The inner steps, and the state they end in.
    fn inner(
        &mut self,
        task: &Task,
        start: &State,
        cheat: Option<Cheat>,
        told: &Told<'_>,
        stop: &AtomicBool,
    ) -> Result<Option<(Vec<StepClaim>, State)>, String> {
        let all = self.steps();
        let mut assignment = task.assignment.clone();
        let mut steps = all;
        match cheat {
            Some(Cheat::Zero) => steps = 0,
            Some(Cheat::Random | Cheat::Copied) => steps = 0,
            Some(Cheat::SkippedSteps | Cheat::SelectiveOpening) => steps = all.div_ceil(2),
            Some(Cheat::WrongShard) => assignment.window.first += 1_000,
            Some(Cheat::LowPrecision) => {
                let mut spec = self.bench.settings().spec.clone();
                spec.inner.precision = (8, 8);
                self.bench =
                    Workbench::new(&spec, &Store::new(&self.keep.library()), &self.device).map_err(text)?;
            }
            _ => {}
        }
        let mut claims = self.keep.steps(task.id)?;
        claims.truncate(steps as usize);
        let (mut state, done) = self.last_kept(task, start, &claims)?;
        claims.truncate(done as usize);
        let (keep, every, size) = (self.keep.clone(), self.every, self.state_bytes());
        let (room, mut said) = (&mut self.room, false);
        let mut failed = None;
        let mut last = (done, Instant::now());
        let mut progress = |step: u32, claim: StepClaim, trainer: &Trainer| {
            let taken = step + 1;
            claims.push(claim);
            told(taken, f32::from_bits(claim.loss));
            let enough = taken >= steps || stop.load(Ordering::SeqCst);
            if enough || taken.is_multiple_of(every) || last.1.elapsed() >= KEEP {
                if !room.take(size) {
                    keep.thin(task.id, false);
                }
                // Without room the steps are taken all the same: a state is computed again when somebody asks for it.
                if !room.take(size) {
                    if !std::mem::replace(&mut said, true) {
                        eprintln!("states between steps are not kept any more: {}", room.told());
                    }
                    last.1 = Instant::now();
                    return if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
                }
                let kept = trainer
                    .state()
                    .map_err(text)
                    .and_then(|state| keep.keep_state(task.id, taken, &state))
                    .and_then(|()| keep.keep_steps(task.id, &claims));
                if let Some(e) = kept.as_ref().err().filter(|e| is_full(e)) {
                    // Less is free than was measured; the same as above.
                    eprintln!("a state between steps was not kept: {e}");
                    keep.thin(task.id, true);
                } else if let Err(e) = kept {
                    failed = Some(e);
                    return ControlFlow::Break(());
                }
                if !last.0.is_multiple_of(every) {
                    keep.drop_state(task.id, last.0);
                }
                last = (taken, Instant::now());
            }
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if done < steps {
            let trajectory = self.bench.train(&assignment, &state, done, &mut progress).map_err(text)?;
            state = trajectory.state;
        }
        if let Some(e) = failed {
            return Err(e);
        }
        if (claims.len() as u32) < steps {
            return Ok(None);
        }
        if cheat == Some(Cheat::Random) {
            for (i, p) in state.parameters.iter_mut().enumerate() {
                *p += ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 1e-2;
            }
        }
        // A cheat that took fewer steps claims that the others led nowhere.
        if steps < all {
            let last = Digest(state.digest().map_err(text)?.0);
            while (claims.len() as u32) < all {
                claims.push(StepClaim { state: last, loss: 1.0f32.to_bits() });
                // And opens just that when it is asked.
                self.keep.keep_state(task.id, claims.len() as u32, &state)?;
            }
            self.keep.keep_steps(task.id, &claims)?;
        }
        Ok(Some((claims, state)))
    }

    /// The last state that is kept and whole, of those whose steps are in `claims`; how many steps led to it.
    fn last_kept(&self, task: &Task, start: &State, claims: &[StepClaim]) -> Result<(State, u32), String> {
        let n = self.bench.settings().parameters();
        for (at, claim) in claims.iter().enumerate().rev() {
            let step = at as u32 + 1;
            if let Some(bytes) = self.keep.state(task.id, step, n)? {
                let state = self.state_of(&bytes, start.updates + step)?;
                if Digest(state.digest().map_err(text)?.0) == claim.state {
                    return Ok((state, step));
                }
            }
        }
        Ok((start.clone(), 0))
    }

    fn state_of(&self, bytes: &[u8], updates: u32) -> Result<State, String> {
        let n = self.bench.settings().parameters();
        let mut vectors = floats_of(bytes, "a kept state", 3, n).map_err(text)?.into_iter();
        let mut next = || vectors.next().unwrap_or_default();
        Ok(State { parameters: next(), first: next(), second: next(), updates })
    }

    /// The state after `step` steps of a finished task: kept, or computed again from one that is.
    fn state_after(&mut self, task: &Task, start: &State, step: u32) -> Result<State, String> {
        let claims = self.keep.steps(task.id)?;
        let (state, done) = self.last_kept(task, start, claims.get(..step as usize).unwrap_or(&claims))?;
        if done == step {
            return Ok(state);
        }
        let mut until = |at: u32, _: StepClaim, _: &Trainer| {
            if at + 1 >= step { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        Ok(self.bench.train(&task.assignment, &state, done, &mut until).map_err(text)?.state)
    }

    /// What a validator asks for: the state before its step, and the opened chunks, both as they are uploaded.
    pub(super) fn open(&mut self, task: &Task, asked: &Opening) -> Result<(Vec<u8>, Vec<u8>), String> {
        let before = self.carried(&task.assignment)?.ok_or("what was carried into this task is lost")?;
        let n = self.bench.settings().parameters();
        let after = self.keep.carried(task.id, n)?.ok_or("what was carried out of this task is lost")?;
        let start = before.start(&task.checkpoint).map_err(text)?;
        let state = match asked.step {
            None => Vec::new(),
            Some(0) => before.moments.clone(),
            Some(step) => {
                let state = self.state_after(task, &start, step)?;
                watershed_rounds::floats(&[&state.parameters, &state.first, &state.second])
            }
        };
        let end = self.state_after(task, &start, self.steps())?;
        let chunks = open_chunks(&asked.chunks, (&start, &end), (&before, &after)).map_err(text)?;
        Ok((state, encode(&chunks).map_err(text)?))
    }
}
