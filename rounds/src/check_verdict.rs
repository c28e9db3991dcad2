//! Checking a verdict: everything that it can rest on is public by then, so anybody computes whether it holds.

use std::collections::BTreeMap;

use watershed_protocol::market::{Fault, Opening, Outcome, Score};
use watershed_protocol::{Digest, PublicKey};

use super::{Answer, Claim, RoundError, Workbench};

/// What a validator asked for, and what came.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asked.
    pub validator: PublicKey,
    /// What.
    pub opening: &'a Opening,
    /// What the miner answered in time.
    pub answer: Option<&'a Answer>,
}

/// What can be found about a submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// From what was shown to everybody: its score, or the fault that it has.
    pub public: Result<Score, Fault>,
    /// From what was opened to each validator that asked.
    pub opened: BTreeMap<PublicKey, Result<(), Fault>>,
}

impl Findings {
    /// Whether a verdict holds. A rejection does if somebody was opened what shows this fault, or nothing at all. That a
    /// submission is right cannot be shown; but nobody may say so of what was not what it should be where it looked itself,
    /// nor with other losses.
    pub fn uphold(&self, validator: &PublicKey, outcome: &Outcome, score: Option<Score>) -> bool {
        match (outcome, &self.public) {
            (Outcome::Earned { .. }, Ok(found)) => {
                score == Some(*found) && self.opened.get(validator) == Some(&Ok(()))
            }
            (Outcome::Earned { .. }, Err(_)) => false,
            (Outcome::Rejected(said), Err(found)) => said == found,
            (Outcome::Rejected(said), Ok(_)) => self.opened.values().any(|found| found.as_ref() == Err(said)),
        }
    }
}

impl Workbench {
    /// Finds everything that verdicts on a submission can rest on.
    ///
    /// # Errors
    /// Only for problems of our own.
    pub fn findings(
        &mut self,
        claim: &Claim<'_>,
        randomness: Digest,
        asked: &[Asked<'_>],
    ) -> Result<Findings, RoundError> {
        if let Err(fault) = self.check_reveal(claim)? {
            return Ok(Findings { public: Err(fault), opened: BTreeMap::new() });
        }
        let decoded = self.decode(claim.encoded)?;
        let score = self.score(claim.assignment, claim.checkpoint, &decoded, randomness)?;
        let mut opened = BTreeMap::new();
        for asked in asked {
            let found = match asked.answer {
                Some(answer) => self.check_answer(claim, asked.opening, answer)?,
                None => Err(Fault::NoAnswer),
            };
            opened.insert(asked.validator, found);
        }
        Ok(Findings { public: Ok(score), opened })
    }
}
