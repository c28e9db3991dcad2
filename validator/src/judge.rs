//! The computing side of checking a round's submissions. No network: everything needed is handed in.

use std::collections::BTreeMap;

use watershed_protocol::market::{Assignment, Commitment, Fault, Reveal, Score};
use watershed_protocol::{AssignmentId, Digest};
use watershed_rounds::{Claim, Workbench, shares};

/// Everything that is public about a submission.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub(crate) id: AssignmentId,
    pub(crate) assignment: Assignment,
    pub(crate) commitment: Commitment,
    pub(crate) reveal: Reveal,
    pub(crate) previous: Option<Commitment>,
    pub(crate) encoded: Vec<u8>,
}

impl Submitted {
    pub(crate) fn claim<'a>(&'a self, checkpoint: &'a [f32]) -> Claim<'a> {
        Claim {
            assignment: &self.assignment,
            commitment: &self.commitment,
            reveal: &self.reveal,
            previous: self.previous.as_ref(),
            encoded: &self.encoded,
            checkpoint,
        }
    }
}

/// What is found without asking the miner for anything: the same for every validator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FirstLook {
    /// In form, with this score.
    Scored(Score),
    /// Not what was committed, or no pseudo-gradient.
    Faulty(Fault),
}

/// Checks form and commitments of a submission, and scores it.
pub(crate) fn look_at(
    bench: &mut Workbench,
    submitted: &Submitted,
    checkpoint: &[f32],
    randomness: Digest,
) -> Result<FirstLook, String> {
    Ok(match bench.check_reveal(&submitted.claim(checkpoint)).map_err(|e| e.to_string())? {
        Err(fault) => FirstLook::Faulty(fault),
        Ok(()) => {
            let decoded = bench.decode(&submitted.encoded).map_err(|e| e.to_string())?;
            let score = bench.score(&submitted.assignment, checkpoint, &decoded, randomness);
            FirstLook::Scored(score.map_err(|e| e.to_string())?)
        }
    })
}

/// [`look_at`] for all submissions of a round.
pub(crate) fn first_look(
    bench: &mut Workbench,
    submissions: &[Submitted],
    checkpoint: &[f32],
    randomness: Digest,
) -> Result<BTreeMap<AssignmentId, FirstLook>, String> {
    let look = |s: &Submitted| Ok((s.id, look_at(bench, s, checkpoint, randomness)?));
    submissions.iter().map(look).collect()
}

/// What each of the submissions that a validator holds lots of earns in its part, if it is sound. Depends on what is public
/// only, so whoever computes it finds the same.
pub(crate) fn earned<'a>(
    bench: &Workbench,
    held: impl Iterator<Item = (AssignmentId, &'a FirstLook)>,
) -> BTreeMap<AssignmentId, u32> {
    let scored: Vec<(AssignmentId, f32)> = held
        .filter_map(|(id, look)| match look {
            FirstLook::Scored(score) => Some((id, score.gain())),
            FirstLook::Faulty(_) => None,
        })
        .collect();
    let gains: Vec<f32> = scored.iter().map(|(_, gain)| *gain).collect();
    let shares = shares(&bench.settings().spec.reward, &gains);
    scored.into_iter().map(|(id, _)| id).zip(shares).collect()
}
