//! What miners open is needed until the round after, and for ever where somebody found something wrong with it.

use std::collections::BTreeSet;

use watershed_protocol::Digest;
use watershed_protocol::market::Outcome;

use super::{Effect, Litter, Round, Run};

/// Blobs that one effect names at most.
const PART: usize = 10_000;

impl Run {
    /// Blobs that must stay, as far as the state tells: checkpoints, submissions, openings of what is under way.
    pub fn is_needed(&self, blob: Digest) -> bool {
        let shown = |w: &super::Work| w.reveal.as_ref().is_some_and(|r| r.blob == blob);
        let opened = |w: &super::Work| {
            !w.judged && w.opened.values().any(|o| o.state == Some(blob) || o.chunks == blob)
        };
        self.checkpoints.iter().any(|c| c.blob == blob || c.velocity == Some(blob))
            || self.works.values().any(|w| shown(w) || opened(w))
    }

    /// Takes what was opened in a round that ends in place of what was opened in the one before, which goes.
    pub(super) fn tidy(&mut self, round: &Round) -> Vec<Effect> {
        let (mut blobs, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for work in self.works.values().filter(|w| w.assignment.round.0 == round.number) {
            let rejected = work.verdicts.values().any(|v| matches!(v.outcome, Outcome::Rejected(_)));
            let opened = work.opened.values().flat_map(|o| o.state.into_iter().chain([o.chunks]));
            // What was looked at again is what a ruling rests on.
            if rejected || !work.rulings.is_empty() {
                kept.extend(opened)
            } else {
                blobs.extend(opened)
            }
            kept.extend(work.reveal.as_ref().map(|r| r.blob));
        }
        blobs.retain(|blob| !kept.contains(blob));
        let before = std::mem::replace(&mut self.litter, Litter { since: round.judging, blobs });
        self.discard(before)
    }

    /// What was opened in the last round goes.
    pub(super) fn tidy_up(&mut self) -> Vec<Effect> {
        let before = std::mem::take(&mut self.litter);
        self.discard(before)
    }

    fn discard(&self, litter: Litter) -> Vec<Effect> {
        let (version, since) = (self.version, litter.since);
        let blobs: Vec<Digest> = litter.blobs.into_iter().collect();
        let parts = blobs.chunks(PART).enumerate();
        parts.map(|(part, b)| Effect::Discard { version, part, since, blobs: b.to_vec() }).collect()
    }
}
