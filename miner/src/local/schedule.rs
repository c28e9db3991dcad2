//! Numbers that change from round to round: `15` is 15 in every round, `5x40,15` is 5 in the first 40 rounds and 15 in all
//! later ones, `5x40,15x20` says besides that the run has 60 rounds.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Rounds of a run when nothing says how many: 605 inner steps with the default schedules, which docs/BENCHMARKS.md measures.
const DEFAULT_ROUNDS: u32 = 67;

/// Most rounds of a run.
pub(crate) const MAX_ROUNDS: u32 = 1_000_000;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ScheduleError {
    #[error("{0:?} is neither a number nor NUMBERxROUNDS; write 15, or for example 5x40,15x20 or 5x40,15")]
    Grammar(String),
    #[error("{value} is not in {min}..={max}")]
    Value { value: String, min: String, max: String },
    #[error(
        "{0:?} does not say for how many rounds, and only the last part may leave that out; write for example {0}x10"
    )]
    Open(String),
    #[error("the parts of {0:?} must last at least one round each, and at most {MAX_ROUNDS} in all")]
    Length(String),
    #[error(
        "{flag} {schedule} is for {found} rounds, but the run has {rounds}; leave out the rounds of its last part, or make both the same"
    )]
    Rounds { flag: &'static str, schedule: String, found: u32, rounds: u32 },
    #[error("a run of {0} inner steps is too long; a worker takes at most {max}", max = u32::MAX)]
    TooManySteps(u64),
}

/// A number for each round, as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule<N> {
    /// The numbers and for how many rounds each holds.
    parts: Vec<(N, u32)>,
    /// The number that holds after these, if the schedule does not end there.
    rest: Option<N>,
}

/// A number as digits, with a decimal point if `N` knows one: no sign, exponent or name.
fn number<N: FromStr>(part: &str, written: &str) -> Result<N, ScheduleError> {
    let plain = written.starts_with(|c: char| c.is_ascii_digit())
        && written.ends_with(|c: char| c.is_ascii_digit())
        && written.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = written.parse().ok().filter(|_| plain);
    number.ok_or_else(|| ScheduleError::Grammar(part.to_owned()))
}

impl<N> Schedule<N> {
    /// The same number in every round.
    pub(crate) const fn always(value: N) -> Self {
        Self { parts: Vec::new(), rest: Some(value) }
    }

    /// A number in the first rounds and another in all later ones.
    pub(crate) fn first(value: N, rounds: u32, rest: N) -> Self {
        Self { parts: vec![(value, rounds)], rest: Some(rest) }
    }
}

impl<N: Copy + PartialOrd + Display + FromStr> Schedule<N> {
    /// Reads a schedule of numbers in `allowed`.
    pub(crate) fn parse(text: &str, allowed: RangeInclusive<N>) -> Result<Self, ScheduleError> {
        let (mut parts, mut rest, mut total) = (Vec::new(), None, 0u32);
        let mut written = text.split(',').map(str::trim).peekable();
        while let Some(part) = written.next() {
            let (value, rounds) = match part.split_once('x') {
                Some((value, rounds)) => (number(part, value)?, Some(number(part, rounds)?)),
                None => (number(part, part)?, None),
            };
            if !allowed.contains(&value) {
                let [value, min, max] = [value, *allowed.start(), *allowed.end()].map(|n| n.to_string());
                return Err(ScheduleError::Value { value, min, max });
            }
            match rounds {
                Some(rounds) => {
                    total = total.saturating_add(rounds);
                    if rounds == 0 || total > MAX_ROUNDS {
                        return Err(ScheduleError::Length(text.to_owned()));
                    }
                    parts.push((value, rounds));
                }
                None if written.peek().is_none() => rest = Some(value),
                None => return Err(ScheduleError::Open(part.to_owned())),
            }
        }
        Ok(Self { parts, rest })
    }

