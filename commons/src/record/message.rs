//! What miners and validators said.

use watershed_protocol::market::{
    Fault, Message, Opened, Opening, Outcome, RunSpec, TrajectoryHash, Verdict,
};
use watershed_protocol::{AssignmentId, Envelope, PublicKey, Receipt};

use super::{RecordFault, RunTold, Runs, Told};

impl Runs {
    pub(super) fn message(&mut self, envelope: &Envelope) -> Result<(), RecordFault> {
        let opened = envelope.open::<Message>()?;
        let signer = opened.signer();
        self.said(signer, opened.into_value())
    }

    /// Follows a message whose signature was checked.
    ///
    /// # Errors
    /// As [`Runs::follow`].
    pub fn said(&mut self, signer: PublicKey, message: Message) -> Result<(), RecordFault> {
        match message {
            Message::Commit(commitment) => {
                let id = commitment.assignment;
                let told = self.with(id)?;
                // Whoever has seen the work of others binds itself to nothing any more.
                let late = |t: &RunTold, w: &Told| t.index.is_shown(&w.assignment);
                told.under_way(id, "a commitment", late)?;
                let work = told.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
                if work.assignment.miner != signer {
                    return Err(RecordFault::Signer(signer));
                }
                if work.commitment.replace(commitment).is_some() {
                    return Err(RecordFault::Twice(format!("the commitment of {id}")));
                }
                Ok(())
            }
            Message::Reveal(reveal) => {
                let id = reveal.assignment;
                let told = self.with(id)?;
                // Scores are drawn from all that was shown.
                let late = |t: &RunTold, w: &Told| t.index.randomness(&w.assignment).is_some();
                told.under_way(id, "a submission", late)?;
                let steps = told.spec.inner.steps as usize;
                let work = told.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
                if work.assignment.miner != signer {
                    return Err(RecordFault::Signer(signer));
                }
                if work.commitment.is_none() || reveal.steps.len() != steps {
                    return Err(RecordFault::Order("a submission"));
                }
                if work.reveal.replace(reveal).is_some() {
                    return Err(RecordFault::Twice(format!("the submission of {id}")));
                }
                let submission = work.commitment.as_ref().map(|c| c.submission);
                told.index.showed(id, &work.assignment, submission);
                Ok(())
            }
            Message::Open(opening) => {
                let id = opening.assignment;
                self.with(id)?.opening(signer, opening)
            }
            Message::Opened(opened) => {
                let id = opened.assignment;
                self.with(id)?.opened(signer, opened)
            }
            Message::Verdict(verdict) => {
                let id = verdict.assignment;
                self.with(id)?.verdict(signer, verdict)
            }
            Message::Receipts { assignment, receipts } => {
                let told = self.with(assignment)?;
                let work = told.works.get_mut(&assignment).ok_or(RecordFault::NoAssignment(assignment))?;
                if work.assignment.miner != signer {
                    return Err(RecordFault::Signer(signer));
                }
                if !work.receipts.is_empty() {
                    return Err(RecordFault::Twice(format!("the receipts for {assignment}")));
                }
                for receipt in &receipts {
                    let opened = receipt.open::<Receipt>()?;
                    let receipt = opened.value();
                    let hash = receipt.payment_hash;
                    // A payee may receive more than it asked for (BOLT 4), never less.
                    let fits = work.lots.iter().any(|l| l.hash == hash && l.amount <= receipt.amount);
                    if opened.signer() != work.node || receipt.subject != assignment.subject() || !fits {
                        return Err(RecordFault::Receipt(hash));
                    }
                    work.receipts.insert(hash, receipt.amount);
                }
                Ok(())
            }
            _ => Err(RecordFault::Order("a message that the record does not keep")),
        }
    }
}

/// Whether a verdict releases exactly the lots of its share.
fn releases(spec: &RunSpec, work: &Told, signer: PublicKey, verdict: &Verdict) -> bool {
    let Outcome::Earned { share, preimages } = &verdict.outcome else { return true };
    if *share >= 1 << spec.reward.tiers {
        return false;
    }
    let lots = work.lots.iter().filter(|l| l.validator == signer && share >> l.tier & 1 == 1);
    lots.map(|l| l.hash).eq(preimages.iter().map(|p| p.hash()))
}

impl RunTold {
    /// Whether somebody may still speak about a task: its round is the one under way, and it is not too `late`.
    fn under_way(
        &self,
        id: AssignmentId,
        what: &'static str,
        late: impl FnOnce(&Self, &Told) -> bool,
    ) -> Result<(), RecordFault> {
        let work = self.works.get(&id).ok_or(RecordFault::NoAssignment(id))?;
        if self.ended.is_some() || work.assignment.round.0 < self.round() || late(self, work) {
            return Err(RecordFault::Order(what));
        }
        Ok(())
    }

