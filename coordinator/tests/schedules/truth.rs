//! What is true of submissions, whoever says what; and what must come of it.

use watershed_coordinator::machine::{Run, VerdictKept, Work, WorkStage};
use watershed_protocol::market::{Fault, Outcome, Score};
use watershed_protocol::{AssignmentId, PublicKey};

use crate::parties::commitment;

/// Whether the work was done.
pub(crate) fn is_right(id: AssignmentId, work: &Work) -> bool {
    work.commitment.as_ref().is_some_and(|c| c.submission == commitment(id, 0).submission)
}

/// What everybody measures who measures.
pub(crate) fn score() -> Score {
    let (before, after) = (2f32.to_bits(), 1f32.to_bits());
    Score { own_before: before, own_after: after, unseen_before: before, unseen_after: after }
}

/// What is wrong with work that was not done.
pub(crate) const FAULT: Fault = Fault::Replay { step: 0 };

pub(crate) fn is_unanswered(work: &Work) -> bool {
    work.openings.keys().any(|v| !work.opened.contains_key(v))
}

/// Whether a verdict is borne out.
pub(crate) fn holds(id: AssignmentId, work: &Work, kept: &VerdictKept) -> bool {
    match &kept.outcome {
        Outcome::Earned { .. } => is_right(id, work) && kept.score == Some(score()),
        Outcome::Rejected(Fault::NoAnswer) => is_unanswered(work),
        Outcome::Rejected(fault) => *fault == FAULT && !is_right(id, work),
    }
}

fn verdicts(work: &Work) -> (Vec<&VerdictKept>, Vec<&VerdictKept>) {
    work.verdicts.values().partition(|k| matches!(k.outcome, Outcome::Earned { .. }))
}

fn is_disputed(work: &Work) -> bool {
    let (earned, rejected) = verdicts(work);
    !earned.is_empty() && !rejected.is_empty() || earned.iter().any(|k| k.score != earned[0].score)
}

/// Whether a submission counts when its round is over: a round that is broken off while rulings fail has none.
pub(crate) fn is_counted(id: AssignmentId, work: &Work) -> bool {
    is_accepted(id, work) && !(is_disputed(work) && work.rulings.is_empty())
}

/// Whether a submission must be in the outer step.
pub(crate) fn is_accepted(id: AssignmentId, work: &Work) -> bool {
    let (earned, rejected) = verdicts(work);
    let disputed = is_disputed(work);
    let counts = |k: &&&VerdictKept| !disputed || holds(id, work, k);
    let score = earned.iter().find(counts).and_then(|k| k.score);
    work.stage == WorkStage::Revealed
        && !rejected.iter().any(|k| counts(&k))
        && score.is_some_and(|s| s.own_before > s.own_after)
}

/// Whatever liars say: what is right, was answered for, and was found right by somebody honest is accepted, and nobody honest
/// is ever overruled.
pub(crate) fn honest_work_counts(
    run: &Run,
    accepted: &[AssignmentId],
    is_honest: &dyn Fn(&PublicKey) -> bool,
) {
    for (id, work) in run.current().filter(|(id, w)| is_right(**id, w) && !is_unanswered(w)) {
        let found =
            |(v, k): (&PublicKey, &VerdictKept)| is_honest(v) && matches!(k.outcome, Outcome::Earned { .. });
        if work.stage == WorkStage::Revealed && work.verdicts.iter().any(found) {
            assert!(accepted.contains(id), "{id} is right, and is left out: {:?}", work.verdicts);
        }
    }
    assert!(!run.overruled.iter().any(is_honest), "somebody honest was overruled");
}
