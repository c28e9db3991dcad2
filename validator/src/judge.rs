//! The computing side of checking a round's submissions. No network: everything needed is handed in.

use std::collections::BTreeMap;

use watershed_protocol::market::{Assignment, Commitment, Fault, Opening, Reveal, Score};
use watershed_protocol::{AssignmentId, Digest, decode};
use watershed_rounds::{Claim, OpenedChunks, Workbench, shares};

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
    fn claim<'a>(&'a self, checkpoint: &'a [f32]) -> Claim<'a> {
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

/// Checks form and commitments of all submissions of a round, and scores them.
pub(crate) fn first_look(
    bench: &mut Workbench,
    submissions: &[Submitted],
    checkpoint: &[f32],
    randomness: Digest,
) -> Result<BTreeMap<AssignmentId, FirstLook>, String> {
    let mut looks = BTreeMap::new();
    for s in submissions {
        let look = match bench.check_reveal(&s.claim(checkpoint)).map_err(|e| e.to_string())? {
            Err(fault) => FirstLook::Faulty(fault),
            Ok(()) => {
                let decoded = bench.decode(&s.encoded).map_err(|e| e.to_string())?;
                let score = bench.score(&s.assignment, checkpoint, &decoded, randomness);
                FirstLook::Scored(score.map_err(|e| e.to_string())?)
            }
        };
        looks.insert(s.id, look);
    }
    Ok(looks)
}

/// What each submission earns if it is sound. Depends on what is public only, so every validator finds the same.
pub(crate) fn earned(
    bench: &Workbench,
    looks: &BTreeMap<AssignmentId, FirstLook>,
) -> BTreeMap<AssignmentId, u32> {
    let scored: Vec<(AssignmentId, f32)> = looks
        .iter()
        .filter_map(|(id, look)| match look {
            FirstLook::Scored(score) => Some((*id, score.gain())),
            FirstLook::Faulty(_) => None,
        })
        .collect();
    let gains: Vec<f32> = scored.iter().map(|(_, gain)| *gain).collect();
    let shares = shares(&bench.settings().spec.reward, &gains);
    scored.into_iter().map(|(id, _)| id).zip(shares).collect()
}

/// What to ask for: steps and chunks drawn from randomness that the miner cannot know.
pub(crate) fn draw(bench: &Workbench, id: AssignmentId, entropy: [u8; 32]) -> Opening {
    let checks = &bench.settings().spec.checks;
    let word = |at: usize| {
        let digest = watershed_rounds::sha256(&[&entropy[..], &(at as u64).to_le_bytes()].concat());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.0[..8]);
        u64::from_le_bytes(bytes)
    };
    // The remainder favours small numbers by less than 2^-40.
    let step = word(0) % u64::from(bench.settings().spec.inner.steps);
    let all = bench.chunks();
    let mut chunks: Vec<u64> =
        (0..u64::from(checks.chunks).min(all)).map(|i| word(1 + i as usize) % all).collect();
    chunks.sort_unstable();
    chunks.dedup();
    Opening { assignment: id, step: u32::try_from(step).unwrap_or(0), chunks }
}

/// Checks what a miner opened: replays the step, and compresses the chunks again.
pub(crate) fn second_look(
    bench: &mut Workbench,
    submitted: &Submitted,
    checkpoint: &[f32],
    asked: &Opening,
    state: &[u8],
    chunks: &[u8],
) -> Result<Option<Fault>, String> {
    let claim = submitted.claim(checkpoint);
    let Ok(opened) = decode::<OpenedChunks>(chunks) else { return Ok(Some(Fault::NoAnswer)) };
    if let Err(fault) = bench.check_chunks(&claim, &asked.chunks, &opened).map_err(|e| e.to_string())? {
        return Ok(Some(fault));
    }
    let steps = bench.settings().spec.checks.replay_steps;
    let end = bench.settings().spec.inner.steps;
    if let Err(fault) = bench
        .check_steps(&claim, asked.step..(asked.step + steps).min(end), state)
        .map_err(|e| e.to_string())?
    {
        return Ok(Some(fault));
    }
    Ok(None)
}
