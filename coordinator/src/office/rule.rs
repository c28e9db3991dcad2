//! Rulings on verdicts that contradict each other: what they say is computed again.

use watershed_protocol::market::{Opened, Opening};
use watershed_protocol::{AssignmentId, PublicKey, RunId};
use watershed_rounds::{Answer, Asked, Claim, floats_of};

use super::Office;
use super::money::{Money, MoneyError};

fn other(e: impl std::fmt::Display) -> MoneyError {
    MoneyError::Other(e.to_string())
}

impl<M: Money> Office<M> {
    /// Whether each verdict on a task holds.
    pub(super) async fn rule(
        &self,
        run: RunId,
        id: AssignmentId,
    ) -> Result<Vec<(PublicKey, bool)>, MoneyError> {
        let found = self.market.with(run, |r| {
            let work = r.works.get(&id)?.clone();
            let previous = work.assignment.previous.and_then(|p| r.works.get(&p)?.commitment.clone());
            Some((r.spec.clone(), r.checkpoint()?.clone(), r.randomness()?, work, previous))
        })?;
        let (spec, from, randomness, work, previous) =
            found.ok_or_else(|| other("the task or its checkpoint is not here"))?;
        let (Some(commitment), Some(reveal)) = (work.commitment.clone(), work.reveal.clone()) else {
            return Err(other("nothing was shown"));
        };
        let checkpoint = self.blobs.get(from.blob).await?;
        let encoded = self.blobs.get(reveal.blob).await?;
        let mut asked: Vec<(PublicKey, Opening, Option<Answer>)> = Vec::new();
        for (validator, opening) in &work.openings {
            let answer = match work.opened.get(validator) {
                Some(opened) => Some(self.answer(opened).await?),
                None => None,
            };
            asked.push((*validator, opening.clone(), answer));
        }
        let work_of = move |bench: &mut watershed_rounds::Workbench| {
            let n = bench.settings().parameters();
            // What is longer than it can be was empty to every validator.
            let short = |bytes: Vec<u8>, limit: usize| if bytes.len() > limit { Vec::new() } else { bytes };
            let encoded = short(encoded, 4 * n + (1 << 20));
            let asked = asked.into_iter().map(|(validator, opening, answer)| {
                let chunks = Answer::chunks_limit(opening.chunks.len());
                let answer = answer.map(|a| Answer {
                    state: short(a.state, Answer::state_limit(n)),
                    chunks: short(a.chunks, chunks),
                });
                (validator, opening, answer)
            });
            let asked: Vec<(PublicKey, Opening, Option<Answer>)> = asked.collect();
            let checkpoint = floats_of(&checkpoint, "the checkpoint", 1, n).map_err(other)?;
            let claim = Claim {
                assignment: &work.assignment,
                commitment: &commitment,
                reveal: &reveal,
                previous: previous.as_ref(),
                encoded: &encoded,
                checkpoint: checkpoint.first().map(Vec::as_slice).unwrap_or_default(),
            };
            let asked: Vec<Asked<'_>> = asked
                .iter()
                .map(|(validator, opening, answer)| Asked {
                    validator: *validator,
                    opening,
                    answer: answer.as_ref(),
                })
                .collect();
            let findings = bench.findings(&claim, randomness, &asked).map_err(other)?;
            let upheld = work
                .verdicts
                .iter()
                .map(|(validator, kept)| (*validator, findings.uphold(validator, &kept.outcome, kept.score)));
            Ok(upheld.collect())
        };
        self.computer.with(run, &spec, work_of).await
    }

    async fn answer(&self, opened: &Opened) -> Result<Answer, MoneyError> {
        let state = match opened.state {
            Some(state) => self.blobs.get(state).await?,
            None => Vec::new(),
        };
        Ok(Answer { state, chunks: self.blobs.get(opened.chunks).await? })
    }
}
