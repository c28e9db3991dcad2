//! What a run trains on, and the end of submissions in a round.

use watershed_protocol::market::{TextSource, Verdict};
use watershed_protocol::{AssignmentId, Digest, RoundNumber};

use super::{RecordFault, RunTold};

impl RunTold {
    pub(super) fn text(&mut self, text: TextSource) -> Result<(), RecordFault> {
        if !self.checkpoints.is_empty() || self.ended.is_some() {
            return Err(RecordFault::Order("the text of a run"));
        }
        let data = &self.spec.data;
        if (text.shards, text.snapshot, text.tokenizer) != (data.shards, data.snapshot, data.tokenizer) {
            return Err(RecordFault::Text);
        }
        match self.text.replace(text) {
            None => Ok(()),
            Some(_) => Err(RecordFault::Twice("the text of a run".to_owned())),
        }
    }

    /// Nobody shows anything any more.
    pub(super) fn closed(
        &mut self,
        round: u32,
        shown: &[AssignmentId],
        randomness: Digest,
    ) -> Result<(), RecordFault> {
        if self.ended.is_some() || Some(round) != self.index.newest_round() || round < self.round() {
            return Err(RecordFault::Order("the end of submissions"));
        }
        let Some(checkpoint) = self.checkpoints.last().map(|c| c.checkpoint) else {
            return Err(RecordFault::Order("the end of submissions"));
        };
        let (tasks, mut submissions) = self.index.shown(round, checkpoint);
        let drawn = Verdict::randomness(
            self.spec.id().map_err(|e| RecordFault::Specification(e.to_string()))?,
            RoundNumber(round),
            &mut submissions,
        );
        if shown.is_empty() || !tasks.iter().eq(shown) || drawn != randomness {
            return Err(RecordFault::Closed(round));
        }
        if !self.index.close(round, checkpoint, randomness) {
            return Err(RecordFault::Twice(format!("the end of submissions of round {round}")));
        }
        Ok(())
    }
}