    /// What it says of a run of `rounds` rounds.
    pub(crate) fn over(&self, rounds: u32) -> ByRound<N> {
        let mut found: Vec<(N, u32)> = Vec::new();
        let mut left = rounds;
        for (value, rounds) in self.parts.iter().copied().chain(self.rest.map(|value| (value, left))) {
            let rounds = rounds.min(left);
            left -= rounds;
            match found.last_mut() {
                // Two ways to write the same schedule are the same schedule.
                Some((last, length)) if *last == value => *length += rounds,
                _ if rounds > 0 => found.push((value, rounds)),
                _ => {}
            }
        }
        ByRound(found)
    }
}

/// What the length of a run follows from, whatever the schedule is of.
pub(crate) trait Lasts: Display {
    /// How many rounds it is for, if it says so.
    fn rounds(&self) -> Option<u32>;
}

impl<N: Copy + Display> Lasts for Schedule<N> {
    fn rounds(&self) -> Option<u32> {
        let total = self.parts.iter().map(|(_, rounds)| rounds).sum();
        self.rest.is_none().then_some(total)
    }
}

/// The parts of a schedule as it is written.
fn written<N: Display>(parts: &[(N, u32)]) -> Vec<String> {
    parts.iter().map(|(value, rounds)| format!("{value}x{rounds}")).collect()
}

impl<N: Copy + Display> Display for Schedule<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.rest.map(|value| value.to_string());
        let parts: Vec<String> = written(&self.parts).into_iter().chain(rest).collect();
        f.write_str(&parts.join(","))
    }
}

