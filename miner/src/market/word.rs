//! A coordinator that signed for a message and then says that it never came.

use watershed_protocol::market::view::WorkView;

use super::keep::Keep;

/// How the coordinator broke its word about a task that it dropped, if it did; `url` is where its record is.
pub(super) fn broken(keep: &Keep, work: &WorkView, url: &str) -> Option<String> {
    if work.stage != "dropped" {
        return None;
    }
    let lacks = [("commit", work.commitment.is_none()), ("reveal", work.reveal.is_none())];
    let denied =
        lacks.iter().filter(|(_, lacks)| *lacks).map(|(kind, _)| (kind, keep.promise(work.id, kind)));
    let (kind, proof) = denied.into_iter().find(|(_, path)| path.exists())?;
    Some(format!(
        "the coordinator signed that it took the {kind} of round {}, and now says: {}\nIts signature proves that to anybody: \
         watershed-validator audit {url} --promise {}",
        work.assignment.round.0,
        work.reason,
        proof.display()
    ))
}
