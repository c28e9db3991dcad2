//! How long a miner holds on to a reward whose verdicts it has not seen.
//!
//! That a round is over is the coordinator's word alone. Verdicts are not: each is signed by a validator, and validators give
//! them out themselves. So work that was shown is not let go of before every validator has spoken or has had all the time that
//! the specification gives it.

use watershed_protocol::PublicKey;
use watershed_protocol::market::{CommitteeMember, RoundsSpec, TermsOffered};

/// Seconds for clocks that differ and for the way of a verdict.
const MARGIN: u64 = 10;

/// Validators that hold secrets of `lots`, give out verdicts themselves, and of which no verdict was `seen`: each with its
/// address.
pub(super) fn silent<'a>(
    committee: &'a [CommitteeMember],
    lots: &[TermsOffered],
    seen: impl Fn(&PublicKey) -> bool,
) -> Vec<(PublicKey, &'a str)> {
    let holds = |key: &PublicKey| lots.iter().any(|l| l.validator == *key);
    committee
        .iter()
        .filter(|m| holds(&m.key) && !seen(&m.key))
        .filter_map(|m| Some((m.key, m.url.as_deref()?)))
        .collect()
}

/// Until when verdicts may still come on work that was shown at `shown`, in seconds since 1970: judging begins when the last
/// miner has shown its work, or when the time for that is up.
pub(super) fn until(rounds: &RoundsSpec, shown: u64) -> u64 {
    shown
        .saturating_add(u64::from(rounds.reveal_seconds))
        .saturating_add(u64::from(rounds.verdict_seconds))
        .saturating_add(MARGIN)
}

#[cfg(test)]
mod tests {
    use watershed_protocol::{Msat, Preimage, SecretKey};

    use super::*;

    fn key(n: u8) -> PublicKey {
        SecretKey::from_entropy([n; 32]).unwrap().public()
    }

    #[test]
    fn all_who_hold_secrets_and_can_be_asked_are_waited_for() {
        let member = |n, url: Option<&str>| CommitteeMember { key: key(n), url: url.map(str::to_owned) };
        let committee =
            [member(1, Some("one")), member(2, Some("two")), member(3, None), member(4, Some("four"))];
        let lot = |n| TermsOffered {
            validator: key(n),
            tier: 0,
            hash: Preimage::from_bytes([n; 32]).hash(),
            amount: Msat::new(1),
        };
        let lots = [lot(1), lot(2), lot(3)];
        let names = |seen: &[PublicKey]| -> Vec<&str> {
            silent(&committee, &lots, |k| seen.contains(k)).into_iter().map(|(_, url)| url).collect()
        };
        assert_eq!(names(&[]), ["one", "two"]);
        assert_eq!(names(&[key(1)]), ["two"]);
        assert!(names(&[key(1), key(2)]).is_empty());
    }

    #[test]
    fn the_wait_is_what_the_specification_gives_and_never_overflows() {
        let rounds = RoundsSpec {
            count: 1,
            min_miners: 1,
            max_miners: 1,
            newcomers: watershed_protocol::BasisPoints::ZERO,
            max_size: 1,
            min_accepted: 1,
            lock_seconds: 1000,
            train_seconds: 1000,
            reveal_seconds: 30,
            verdict_seconds: 60,
        };
        assert_eq!(until(&rounds, 1_000_000), 1_000_000 + 30 + 60 + MARGIN);
        assert_eq!(until(&rounds, u64::MAX), u64::MAX);
    }
}
