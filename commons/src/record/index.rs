//! What following an entry asks of all tasks before it, kept so that none of them has to be looked at again: a record of
//! twenty thousand tasks takes ten times as long as one of two thousand, not a hundred times.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use watershed_protocol::data::WindowSpec;
use watershed_protocol::market::{Assignment, TermsOffered};
use watershed_protocol::{AssignmentId, Digest, PaymentHash, PublicKey, SubmissionId};

/// An attempt at a round: its number, and what it starts from.
type Attempt = (u32, Digest);

fn attempt(of: &Assignment) -> Attempt {
    (of.round.0, of.checkpoint)
}

/// First sequence of a window, and the one behind it.
fn range(window: &WindowSpec) -> (u64, u64) {
    (window.first, window.first.saturating_add(u64::from(window.sequences)))
}

/// Tasks by what is asked of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Windows by their first sequence: the sequence behind them, and whose they are. They do not overlap.
    windows: BTreeMap<u64, (u64, AssignmentId)>,
    hashes: HashSet<PaymentHash>,
    rounds: BTreeMap<u32, BTreeSet<AssignmentId>>,
    miners: HashMap<PublicKey, Vec<AssignmentId>>,
    shown: HashMap<Attempt, Shown>,
}

/// What was shown in an attempt.
#[derive(Clone, Debug, Default)]
struct Shown {
    tasks: BTreeSet<AssignmentId>,
    submissions: Vec<SubmissionId>,
    /// What its scores are drawn from: nobody shows anything any more.
    randomness: Option<Digest>,
}

impl Index {
    /// A task of the same sequences as this window, if there is one.
    pub(super) fn overlapping(&self, window: &WindowSpec) -> Option<AssignmentId> {
        let (first, end) = range(window);
        // Windows do not overlap each other, so of those that begin before the end the last one ends last.
        let (_, (others_end, other)) = self.windows.range(..end).next_back()?;
        (*others_end > first).then_some(*other)
    }

    /// Whether somebody holds the secret of this hash for another lot.
    pub(super) fn has_hash(&self, hash: &PaymentHash) -> bool {
        self.hashes.contains(hash)
    }

    pub(super) fn assigned(&mut self, id: AssignmentId, assignment: &Assignment, lots: &[TermsOffered]) {
        let (first, end) = range(&assignment.window);
        self.windows.insert(first, (end, id));
        self.hashes.extend(lots.iter().map(|l| l.hash));
        self.rounds.entry(assignment.round.0).or_default().insert(id);
        self.miners.entry(assignment.miner).or_default().push(id);
    }

    pub(super) fn showed(&mut self, id: AssignmentId, of: &Assignment, submission: Option<SubmissionId>) {
        let shown = self.shown.entry(attempt(of)).or_default();
        shown.tasks.insert(id);
        shown.submissions.extend(submission);
    }

    /// Round of the newest task.
    pub(super) fn newest_round(&self) -> Option<u32> {
        self.rounds.last_key_value().map(|(round, _)| *round)
    }

    /// Tasks of a round, ascending.
    pub(super) fn of_round(&self, round: u32) -> impl Iterator<Item = &AssignmentId> {
        self.rounds.get(&round).into_iter().flatten()
    }

    /// Tasks of a miner, newest first.
    pub(super) fn of_miner(&self, miner: &PublicKey) -> impl Iterator<Item = &AssignmentId> {
        self.miners.get(miner).into_iter().flat_map(|ids| ids.iter().rev())
    }

    /// Whether anything was shown in the attempt that a task is part of.
    pub(super) fn is_shown(&self, of: &Assignment) -> bool {
        self.shown.contains_key(&attempt(of))
    }

    /// What the scores of a task are drawn from, once its round has been closed for submissions.
    pub(super) fn randomness(&self, of: &Assignment) -> Option<Digest> {
        self.shown.get(&attempt(of))?.randomness
    }

    /// What was shown in an attempt: tasks, ascending, and their submissions.
    pub(super) fn shown(
        &self,
        round: u32,
        checkpoint: Digest,
    ) -> (BTreeSet<AssignmentId>, Vec<SubmissionId>) {
        let shown = self.shown.get(&(round, checkpoint)).cloned().unwrap_or_default();
        (shown.tasks, shown.submissions)
    }

    /// Nothing more is shown in an attempt; false if that was said before.
    pub(super) fn close(&mut self, round: u32, checkpoint: Digest, randomness: Digest) -> bool {
        self.shown.entry((round, checkpoint)).or_default().randomness.replace(randomness).is_none()
    }
}
