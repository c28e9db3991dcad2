//! What miners and validators said.

use watershed_protocol::market::{Message, Outcome, RunSpec, TrajectoryHash, Verdict};
use watershed_protocol::{AssignmentId, Envelope, PublicKey, Receipt, SubmissionId};

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
                let late = |t: &RunTold, w: &Told| t.attempt(&w.assignment).any(|w| w.reveal.is_some());
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
                // Every verdict is drawn from all that was shown.
                let late = |t: &RunTold, w: &Told| t.attempt(&w.assignment).any(|w| !w.verdicts.is_empty());
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
                Ok(())
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

    fn verdict(&mut self, signer: PublicKey, verdict: Verdict) -> Result<(), RecordFault> {
        let wrong = |what| Err(RecordFault::Verdict { validator: signer, what });
        let id = verdict.assignment;
        // A checkpoint is made of the verdicts before it.
        self.under_way(id, "a verdict", |_, _| false)?;
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
        // Whoever finds it right must have seen that it is what was committed.
        if matches!(verdict.outcome, Outcome::Earned { .. })
            && commitment.trajectory != TrajectoryHash::of(reveal.start, &reveal.steps)
        {
            return Err(RecordFault::Trajectory);
        }
        let shown = self.attempt(&work.assignment).filter(|w| w.reveal.is_some());
        let mut shown: Vec<SubmissionId> =
            shown.filter_map(|w| w.commitment.as_ref().map(|c| c.submission)).collect();
        if Verdict::randomness(work.assignment.run, work.assignment.round, &mut shown) != verdict.randomness {
            return wrong("its scores are drawn from something else than the submissions of the round");
        }
        let work = self.works.get_mut(&id).ok_or(RecordFault::NoAssignment(id))?;
        match work.verdicts.insert(signer, verdict) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice(format!("the verdict of {signer} on {id}"))),
        }
    }
}