    fn opening(&mut self, signer: PublicKey, opening: Opening) -> Result<(), RecordFault> {
        let id = opening.assignment;
        // Whoever has said what it found has nothing more to look at.
        let late = |_: &Self, w: &Told| w.reveal.is_none() || w.verdicts.contains_key(&signer);
        self.under_way(id, "a request for openings", late)?;
        let work = self.works.get(&id).ok_or(RecordFault::NoAssignment(id))?;
        if !work.lots.iter().any(|l| l.validator == signer) {
            return Err(RecordFault::Signer(signer));
        }
        opening
            .check(&self.spec, work.record)
            .map_err(|what| RecordFault::Unanswerable { validator: signer, what })?;
        let work = self.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        match work.openings.insert(signer, opening) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("what {signer} asks of {id}"))),
        }
    }

    fn opened(&mut self, signer: PublicKey, opened: Opened) -> Result<(), RecordFault> {
        let (id, validator) = (opened.assignment, opened.validator);
        let unanswered =
            |w: &Told| w.verdicts.values().any(|v| v.outcome == Outcome::Rejected(Fault::NoAnswer));
        self.under_way(id, "an answer", |_, w| unanswered(w))?;
        let work = self.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        if work.assignment.miner != signer {
            return Err(RecordFault::Signer(signer));
        }
        let asked = work.openings.get(&validator).map(|asked| asked.step);
        if asked != Some(opened.step) || opened.step.is_some() != opened.state.is_some() {
            return Err(RecordFault::Opening { signer, what: "nobody asked for it" });
        }
        match work.opened.insert(validator, opened) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the answer to {validator} for {id}"))),
        }
    }

    pub(super) fn ruling(
        &mut self,
        id: AssignmentId,
        validator: PublicKey,
        upheld: bool,
    ) -> Result<(), RecordFault> {
        let undisputed = |_: &Self, w: &Told| !w.is_disputed() || !w.verdicts.contains_key(&validator);
        self.under_way(id, "a ruling", undisputed)?;
        let work = self.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        if work.rulings.insert(validator, upheld).is_some() {
            return Err(RecordFault::Twice(format!("the ruling on the verdict of {validator} on {id}")));
        }
        if !upheld {
            self.overruled.insert(validator);
        }
        Ok(())
    }

    fn verdict(&mut self, signer: PublicKey, verdict: Verdict) -> Result<(), RecordFault> {
        let wrong = |what| Err(RecordFault::Verdict { validator: signer, what });
        let id = verdict.assignment;
        // A checkpoint is made of the verdicts before it.
        self.under_way(id, "a verdict", |_, w| !w.rulings.is_empty())?;
        let work = self.works.get(&id).ok_or(RecordFault::NoAssignment(id))?;
        if !work.lots.iter().any(|l| l.validator == signer) {
            return Err(RecordFault::Signer(signer));
        }
        let (Some(commitment), Some(reveal)) = (&work.commitment, &work.reveal) else {
            return Err(RecordFault::Order("a verdict"));
        };
        if commitment.submission != verdict.submission {
            return wrong("it is on another submission");
        }
        if !releases(&self.spec, work, signer, &verdict) {
            return wrong("its secrets are not those of the lots that make up the share");
        }
        if verdict.score.is_none() && matches!(verdict.outcome, Outcome::Earned { .. }) {
            return wrong("it has no score");
        }
        if verdict.pays_for_nothing() {
            return wrong("it pays for what lowers no loss");
        }
        // Before its round is closed nothing is opened, and nobody knows what scores are drawn from.
        let Some(randomness) = self.index.randomness(&work.assignment) else {
            return Err(RecordFault::Order("a verdict"));
        };
        if randomness != verdict.randomness {
            return wrong("its scores are drawn from something else than the submissions of the round");
        }
        let checks = work.openings.get(&signer).map(|asked| (asked.step, asked.chunks.as_slice()));
        if checks.unwrap_or_default() != (verdict.step, verdict.chunks.as_slice()) {
            return wrong("it names other checks than its validator asked for");
        }
        match &verdict.outcome {
            Outcome::Earned { .. } if !work.opened.contains_key(&signer) => {
                return wrong("it finds right what was not opened to its validator");
            }
            Outcome::Rejected(Fault::NoAnswer)
                if work.openings.keys().all(|asked| work.opened.contains_key(asked)) =>
            {
                return wrong("it says that there is no answer, and every request was answered");
            }
            _ => {}
        }
        // Whoever finds it right must have seen that it is what was committed.
        if matches!(verdict.outcome, Outcome::Earned { .. })
            && commitment.trajectory != TrajectoryHash::of(reveal.start, &reveal.steps)
        {
            return Err(RecordFault::Trajectory);
        }
        let work = self.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        match work.verdicts.insert(signer, verdict) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the verdict of {signer} on {id}"))),
        }
    }
}