/// The number of rounds: what was asked for, else what a schedule is for, else [`DEFAULT_ROUNDS`]. Every schedule, given with
/// its flag, must be for as many or leave it open.
pub(crate) fn rounds(
    asked: Option<u32>,
    schedules: &[(&'static str, &dyn Lasts)],
) -> Result<u32, ScheduleError> {
    let said = schedules.iter().find_map(|(_, schedule)| schedule.rounds());
    let rounds = asked.or(said).unwrap_or(DEFAULT_ROUNDS);
    for (flag, schedule) in schedules {
        if let Some(found) = schedule.rounds().filter(|found| *found != rounds) {
            return Err(ScheduleError::Rounds { flag, schedule: schedule.to_string(), found, rounds });
        }
    }
    Ok(rounds)
}

/// A number for each round of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ByRound<N>(Vec<(N, u32)>);

impl<N: Copy + Default> ByRound<N> {
    /// The number of round `round`, counted from 0. After the last round, that of the last.
    pub(crate) fn at(&self, round: u32) -> N {
        let mut end = 0;
        let part = self.0.iter().find(|(_, rounds)| {
            end += rounds;
            round < end
        });
        part.or(self.0.last()).map_or_else(N::default, |(value, _)| *value)
    }
}

impl ByRound<u32> {
    /// The sum over the rounds before `round`.
    pub(crate) fn before(&self, round: u32) -> u64 {
        let mut left = round;
        let parts = self.0.iter().map(|(value, rounds)| {
            let rounds = left.min(*rounds);
            left -= rounds;
            u64::from(*value) * u64::from(rounds)
        });
        parts.sum()
    }

    /// The sum over all rounds.
    pub(crate) fn total(&self) -> u64 {
        self.before(u32::MAX)
    }
}

impl<N: Display> Display for ByRound<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [(value, _)] => value.fmt(f),
            parts => f.write_str(&written(parts).join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Schedule<u32> {
        Schedule::parse(text, 1..=4096).unwrap()
    }

    #[test]
    fn each_round_has_its_number_and_sums_are_those_of_the_numbers() {
        for (text, rounds, expected) in [
            ("15", 3, vec![15, 15, 15]),
            ("5x2,15x3", 5, vec![5, 5, 15, 15, 15]),
            ("1024x2, 512x1,64", 6, vec![1024, 1024, 512, 64, 64, 64]),
            ("7x4,9", 2, vec![7, 7]),
        ] {
            let by_round = read(text).over(rounds);
            let mut sum = 0;
            for (round, value) in expected.iter().enumerate() {
                assert_eq!(by_round.at(round as u32), *value, "{text} round {round}");
                assert_eq!(by_round.before(round as u32), sum, "{text} before round {round}");
                sum += u64::from(*value);
            }
            assert_eq!((by_round.total(), by_round.before(rounds)), (sum, sum), "{text}");
        }
    }

    #[test]
    fn two_ways_to_write_a_schedule_are_the_same() {
        assert_eq!(read("15").over(40), read("15x10,15x30").over(40));
        assert_eq!(read("5x2,7").over(4), read("5x1,5x1,7x2").over(4));
        assert_eq!(read("5x2,7").over(4).to_string(), "5x2,7x2");
        assert_eq!(read("5x2,7").over(2).to_string(), "5");
        assert_eq!(read(" 5x2, 7 ").to_string(), "5x2,7");
    }

    #[test]
    fn rates_have_a_point_and_nothing_else_that_numbers_may_have() {
        let read = |text: &str| Schedule::<f32>::parse(text, 0.0..=10.0);
        let by_round = read("1x2,0.75").unwrap().over(4);
        assert_eq!([0, 1, 2, 3, 9].map(|round| by_round.at(round)), [1.0, 1.0, 0.75, 0.75, 0.75]);
        assert_eq!(by_round.to_string(), "1x2,0.75x2");
        assert_eq!(read("1.50").unwrap().over(3), read("1.5x3").unwrap().over(3));
        for text in ["nan", "inf", "1e1", "-1", "+1", ".5", "5.", "1.2.3", "0.5x1.5", ""] {
            assert!(matches!(read(text), Err(ScheduleError::Grammar(_))), "{text}: {:?}", read(text));
        }
        assert!(matches!(read("10.5"), Err(ScheduleError::Value { .. })));
    }

    #[test]
    fn the_number_of_rounds_comes_from_the_flag_or_a_schedule_and_both_must_agree() {
        let (open, closed, other) = (read("1024x10,512"), read("5x40,15x20"), read("9x59"));
        assert_eq!(rounds(None, &[("--top-k", &open)]), Ok(DEFAULT_ROUNDS));
        assert_eq!(rounds(Some(7), &[("--top-k", &open)]), Ok(7));
        assert_eq!(rounds(None, &[("--top-k", &open), ("--inner-steps", &closed)]), Ok(60));
        for (asked, other) in [(Some(40), &open), (None, &other)] {
            let refused = rounds(asked, &[("--inner-steps", &closed), ("--top-k", other)]).unwrap_err();
            assert!(matches!(refused, ScheduleError::Rounds { .. }), "{refused}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |text: &str| Schedule::parse(text, 1u32..=4096).unwrap_err();
        let outside = |value: &str| {
            let [value, min, max] = [value, "1", "4096"].map(str::to_owned);
            ScheduleError::Value { value, min, max }
        };
        for text in [
            "",
            "x",
            "5x",
            "x5",
            "5 x 40",
            "+5",
            "-5",
            "5x40,",
            "5x1,,6",
            "1x2x3",
            "99999999999",
            "5*40",
            "1.5",
        ] {
            assert!(matches!(refused(text), ScheduleError::Grammar(_)), "{text}: {:?}", refused(text));
        }
        assert_eq!(refused("5x3,4097"), outside("4097"));
        assert_eq!(refused("0"), outside("0"));
        assert_eq!(refused("5,15x20"), ScheduleError::Open("5".to_owned()));
        assert!(matches!(refused("5x0,15"), ScheduleError::Length(_)));
        assert!(matches!(refused("5x999999,15x2"), ScheduleError::Length(_)));
        assert!(refused("5*40").to_string().contains("5x40,15x20"));
    }
}
