//! Verdicts that contradict each other: they are looked at again before the outer step, and a validator whose verdict does not
//! hold has no lots in later rounds.

use std::collections::BTreeMap;

use watershed_protocol::market::{Entry, Judged, Spoken, is_disputed, is_sound, score_of};
use watershed_protocol::{AssignmentId, PublicKey};

use super::{Effect, Refusal, Run, Stage, Work, WorkStage};

impl Work {
    /// The verdicts, as far as they concern each other.
    fn spoken(&self) -> impl Iterator<Item = Spoken<'_>> + Clone {
        self.verdicts.iter().map(|(validator, kept)| Spoken {
            outcome: &kept.outcome,
            score: kept.score,
            upheld: self.rulings.get(validator).copied(),
        })
    }

    /// Whether its verdicts contradict each other and were not looked at again yet.
    pub fn is_disputed(&self) -> bool {
        self.rulings.is_empty() && is_disputed(self.spoken())
    }

    /// Whether it is what it should be: somebody finds that, and nobody that counts finds something else.
    pub fn is_sound(&self) -> bool {
        self.stage == WorkStage::Revealed && is_sound(self.spoken())
    }

    /// The loss reduction that counts; 0 if none was measured.
    pub fn gain(&self) -> f32 {
        score_of(self.spoken()).map_or(0.0, |score| score.gain())
    }

    /// Whether it goes into the checkpoint: it is sound and lowers the loss. A round that is broken off before its disputes
    /// are ruled on accepts nothing of what is disputed.
    pub fn is_accepted(&self) -> bool {
        self.judged_as() == Judged::Accepted
    }

    /// What comes of it when its round is over.
    pub fn judged_as(&self) -> Judged {
        if self.stage != WorkStage::Revealed || self.is_disputed() {
            return Judged::Neither;
        }
        Judged::of(self.spoken())
    }
}

impl Run {
    /// Members of the committee whose verdicts were never overruled.
    pub fn validators(&self) -> impl Iterator<Item = PublicKey> {
        self.spec.committee.iter().map(|m| m.key).filter(|key| !self.overruled.contains(key))
    }

    /// Asks for rulings on everything that is disputed in the round; nothing if nothing is.
    pub(super) fn dispute(&self) -> Vec<Effect> {
        let disputed = self.current().filter(|(_, w)| w.is_disputed());
        disputed.map(|(id, _)| Effect::Rule { assignment: *id, version: self.version }).collect()
    }

    /// Disputed verdicts on a task were looked at again. After the last one comes the outer step.
    pub(super) fn ruled(
        &mut self,
        id: AssignmentId,
        result: &Result<Vec<(PublicKey, bool)>, String>,
        now: u64,
    ) -> Result<Vec<Effect>, Refusal> {
        let stepping = self.round.as_ref().filter(|r| r.stage == Stage::Stepping).map(|r| r.number);
        let version = self.version;
        let wanted = |w: &&mut Work| Some(w.assignment.round.0) == stepping && !w.judged && w.is_disputed();
        let work = self.works.get_mut(&id).filter(wanted).ok_or(Refusal::Known)?;
        let rulings = match result {
            Ok(rulings) => rulings,
            Err(reason) => {
                // As with an outer step that fails: somebody has to look, and `resume` tries again.
                self.trouble = Some(reason.clone());
                self.paused = true;
                return Ok(Vec::new());
            }
        };
        let all: BTreeMap<PublicKey, bool> = rulings.iter().copied().collect();
        if !all.keys().eq(work.verdicts.keys()) {
            let (found, wanted) = (all.len(), work.verdicts.len());
            return Err(Refusal::Count { what: "rulings", found, wanted });
        }
        let mut effects = Vec::new();
        for (validator, upheld) in &all {
            let (assignment, validator, upheld) = (id, *validator, *upheld);
            effects.push(Effect::Record(Box::new(Entry::Ruling { assignment, validator, upheld })));
            if !upheld {
                self.overruled.insert(validator);
            }
        }
        work.rulings = all;
        work.version = version;
        if !self.current().any(|(_, w)| w.is_disputed()) {
            effects.extend(self.step(now));
        }
        Ok(effects)
    }
}
