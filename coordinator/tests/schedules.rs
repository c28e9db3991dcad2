//! A run under random schedules: parties that are honest, lying, slow or gone, a network that loses and repeats, effects
//! that fail, a coordinator that crashes. What must hold is checked after every event, and every run has to end.
//! `WATERSHED_SEED=n` plays that schedule alone and prints its events; `WATERSHED_SCHEDULES=n` plays so many of each sort.
#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "schedules/book.rs"]
mod book;
#[path = "schedules/checks.rs"]
mod checks;
#[path = "schedules/choice.rs"]
mod choice;
#[path = "schedules/garbage.rs"]
mod garbage;
#[path = "schedules/idle.rs"]
mod idle;
#[path = "schedules/journal.rs"]
mod journal;
#[path = "schedules/limits.rs"]
mod limits;
#[path = "schedules/office.rs"]
mod office;
#[path = "schedules/operator.rs"]
mod operator;
#[path = "schedules/parties.rs"]
mod parties;
#[path = "schedules/purse.rs"]
mod purse;
#[path = "schedules/rng.rs"]
mod rng;
#[path = "schedules/setup.rs"]
mod setup;
#[path = "schedules/truth.rs"]
mod truth;
#[path = "schedules/world.rs"]
mod world;

use watershed_protocol::market::FinalState;
use world::World;

/// What sort of world a seed makes; `seed % 5`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Everybody means well; only the network, the effects and the coordinator fail.
    Honest,
    /// All sorts.
    Mixed,
    /// All sorts, and sponsors.
    Funded,
    /// Mostly people that lie and send rubbish.
    Hostile,
    /// Mostly people that are late or fall silent, and many crashes.
    Silent,
}

const SEEDS: u64 = 5_000;

/// Says which seed it was when a check fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with WATERSHED_SEED={}", self.0);
        }
    }
}

fn play(kind: Kind) {
    let only: Option<u64> = std::env::var("WATERSHED_SEED").ok().and_then(|text| text.parse().ok());
    let many: Option<u64> = std::env::var("WATERSHED_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let seeds = (0..many.unwrap_or(SEEDS)).map(|n| n * 5 + kind as u64);
    let seeds: Vec<u64> = match only {
        Some(seed) => vec![seed].into_iter().filter(|s| s % 5 == kind as u64).collect(),
        None => seeds.collect(),
    };
    let (mut events, mut finished, mut exhausted) = (0, 0, 0);
    for seed in &seeds {
        let _named = Named(*seed);
        let (taken, how) = World::new(*seed, kind, only.is_some()).play();
        events += taken;
        finished += usize::from(how == FinalState::Finished);
        exhausted += usize::from(how == FinalState::Exhausted);
    }
    println!(
        "{kind:?}: {} schedules, {events} events, {finished} runs with all rounds, {exhausted} without money for more",
        seeds.len()
    );
    assert!(kind != Kind::Funded || only.is_some() || exhausted > 0, "no schedule runs out of money");
}

#[test]
fn honest_parties_finish_whatever_the_network_does() {
    play(Kind::Honest);
}

#[test]
fn all_sorts_of_parties() {
    play(Kind::Mixed);
}

#[test]
fn pledged_money() {
    play(Kind::Funded);
}

#[test]
fn liars_and_rubbish() {
    play(Kind::Hostile);
}

#[test]
fn silence_and_crashes() {
    play(Kind::Silent);
}
