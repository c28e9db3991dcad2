//! What should never have been sent.

use watershed_protocol::market::{Join, Message, Opened, Opening, Outcome, Verdict};
use watershed_protocol::{AssignmentId, Digest, Msat, PaymentHash, Preimage, PublicKey, SubmissionId};

use crate::parties::{SHOWN, commitment, reveal};
use crate::setup::cast;
use crate::world::World;

impl World {
    /// A message that does not fit: a wrong count, somebody else's task, another's words, an old one again.
    pub(crate) fn rubbish(&mut self, own: PublicKey) -> (PublicKey, Message) {
        if self.rng.chance(30)
            && let Some((signer, message)) = self.rng.pick(&self.sent)
        {
            return if self.rng.chance(60) { (signer, message) } else { (own, message) };
        }
        let known: Vec<AssignmentId> = self.run.works.keys().copied().collect();
        let assignment =
            self.rng.pick(&known).unwrap_or(AssignmentId::from_bytes([self.rng.below(256) as u8; 32]));
        let everybody = [&cast().miners[..], &cast().validators[..], &[cast().outsider]].concat();
        let other = self.rng.pick(&everybody).unwrap_or(own);
        let count = self.rng.below(9);
        let text = |n: u64| "x".repeat(n as usize * 40);
        let hash = |n: u64| PaymentHash::from_bytes([n as u8; 32]);
        let some = if self.rng.chance(25) { SHOWN } else { Digest([self.rng.below(3) as u8; 32]) };
        let message = match self.rng.below(11) {
            0 => Message::Hashes { assignment, hashes: (0..count).map(hash).collect() },
            1 => Message::Accept { assignment, invoices: (0..count).map(text).collect() },
            2 => Message::Locked { assignment, reports: (0..count).map(|n| (hash(n), 9)).collect() },
            3 => Message::Commit(commitment(assignment, self.rng.below(256) as u8)),
            4 => {
                let mut reveal = reveal(assignment);
                reveal.steps.truncate(self.rng.below(3) as usize);
                Message::Reveal(reveal)
            }
            5 => {
                let chunks = (0..count).collect();
                Message::Open(Opening { assignment, step: Some(self.rng.small(0, 4)), chunks })
            }
            6 => Message::Opened(Opened {
                assignment,
                validator: other,
                step: Some(self.rng.small(0, 4)),
                state: Some(some),
                chunks: some,
            }),
            7 => {
                let preimages = (0..count).map(|n| Preimage::from_bytes([n as u8; 32])).collect();
                Message::Verdict(Verdict {
                    assignment,
                    submission: SubmissionId::from_bytes([self.rng.below(256) as u8; 32]),
                    randomness: self.run.randomness().unwrap_or(some),
                    step: None,
                    chunks: Vec::new(),
                    score: None,
                    outcome: Outcome::Earned { share: self.rng.small(0, 9), preimages },
                })
            }
            8 => Message::Decline { assignment, reason: text(count) },
            9 => Message::Receipts { assignment, receipts: Vec::new() },
            _ => Message::Join(Join {
                run: self.run.id,
                node: text(count),
                tokens_per_second: self.rng.small(0, 1),
                min_per_million_tokens: Msat::new(self.rng.next()),
                lost_state: true,
            }),
        };
        // About a miner's task, but not from that miner; or really from it.
        (if self.rng.chance(30) && other != cast().outsider { own } else { other }, message)
    }
}
