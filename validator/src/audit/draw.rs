//! Which assignments are done again in full.

use std::collections::BTreeSet;

use watershed_commons::record::Runs;
use watershed_protocol::{AssignmentId, Digest};

/// Assignments that were drawn, and those before them: an assignment begins with what its miner carried, which is the end of
/// the one it continues, and so back to zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    seed: u64,
    drawn: BTreeSet<AssignmentId>,
    needed: BTreeSet<AssignmentId>,
    /// What something needed continues.
    continued: BTreeSet<AssignmentId>,
}

/// This machine's own randomness: what is looked at can not be known by whoever made the record.
pub(super) fn seed() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no randomness: {e}"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Drawn {
    /// Draws `percent` of the assignments whose work was shown, at least one if any.
    pub(super) fn draw(runs: &Runs, percent: u32, seed: u64) -> Self {
        let works = runs.runs.values().flat_map(|r| &r.works);
        let shown = works.filter(|(_, w)| w.reveal.is_some()).map(|(id, _)| *id);
        let place = |id: &AssignmentId| -> Digest {
            watershed_rounds::sha256(&[seed.to_le_bytes().as_slice(), &id.to_bytes()].concat())
        };
        let mut shown: Vec<AssignmentId> = shown.collect();
        let count = (shown.len() * percent as usize).div_ceil(100);
        shown.sort_by_cached_key(place);
        shown.truncate(count);
        let mut drawn = Self { seed, drawn: shown.into_iter().collect(), ..Self::default() };
        let mut next: Vec<AssignmentId> = drawn.drawn.iter().copied().collect();
        while let Some(id) = next.pop() {
            if !drawn.needed.insert(id) {
                continue;
            }
            let work = runs.runs.values().find_map(|r| r.works.get(&id));
            if let Some(previous) = work.and_then(|w| w.assignment.previous) {
                drawn.continued.insert(previous);
                next.push(previous);
            }
        }
        drawn
    }

    /// Says which, so that the same can be drawn again.
    pub(super) fn show(&self) {
        if self.drawn.is_empty() {
            return;
        }
        eprintln!(
            "drawn with --seed {}: {} assignments, and {} before them whose end they begin with",
            self.seed,
            self.drawn.len(),
            self.needed.len() - self.drawn.len()
        );
        for id in &self.drawn {
            eprintln!("  {id}");
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn assignments(&self) -> &BTreeSet<AssignmentId> {
        &self.drawn
    }

    /// Whether it is done again.
    pub(super) fn needs(&self, id: &AssignmentId) -> bool {
        self.needed.contains(id)
    }

    /// Whether what is carried from it is asked for.
    pub(super) fn continues(&self, id: &AssignmentId) -> bool {
        self.continued.contains(id)
    }
}
