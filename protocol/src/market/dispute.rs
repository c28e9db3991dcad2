//! What several verdicts on one submission come to.

use super::verdict::{Outcome, Score};

/// A verdict as far as the others are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'a> {
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Losses.
    pub score: Option<Score>,
    /// Whether it was looked at again, and held.
    pub upheld: Option<bool>,
}

impl Spoken<'_> {
    fn is_earned(&self) -> bool {
        matches!(self.outcome, Outcome::Earned { .. })
    }

    /// Whether it counts: it was not overruled.
    fn counts(&self) -> bool {
        self.upheld != Some(false)
    }
}

/// Whether verdicts contradict each other: one finds right what another finds wrong, or they measured different losses. All
/// of them are then looked at again.
pub fn is_disputed<'a>(verdicts: impl Iterator<Item = Spoken<'a>> + Clone) -> bool {
    let earned = verdicts.clone().filter(Spoken::is_earned);
    let mut scores = earned.clone().map(|v| v.score);
    let first = scores.next();
    let both = first.is_some() && verdicts.clone().any(|v| !v.is_earned());
    both || scores.any(|score| Some(score) != first)
}

/// Whether a submission is what it should be: somebody finds that, and nobody that counts finds something else.
pub fn is_sound<'a>(verdicts: impl Iterator<Item = Spoken<'a>> + Clone) -> bool {
    let mut counting = verdicts.filter(Spoken::counts).peekable();
    counting.peek().is_some() && counting.all(|v| v.is_earned())
}

/// The losses that count for a sound submission.
pub fn score_of<'a>(verdicts: impl Iterator<Item = Spoken<'a>>) -> Option<Score> {
    verdicts.filter(|v| v.counts() && v.is_earned()).find_map(|v| v.score)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Fault;

    fn score(n: u32) -> Option<Score> {
        Some(Score { own_before: n, own_after: 0, unseen_before: n, unseen_after: 0 })
    }

    #[test]
    fn verdicts_that_agree_are_not_disputed_and_an_overruled_one_does_not_count() {
        let (right, wrong) = (
            Outcome::Earned { share: 1, preimages: Vec::new() },
            Outcome::Rejected(Fault::Replay { step: 1 }),
        );
        let of = |outcome, score, upheld| Spoken { outcome, score, upheld };
        let both = |a, b| [a, b].into_iter();
        let (good, bad) = (of(&right, score(1), None), of(&wrong, None, None));
        assert!(!is_disputed([].into_iter()) && !is_sound([].into_iter()));
        assert!(!is_disputed(both(good, good)) && is_sound(both(good, good)));
        assert!(!is_disputed(both(bad, bad)) && !is_sound(both(bad, bad)));
        assert!(!is_disputed([good].into_iter()) && is_sound([good].into_iter()));
        for pair in [[good, bad], [bad, good]] {
            assert!(is_disputed(pair.into_iter()) && !is_sound(pair.into_iter()));
        }
        assert!(is_disputed(both(good, of(&right, score(2), None))));
        // A rejection that does not hold is none; a rejection that holds is one, whatever others say.
        let overruled = of(&wrong, None, Some(false));
        assert!(is_sound(both(of(&right, score(1), Some(true)), overruled)));
        assert!(!is_sound(both(of(&right, score(1), Some(true)), of(&wrong, None, Some(true)))));
        assert!(!is_sound(both(of(&right, score(1), Some(false)), overruled)));
        let false_score = of(&right, score(2), Some(false));
        assert_eq!(score_of(both(false_score, of(&right, score(1), Some(true)))), score(1));
        assert_eq!(score_of(both(false_score, bad)), None);
    }
}
