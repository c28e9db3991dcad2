//! Rulings on verdicts that contradict each other, computed again from what was asked and opened.

use watershed_commons::record::{RunTold, Told};
use watershed_protocol::market::Opened;
use watershed_protocol::{Digest, PublicKey};
use watershed_rounds::{Answer, Asked, Findings, Workbench};

use super::fault::{Fault, unable};
use super::place::{Found, Place};
use crate::judge::Submitted;

/// What was opened to a validator. What is longer than it can be was empty to everybody.
fn answer(bench: &Workbench, opened: &Opened, chunks: usize, place: &Place) -> Result<Answer, Fault> {
    let blob = |name: Digest, limit: usize| match place.look("something that was opened", name, limit)? {
        Found::Bytes(bytes) => Ok::<_, Fault>(bytes),
        Found::TooLong => Ok(Vec::new()),
    };
    let state = match opened.state {
        Some(state) => blob(state, Answer::state_limit(bench.settings().parameters()))?,
        None => Vec::new(),
    };
    Ok(Answer { state, chunks: blob(opened.chunks, Answer::chunks_limit(chunks))? })
}

/// Everything that verdicts on a submission can rest on.
fn findings(
    bench: &mut Workbench,
    work: &Told,
    submitted: &Submitted,
    checkpoint: &[f32],
    place: &Place,
) -> Result<Option<Findings>, Fault> {
    let Some(randomness) = work.verdicts.values().map(|v| v.randomness).next() else { return Ok(None) };
    let mut answers: Vec<(PublicKey, Option<Answer>)> = Vec::new();
    for (validator, asked) in &work.openings {
        let opened = work.opened.get(validator);
        let found = opened.map(|opened| answer(bench, opened, asked.chunks.len(), place)).transpose()?;
        answers.push((*validator, found));
    }
    let asked: Vec<Asked<'_>> = work
        .openings
        .iter()
        .zip(&answers)
        .map(|((validator, opening), (_, answer))| Asked {
            validator: *validator,
            opening,
            answer: answer.as_ref(),
        })
        .collect();
    let found = bench.findings(&submitted.claim(checkpoint), randomness, &asked);
    found.map(Some).map_err(unable)
}

/// Whether the rulings of a round are right; how many there are.
pub(super) fn check(
    bench: &mut Workbench,
    told: &RunTold,
    shown: &[Submitted],
    checkpoint: &[f32],
    place: &Place,
) -> Result<u32, Fault> {
    let mut count = 0;
    for submitted in shown {
        let Some(work) = told.works.get(&submitted.id).filter(|w| !w.rulings.is_empty()) else { continue };
        let Some(found) = findings(bench, work, submitted, checkpoint, place)? else { continue };
        for (validator, upheld) in &work.rulings {
            let Some(verdict) = work.verdicts.get(validator) else { continue };
            if found.uphold(validator, &verdict.outcome, verdict.score) != *upheld {
                let how = if *upheld { "upheld" } else { "overruled" };
                return Err(Fault::Computed(format!(
                    "the verdict of {validator} on {} was {how}, which what was opened does not bear out; signed by the \
                     coordinator",
                    submitted.id
                )));
            }
            count += 1;
        }
    }
    Ok(count)
}
