//! Messages about one task.

use watershed_payments::escrow::{earned, split};
use watershed_protocol::market::{
    Commitment, Entry, Fault, JudgingTimes, Message, Opened, Opening, Outcome, Reveal, TermsOffered,
    TrajectoryHash, Verdict,
};
use watershed_protocol::{
    AssignmentId, Digest, Envelope, Msat, PaymentHash, PublicKey, RoundNumber, SubmissionId, encode,
};

use super::{Effect, Refusal, Run, Stage, VerdictKept, Work, WorkStage};

/// Longest reason that is kept.
const REASON: usize = 200;

fn short(text: &str) -> String {
    text.chars().take(REASON).collect()
}

pub(super) fn wrong(work: &Work, what: &'static str) -> Refusal {
    let stage = match &work.stage {
        WorkStage::Dropped { reason } => format!("out of the round ({reason})"),
        other => format!("{other:?}").to_lowercase(),
    };
    Refusal::Stage { stage, what }
}

impl Run {
    fn work(&mut self, id: AssignmentId) -> Result<&mut Work, Refusal> {
        self.works.get_mut(&id).ok_or(Refusal::NoAssignment(id))
    }

    fn own(&mut self, id: AssignmentId, signer: PublicKey) -> Result<&mut Work, Refusal> {
        let work = self.work(id)?;
        if work.assignment.miner == signer { Ok(work) } else { Err(Refusal::NotAllowed(signer)) }
    }

    fn stage(&self) -> Option<Stage> {
        self.round.as_ref().map(|r| r.stage)
    }

    pub(super) fn said(
        &mut self,
        signer: PublicKey,
        message: &Message,
        envelope: &Envelope,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        // Sent again, a message changes nothing, and is not written down again either.
        let work = |run: &Self| message.subject().and_then(|id| run.works.get(&id)).cloned();
        let before = work(self);
        let mut effects = match message {
            Message::Join(join) => return self.join(signer, join, now),
            Message::Leave { .. } => return self.leave(signer, now),
            Message::Hashes { assignment, hashes } => self.hashes(*assignment, signer, hashes)?,
            Message::Accept { assignment, invoices } => self.accept(*assignment, signer, invoices)?,
            Message::Locked { assignment, reports } => self.locked(*assignment, signer, reports)?,
            Message::Decline { assignment, reason } => self.decline(*assignment, signer, reason, now)?,
            Message::Commit(commitment) => self.commit(commitment, signer, envelope, now)?,
            Message::Reveal(reveal) => self.reveal(reveal, signer, envelope)?,
            Message::Open(opening) => self.open(opening, signer, envelope, now)?,
            Message::Opened(opened) => self.opened(opened, signer, envelope, now)?,
            Message::Sound { assignment } => self.sound(*assignment, signer)?,
            Message::Verdict(verdict) => self.verdict(verdict, signer, envelope, now)?,
            Message::Receipts { assignment, receipts } => {
                let work = self.own(*assignment, signer)?;
                if work.receipts || receipts.is_empty() {
                    return Err(Refusal::Known);
                }
                let entry = record(envelope)?;
                work.receipts = true;
                vec![entry]
            }
        };
        if effects.is_empty() && before.is_some() && before == work(self) {
            return Err(Refusal::Known);
        }
        if let Some(miner) = self.miners.get_mut(&signer) {
            miner.heard = now;
        }
        if let Some(id) = message.subject() {
            effects.extend(self.moved(id, now));
        }
        Ok(effects)
    }

    fn hashes(
        &mut self,
        id: AssignmentId,
        signer: PublicKey,
        hashes: &[PaymentHash],
    ) -> Result<Vec<Effect>, Refusal> {
        let tiers = self.spec.reward.tiers as usize;
        // A secret that is given out for one task must not release the lot of another.
        let taken = |w: &Work| w.hashes.values().flatten().any(|hash| hashes.contains(hash));
        let elsewhere = self.works.iter().any(|(other, w)| *other != id && taken(w));
        let work = self.work(id)?;
        if !work.holders.contains(&signer) {
            return Err(Refusal::NotAllowed(signer));
        }
        if let Some(known) = work.hashes.get(&signer) {
            return if known == hashes { Ok(Vec::new()) } else { Err(Refusal::Changed("hashes")) };
        }
        if work.stage != WorkStage::Hashing {
            return Err(wrong(work, "giving hashes"));
        }
        if hashes.len() != tiers {
            return Err(Refusal::Count { what: "payment hashes", found: hashes.len(), wanted: tiers });
        }
        let mut all: Vec<PaymentHash> = work.hashes.values().flatten().chain(hashes).copied().collect();
        all.sort_unstable();
        if all.windows(2).any(|w| w[0] == w[1]) || elsewhere {
            return Err(Refusal::Changed("a payment hash of another lot"));
        }
        work.hashes.insert(signer, hashes.to_vec());
        Ok(if work.hashes.len() == work.holders.len() { self.make_offer(id) } else { Vec::new() })
    }

