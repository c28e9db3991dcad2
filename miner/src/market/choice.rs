//! Which run to work for. Pure: the same runs and the same miner give the same choice.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use watershed_protocol::market::RunSpec;
use watershed_protocol::market::view::RunView;
use watershed_protocol::{Msat, RunId};
use watershed_rounds::{Unfit, faults};

/// What a miner knows of runs besides what their coordinator shows.
pub(super) struct Knows<'a> {
    /// The run that its owner wants, and no other.
    pub(super) named: Option<RunId>,
    /// The least it works for, for a million tokens.
    pub(super) min_price: Msat,
    /// Whether there is work of it that is not over.
    pub(super) unfinished: &'a dyn Fn(RunId) -> bool,
    /// Runs that gave it nothing for long, or failed here: others come first.
    pub(super) passed: &'a BTreeSet<RunId>,
}

/// Why a run is worked for; what comes first is done first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// It closes, and lots of this miner end only where its wallet runs: without it they would stay locked until they expire.
    Unfinished,
    /// Its money is there, and it can be trained.
    Trains,
    /// The same, and nothing came of it for long.
    Passed,
    /// The operator has stopped it for now.
    Stopped,
    /// It collects pledges.
    Collects,
}

/// Smaller is better: the class, then what a step of the same computing pays, then who was there first.
type Rank = (Class, Reverse<u128>, u64, RunId);

/// What is paid for the same amount of computing: a token of a model costs any device about as much as it has parameters.
fn pay(spec: &RunSpec) -> u128 {
    let work = u128::from(spec.tokens()) * u128::from(spec.model.parameters().unwrap_or(u64::MAX));
    u128::from(spec.reward.per_assignment.msat()) * 1_000_000_000_000 / work.max(1)
}

fn rank(run: &RunView, knows: &Knows<'_>) -> Option<Rank> {
    let waits = |what: &str| run.waits_for.iter().any(|w| w.what == what);
    let class = match run.phase.as_str() {
        "closing" if (knows.unfinished)(run.run) => Class::Unfinished,
        "closing" | "ended" => return None,
        _ if !suits(&run.spec, knows.min_price) => return None,
        "funding" => Class::Collects,
        // It ends with this round, or somebody has to look at it.
        _ if run.paused || !run.end.is_empty() || !run.trouble.is_empty() || waits("operator") => {
            Class::Stopped
        }
        _ if knows.passed.contains(&run.run) => Class::Passed,
        _ => Class::Trains,
    };
    Some((class, Reverse(pay(&run.spec)), run.opened, run.run))
}

/// Whether a miner would be given work that it can do.
fn suits(spec: &RunSpec, min_price: Msat) -> bool {
    let paid = u128::from(spec.reward.per_assignment.msat()) * 1_000_000;
    let wanted = u128::from(min_price.msat()) * u128::from(spec.tokens());
    paid >= wanted && faults(spec).is_empty()
}

/// The run to work for, and why: the one that was named, else the best.
pub(super) fn choose<'a>(runs: &'a [RunView], knows: &Knows<'_>) -> Option<(&'a RunView, Class)> {
    if let Some(named) = knows.named {
        let run = runs.iter().find(|r| r.run == named)?;
        return Some((run, rank(run, knows).map_or(Class::Stopped, |(class, ..)| class)));
    }
    let ranked = runs.iter().filter_map(|run| Some((rank(run, knows)?, run)));
    ranked.min_by_key(|(rank, _)| *rank).map(|((class, ..), run)| (run, class))
}

/// Runs that nobody can train, though they are open, each with the first thing that is wrong with it.
pub(super) fn untrainable(runs: &[RunView]) -> impl Iterator<Item = (RunId, Unfit)> {
    let open = runs.iter().filter(|r| r.phase != "ended" && r.phase != "closing");
    open.filter_map(|run| Some((run.run, faults(&run.spec).into_iter().next()?)))
}

#[cfg(test)]
mod tests {
    use watershed_protocol::SecretKey;
    use watershed_protocol::market::view::WaitView;

    use super::*;

    fn view(byte: u8, phase: &str) -> RunView {
        let key = SecretKey::from_entropy([1; 32]).unwrap().public();
        RunView { spec: RunSpec::smallest([key]), opened: 1_000, ..crate::market::tests::view(byte, phase) }
    }