    /// Cuts the reward among the validators that gave hashes.
    pub(super) fn make_offer(&mut self, id: AssignmentId) -> Vec<Effect> {
        let tiers = self.spec.reward.tiers;
        let Some(work) = self.works.get_mut(&id) else { return Vec::new() };
        let Ok(parts) = split(work.assignment.reward, work.hashes.len(), tiers) else {
            return self.drop_work(id, "the reward is too small for so many lots");
        };
        let mut lots = Vec::new();
        for ((validator, hashes), amounts) in work.hashes.iter().zip(&parts) {
            for (tier, (hash, amount)) in (0..).zip(hashes.iter().zip(amounts)) {
                lots.push(TermsOffered { validator: *validator, tier, hash: *hash, amount: *amount });
            }
        }
        work.lots = lots;
        work.stage = WorkStage::Offering;
        vec![Effect::Offer { assignment: id }]
    }

    fn accept(
        &mut self,
        id: AssignmentId,
        signer: PublicKey,
        invoices: &[String],
    ) -> Result<Vec<Effect>, Refusal> {
        let work = self.own(id, signer)?;
        match work.stage {
            WorkStage::Offered if invoices.len() == work.lots.len() => {
                work.stage = WorkStage::Locking;
                work.escrow_open = true;
                let amount = work.assignment.reward;
                super::round::add(&mut self.totals.locked, amount);
                let lock = Effect::Lock { assignment: id, invoices: invoices.to_vec() };
                Ok(vec![lock, Effect::Watch { assignment: id }])
            }
            WorkStage::Offered => {
                Err(Refusal::Count { what: "invoices", found: invoices.len(), wanted: work.lots.len() })
            }
            WorkStage::Hashing | WorkStage::Offering | WorkStage::Dropped { .. } => {
                Err(wrong(work, "accepting"))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn locked(
        &mut self,
        id: AssignmentId,
        signer: PublicKey,
        reports: &[(PaymentHash, u32)],
    ) -> Result<Vec<Effect>, Refusal> {
        let work = self.own(id, signer)?;
        match work.stage {
            WorkStage::Locking => Err(wrong(work, "reporting locked lots")),
            WorkStage::Paid => {
                let mut reported: Vec<_> = reports.iter().map(|(hash, _)| *hash).collect();
                let mut wanted: Vec<_> = work.lots.iter().map(|l| l.hash).collect();
                reported.sort_unstable();
                wanted.sort_unstable();
                if reported != wanted {
                    return Err(Refusal::Count {
                        what: "lots reported as locked",
                        found: reports.len(),
                        wanted: work.lots.len(),
                    });
                }
                work.stage = WorkStage::Confirming;
                Ok(vec![Effect::Confirm { assignment: id, reports: reports.to_vec() }])
            }
            WorkStage::Hashing | WorkStage::Offering | WorkStage::Offered | WorkStage::Dropped { .. } => {
                Err(wrong(work, "reporting locked lots"))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn decline(
        &mut self,
        id: AssignmentId,
        signer: PublicKey,
        reason: &str,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let work = self.own(id, signer)?;
        match work.stage {
            WorkStage::Committed | WorkStage::Revealed => Err(wrong(work, "declining")),
            WorkStage::Dropped { .. } => Ok(Vec::new()),
            _ => {
                self.took_back(id, now);
                Ok(self.drop_work(id, &format!("the miner declined: {}", short(reason))))
            }
        }
    }

    fn commit(
        &mut self,
        commitment: &Commitment,
        signer: PublicKey,
        envelope: &Envelope,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let stage = self.stage();
        let work = self.own(commitment.assignment, signer)?;
        if let Some(known) = &work.commitment {
            return if known == commitment { Ok(Vec::new()) } else { Err(Refusal::Changed("a commitment")) };
        }
        if work.stage != WorkStage::Locked
            || !matches!(stage, Some(Stage::Locking | Stage::Training))
            || work.judged
        {
            return Err(wrong(work, "committing"));
        }
        let entry = record(envelope)?;
        work.commitment = Some(commitment.clone());
        work.stage = WorkStage::Committed;
        self.delivered(commitment.assignment, now);
        Ok(vec![entry])
    }

    fn reveal(
        &mut self,
        reveal: &Reveal,
        signer: PublicKey,
        envelope: &Envelope,
    ) -> Result<Vec<Effect>, Refusal> {
        let (stage, steps) = (self.stage(), self.spec.inner.steps as usize);
        let work = self.own(reveal.assignment, signer)?;
        if let Some(known) = &work.reveal {
            return if known == reveal { Ok(Vec::new()) } else { Err(Refusal::Changed("the work")) };
        }
        if work.stage != WorkStage::Committed || stage != Some(Stage::Revealing) || work.judged {
            return Err(wrong(work, "showing the work"));
        }
        if reveal.steps.len() != steps {
            return Err(Refusal::Count { what: "inner steps", found: reveal.steps.len(), wanted: steps });
        }
        let entry = record(envelope)?;
        work.reveal = Some(reveal.clone());
        work.stage = WorkStage::Revealed;
        Ok(vec![entry])
    }

    /// Until when what is done, while the round is judged.
    fn times(&self) -> Option<JudgingTimes> {
        let judging = self.round.as_ref().filter(|r| r.stage == Stage::Judging)?;
        Some(JudgingTimes::of(&self.spec.rounds, judging.until))
    }

    fn open(
        &mut self,
        opening: &Opening,
        signer: PublicKey,
        envelope: &Envelope,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let times = self.times();
        let answerable = self.works.get(&opening.assignment).map(|w| {
            let record = self.miners.get(&w.assignment.miner).map_or((0, 0), |m| m.record);
            opening.check(&self.spec, record)
        });
        let work = self.work(opening.assignment)?;
        if !work.is_held_by(&signer) {
            return Err(Refusal::NotAllowed(signer));
        }
        if let Some(known) = work.openings.get(&signer) {
            return if known == opening { Ok(Vec::new()) } else { Err(Refusal::Changed("what to open")) };
        }
        let Some(times) = times.filter(|_| work.stage == WorkStage::Revealed && !work.judged) else {
            return Err(wrong(work, "asking for openings"));
        };
        if now >= times.ask {
            return Err(Refusal::Late("a request for openings"));
        }
        answerable.transpose()?;
        if work.verdicts.contains_key(&signer) {
            return Err(wrong(work, "asking for openings after a verdict"));
        }
        let entry = record(envelope)?;
        work.openings.insert(signer, opening.clone());
        Ok(vec![entry])
    }

    fn opened(
        &mut self,
        opened: &Opened,
        signer: PublicKey,
        envelope: &Envelope,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let times = self.times();
        let work = self.own(opened.assignment, signer)?;
        match work.openings.get(&opened.validator) {
            Some(asked) if asked.step == opened.step && opened.step.is_some() == opened.state.is_some() => {}
            _ => return Err(wrong(work, "opening what nobody asked for")),
        }
        if let Some(known) = work.opened.get(&opened.validator) {
            return if known == opened { Ok(Vec::new()) } else { Err(Refusal::Changed("an opening")) };
        }
        let Some(times) = times.filter(|_| !work.judged) else {
            return Err(wrong(work, "opening"));
        };
        if now >= times.answer {
            return Err(Refusal::Late("an answer"));
        }
        let entry = record(envelope)?;
        work.opened.insert(opened.validator, opened.clone());
        Ok(vec![entry])
    }

    fn sound(&mut self, id: AssignmentId, signer: PublicKey) -> Result<Vec<Effect>, Refusal> {
        let stage = self.stage();
        let work = self.work(id)?;
        if !work.is_held_by(&signer) {
            return Err(Refusal::NotAllowed(signer));
        }
        if work.sound.contains(&signer) {
            return Ok(Vec::new());
        }
        if work.stage != WorkStage::Revealed || stage != Some(Stage::Judging) || work.judged {
            return Err(wrong(work, "judging"));
        }
        work.sound.insert(signer);
        Ok(Vec::new())
    }

    /// What the scores of a round are drawn from: all that is shown when nobody can show more.
    pub(super) fn draw(&self, round: u32) -> Digest {
        let revealed = self.current().filter(|(_, w)| w.stage == WorkStage::Revealed);
        let mut submissions: Vec<SubmissionId> =
            revealed.filter_map(|(_, w)| w.commitment.as_ref().map(|c| c.submission)).collect();
        Verdict::randomness(self.id, RoundNumber(round), &mut submissions)
    }

    fn verdict(
        &mut self,
        verdict: &Verdict,
        signer: PublicKey,
        envelope: &Envelope,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let (stage, times, randomness) = (self.stage(), self.times(), self.randomness());
        let (tiers, fee) = (self.spec.reward.tiers, self.spec.reward.verdict_fee);
        let id = verdict.assignment;
        let work = self.work(id)?;
        if !work.is_held_by(&signer) {
            return Err(Refusal::NotAllowed(signer));
        }
        if let Some(known) = work.verdicts.get(&signer) {
            let same = known.outcome == verdict.outcome;
            return if same { Ok(Vec::new()) } else { Err(Refusal::Changed("a verdict")) };
        }
        if work.stage != WorkStage::Revealed || stage != Some(Stage::Judging) || work.judged {
            return Err(wrong(work, "judging"));
        }
        let submission = work.commitment.as_ref().map(|c| c.submission);
        if submission != Some(verdict.submission) || randomness != Some(verdict.randomness) {
            return Err(Refusal::OtherSubmission);
        }
        founded(work, verdict, signer, times, now)?;
        match &verdict.outcome {
            Outcome::Earned { share, preimages } => {
                // It has no place in the record, and whoever computed has seen it.
                let shown = work.reveal.as_ref().map(|r| TrajectoryHash::of(r.start, &r.steps));
                if shown != work.commitment.as_ref().map(|c| c.trajectory) {
                    return Err(Refusal::Unfounded("the steps that were shown are not those committed to"));
                }
                let paid = earned(tiers, *share).map_err(|_| Refusal::Range("the share"))?;
                let lots = work.lots.iter().filter(|l| l.validator == signer);
                let wanted = lots.zip(paid).filter(|(_, paid)| *paid).map(|(lot, _)| lot.hash);
                if !wanted.eq(preimages.iter().map(|p| p.hash())) {
                    return Err(Refusal::Preimages);
                }
            }
            Outcome::Rejected(Fault::Undecodable(text)) if text.len() > 4 * REASON => {
                return Err(Refusal::Range("the reason"));
            }
            Outcome::Rejected(_) => {}
        }
        let kept = VerdictKept {
            outcome: verdict.outcome.clone(),
            score: verdict.score,
            envelope: envelope.clone(),
        };
        let mut effects = vec![record(envelope)?];
        work.verdicts.insert(signer, kept);
        if fee > Msat::ZERO {
            super::round::add(&mut self.totals.fees, fee);
            effects.push(Effect::Fee { assignment: id, validator: signer });
        }
        Ok(effects)
    }
}

/// Whether a verdict follows from what its validator asked for: nobody finds right what it did not look at, nor says of a
/// miner that has time left that it does not answer.
fn founded(
    work: &Work,
    verdict: &Verdict,
    signer: PublicKey,
    times: Option<JudgingTimes>,
    now: u64,
) -> Result<(), Refusal> {
    let asked = work.openings.get(&signer);
    let same = match asked {
        Some(asked) => verdict.step == asked.step && verdict.chunks == asked.chunks,
        None => verdict.step.is_none() && verdict.chunks.is_empty(),
    };
    if !same {
        return Err(Refusal::Unfounded("it names other checks"));
    }
    match &verdict.outcome {
        Outcome::Earned { .. } if verdict.score.is_none() => Err(Refusal::Unfounded("it has no score")),
        Outcome::Earned { .. } if verdict.pays_for_nothing() => {
            Err(Refusal::Unfounded("it pays for what lowers no loss"))
        }
        Outcome::Earned { .. } if !work.opened.contains_key(&signer) => {
            Err(Refusal::Unfounded("nothing was opened to its validator"))
        }
        Outcome::Rejected(Fault::NoAnswer) if times.is_none_or(|t| now < t.answer) => {
            Err(Refusal::Early("a verdict that there is no answer"))
        }
        Outcome::Rejected(Fault::NoAnswer) if work.openings.keys().all(|v| work.opened.contains_key(v)) => {
            Err(Refusal::Unfounded("every request was answered"))
        }
        _ => Ok(()),
    }
}

/// The record holds no entry beyond its limit, and a message may be larger; so this comes before any change.
fn record(envelope: &Envelope) -> Result<Effect, Refusal> {
    let entry = Entry::Message { envelope: envelope.clone() };
    encode(&entry)?;
    Ok(Effect::Record(Box::new(entry)))
}