    fn chosen(runs: &[RunView], passed: &[u8], unfinished: &[u8]) -> Option<(u8, Class)> {
        let id = |byte: &u8| RunId::from_bytes([*byte; 32]);
        let passed: BTreeSet<RunId> = passed.iter().map(id).collect();
        let unfinished: Vec<RunId> = unfinished.iter().map(id).collect();
        let knows = Knows {
            named: None,
            min_price: Msat::new(1_000),
            unfinished: &|run| unfinished.contains(&run),
            passed: &passed,
        };
        choose(runs, &knows).map(|(run, class)| (run.run.to_bytes()[0], class))
    }

    /// The first funded run of a coordinator on which forty others collect pledges.
    #[test]
    fn a_funded_run_comes_before_any_number_that_collect_pledges_whatever_their_names() {
        for funded in [1, 20, 250] {
            let collecting = (2..42).map(|n| RunView { opened: 2_000, ..view(n * 5, "funding") });
            let mut runs: Vec<RunView> = collecting.collect();
            runs.push(view(funded + 1, "running"));
            assert_eq!(chosen(&runs, &[], &[]), Some((funded + 1, Class::Trains)));
            runs.reverse();
            assert_eq!(chosen(&runs, &[], &[]), Some((funded + 1, Class::Trains)));
            runs.retain(|r| r.phase == "funding");
            assert_eq!(chosen(&runs, &[], &[]).unwrap().1, Class::Collects);
        }
    }

    #[test]
    fn of_funded_runs_the_best_paid_comes_first_and_then_the_oldest() {
        let mut better = view(1, "running");
        better.spec.reward.per_assignment = Msat::new(2_000);
        let mut larger = view(2, "running");
        // Twice the pay for four times the work.
        (larger.spec.reward.per_assignment, larger.spec.inner.steps) = (Msat::new(2_000), 4);
        let older = RunView { opened: 10, ..view(3, "preparing") };
        let younger = view(4, "running");
        let runs = [larger, younger, older, better];
        assert_eq!(chosen(&runs, &[], &[]), Some((1, Class::Trains)));
        assert_eq!(chosen(&runs, &[1], &[]), Some((3, Class::Trains)));
        assert_eq!(chosen(&runs, &[1, 3], &[]), Some((4, Class::Trains)));
        assert_eq!(chosen(&runs, &[1, 2, 3, 4], &[]), Some((1, Class::Passed)));
    }

    #[test]
    fn what_gives_no_work_comes_later_and_what_nobody_can_train_never() {
        let paused = RunView { paused: true, ..view(1, "running") };
        let wait = WaitView { what: "operator".to_owned(), text: String::new(), keys: Vec::new() };
        let troubled = RunView { waits_for: vec![wait], ..view(2, "running") };
        assert_eq!(chosen(&[paused.clone(), view(9, "funding")], &[], &[]), Some((1, Class::Stopped)));
        assert_eq!(chosen(&[troubled, paused, view(9, "running")], &[], &[]), Some((9, Class::Trains)));
        let mut untrainable = view(3, "running");
        untrainable.spec.inner.warmup_steps = 100;
        assert_eq!(chosen(&[untrainable.clone()], &[], &[]), None);
        assert_eq!(super::untrainable(&[untrainable]).next().unwrap().1.field, "inner.warmup_steps");
        let mut cheap = view(4, "running");
        assert_eq!(chosen(&[cheap.clone()], &[], &[]), Some((4, Class::Trains)));
        // 1000 msat for 1.2 million tokens, where a million are to pay as much.
        (cheap.spec.inner.steps, cheap.spec.inner.batch) = (1_500, 100);
        assert_eq!(chosen(&[cheap], &[], &[]), None);
    }

    /// What a miner that was killed in the last round starts again with: its lots wait for its wallet.
    #[test]
    fn a_run_that_closes_is_gone_back_to_while_work_is_left_in_it() {
        let runs = [view(1, "closing"), view(2, "running"), view(3, "ended")];
        assert_eq!(chosen(&runs, &[], &[]), Some((2, Class::Trains)));
        assert_eq!(chosen(&runs, &[], &[1, 2]), Some((1, Class::Unfinished)));
        assert_eq!(chosen(&runs, &[], &[3]), Some((2, Class::Trains)));
        assert_eq!(chosen(&runs[..1], &[], &[]), None);
        assert_eq!(chosen(&runs[..1], &[], &[1]), Some((1, Class::Unfinished)));
    }
}
