//! What a validator does next about one task: a function of what the coordinator shows, what was found here, and the time.

use std::collections::BTreeMap;

use watershed_protocol::PublicKey;
use watershed_protocol::market::view::WorkView;
use watershed_protocol::market::{Fault, JudgingTimes, Outcome, RunSpec};

use crate::judge::FirstLook;

/// What is known here about a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// Whether a verdict was signed before.
    pub(crate) signed: bool,
    /// From what is shown to everybody.
    pub(crate) public: Option<&'a FirstLook>,
    /// From what was opened: to this validator, and to others that reject.
    pub(crate) opened: &'a BTreeMap<PublicKey, Option<Fault>>,
    /// What validators have said.
    pub(crate) said: &'a BTreeMap<PublicKey, Outcome>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Ask the miner to open a step and chunks.
    Ask,
    /// Check form and commitments, and score.
    Look,
    /// Check what was opened to a validator.
    Check(PublicKey),
    /// Say that nothing was found, and give out no secret yet.
    Sound,
    /// Sign a verdict: this fault, or none.
    Sign(Option<Fault>),
    /// Send the verdict that was signed before.
    Publish,
    /// Nothing until something happens.
    Wait,
    /// Nothing any more.
    Over,
}

/// Decides. `now` is not later than when `work` was shown: an answer that came in time is in it.
pub(crate) fn next(
    me: PublicKey,
    spec: &RunSpec,
    work: &WorkView,
    found: &Found<'_>,
    times: &JudgingTimes,
    now: u64,
) -> Next {
    if found.said.contains_key(&me) {
        return Next::Over;
    }
    if found.signed {
        return Next::Publish;
    }
    let is_answered = |validator: &PublicKey| work.opened.iter().any(|o| o.validator == *validator);
    let asked = work.openings.iter().any(|(validator, _)| *validator == me);
    if let Some(FirstLook::Faulty(fault)) = found.public {
        return Next::Sign(Some(fault.clone()));
    }
    if !asked {
        // Whoever asks too late is not answered, and has nothing to say of what it did not look at.
        return match now < times.ask {
            true => Next::Ask,
            false if found.public.is_some() => Next::Over,
            false => Next::Look,
        };
    }
    if found.public.is_none() {
        return Next::Look;
    }
    // A miner that answers only those whose questions it likes answers nobody. What nobody can answer is no question.
    let mut binding = work.openings.iter().filter(|(_, asked)| asked.check(spec, work.record).is_ok());
    if now >= times.answer && binding.any(|(validator, _)| !is_answered(validator)) {
        return Next::Sign(Some(Fault::NoAnswer));
    }
    if !is_answered(&me) {
        return Next::Wait;
    }
    match found.opened.get(&me) {
        None => return Next::Check(me),
        Some(Some(fault)) => return Next::Sign(Some(fault.clone())),
        Some(None) => {}
    }
    if !work.sound.contains(&me) {
        return Next::Sound;
    }
    // What another rejects is looked at in what it was opened: so one that finds something is enough, and one that lies
    // convinces nobody.
    for (validator, outcome) in found.said {
        if matches!(outcome, Outcome::Rejected(_)) && is_answered(validator) {
            match found.opened.get(validator) {
                None => return Next::Check(*validator),
                Some(Some(fault)) => return Next::Sign(Some(fault.clone())),
                Some(None) => {}
            }
        }
    }
    let mut others = work.lots.iter().map(|l| l.validator).filter(|v| *v != me);
    let all_spoke = others.all(|v| found.said.contains_key(&v) || work.sound.contains(&v));
    if all_spoke || now >= times.release { Next::Sign(None) } else { Next::Wait }
}

#[cfg(test)]
mod tests {
    use watershed_protocol::data::{Split, WindowSpec};
    use watershed_protocol::market::{Assignment, Opened, Opening, Score, TermsOffered};
    use watershed_protocol::{
        AssignmentId, Digest, Msat, PaymentHash, RoundNumber, RunId, SecretKey, ShardSetId,
    };

    use super::*;

    const TIMES: JudgingTimes = JudgingTimes { ask: 20, answer: 40, release: 50, until: 60 };

    fn key(n: u8) -> PublicKey {
        SecretKey::from_entropy([n; 32]).unwrap().public()
    }

    fn id() -> AssignmentId {
        AssignmentId::from_bytes([1; 32])
    }

    /// A submission in the hands of validators 1, 2 and 3; validator 1 decides.
    struct Case {
        work: WorkView,
        signed: bool,
        public: Option<FirstLook>,
        opened: BTreeMap<PublicKey, Option<Fault>>,
        said: BTreeMap<PublicKey, Outcome>,
    }

    impl Case {
        fn new() -> Self {
            let window = WindowSpec {
                shards: ShardSetId::from_bytes([2; 32]),
                split: Split::Train,
                mixture: watershed_protocol::data::Mixture::try_from([10_000, 0, 0, 0, 0, 0, 0]).unwrap(),
                seed: 0,
                sequence_length: 8,
                first: 0,
                sequences: 8,
                max_epochs: 1,
            };
            let assignment = Assignment {
                run: RunId::from_bytes([3; 32]),
                round: RoundNumber(0),
                miner: key(9),
                checkpoint: Digest([4; 32]),
                previous: None,
                window,
                batch: 1,
                reward: Msat::new(1),
            };
            let lot = |n| TermsOffered {
                validator: key(n),
                tier: 0,
                hash: PaymentHash::from_bytes([n; 32]),
                amount: Msat::new(1),
            };
            let work = WorkView {
                id: id(),
                assignment,
                stage: "revealed".to_owned(),
                reason: String::new(),
                holders: Vec::new(),
                hashed: Vec::new(),
                lots: [1, 2, 3].map(lot).to_vec(),
                commitment: None,
                reveal: None,
                openings: Vec::new(),
                opened: Vec::new(),
                sound: Vec::new(),
                verdicts: Vec::new(),
                rulings: Vec::new(),
                record: (0, 0),
                judged: false,
                accepted: false,
                escrow_open: true,
                receipts: false,
            };
            let (opened, said) = (BTreeMap::new(), BTreeMap::new());
            Self { work, signed: false, public: None, opened, said }
        }

        fn scored(mut self) -> Self {
            let score = Score { own_before: 1, own_after: 0, unseen_before: 1, unseen_after: 0 };
            self.public = Some(FirstLook::Scored(score));
            self
        }

        fn asked(mut self, by: &[u8]) -> Self {
            let opening = Opening { assignment: id(), step: Some(0), chunks: vec![0, 1] };
            self.work.openings.extend(by.iter().map(|n| (key(*n), opening.clone())));
            self
        }

        fn asked_for(mut self, by: u8, step: Option<u32>, chunks: &[u64]) -> Self {
            let chunks = chunks.to_vec();
            self.work.openings.push((key(by), Opening { assignment: id(), step, chunks }));
            self
        }

        fn answered(mut self, to: &[u8]) -> Self {
            let digest = Digest([5; 32]);
            self.work.opened.extend(to.iter().map(|n| Opened {
                assignment: id(),
                validator: key(*n),
                step: Some(1),
                state: Some(digest),
                chunks: digest,
            }));
            self
        }

        fn checked(mut self, of: u8, fault: Option<Fault>) -> Self {
            self.opened.insert(key(of), fault);
            self
        }

        fn sound(mut self, by: &[u8]) -> Self {
            self.work.sound.extend(by.iter().map(|n| key(*n)));
            self
        }

        fn rejected(mut self, by: u8) -> Self {
            self.said.insert(key(by), Outcome::Rejected(Fault::Start));
            self
        }

        fn earned(mut self, by: u8) -> Self {
            self.said.insert(key(by), Outcome::Earned { share: 1, preimages: Vec::new() });
            self
        }

        fn next(&self, now: u64) -> Next {
            let found = Found {
                signed: self.signed,
                public: self.public.as_ref(),
                opened: &self.opened,
                said: &self.said,
            };
            next(key(1), &RunSpec::smallest([1, 2, 3].map(key)), &self.work, &found, &TIMES, now)
        }
    }

    #[test]
    fn it_asks_first_and_scores_while_it_waits() {
        assert_eq!(Case::new().next(0), Next::Ask);
        assert_eq!(Case::new().scored().next(19), Next::Ask);
        assert_eq!(Case::new().asked(&[1]).next(1), Next::Look);
        assert_eq!(Case::new().asked(&[1]).answered(&[1]).next(1), Next::Look);
        assert_eq!(Case::new().asked(&[1]).scored().next(1), Next::Wait);
        assert_eq!(Case::new().asked(&[1]).scored().answered(&[1]).next(1), Next::Check(key(1)));
    }

    #[test]
    fn whoever_asked_too_late_says_nothing_of_the_miner() {
        assert_eq!(Case::new().next(20), Next::Look);
        for now in [20, 40, 50, 59] {
            assert_eq!(Case::new().scored().next(now), Next::Over);
        }
        // A fault that everybody sees needs no question.
        let mut case = Case::new();
        case.public = Some(FirstLook::Faulty(Fault::OtherSubmission));
        assert_eq!(case.next(59), Next::Sign(Some(Fault::OtherSubmission)));
        assert_eq!(case.next(0), Next::Sign(Some(Fault::OtherSubmission)));
    }

    #[test]
    fn silence_is_a_fault_from_two_thirds_of_the_time_on_and_for_everybody() {
        let silent = || Case::new().asked(&[1]).scored();
        assert_eq!(silent().next(39), Next::Wait);
        assert_eq!(silent().next(40), Next::Sign(Some(Fault::NoAnswer)));
        // Answered itself, and another was not: that one's silence counts for all.
        let partly = || Case::new().asked(&[1, 2]).scored().answered(&[1]).checked(1, None).sound(&[1]);
        assert_eq!(partly().next(39), Next::Wait);
        assert_eq!(partly().next(40), Next::Sign(Some(Fault::NoAnswer)));
        assert_eq!(
            Case::new().asked(&[1, 2]).scored().answered(&[1]).next(40),
            Next::Sign(Some(Fault::NoAnswer))
        );
        // What is not looked at yet may have a fault that everybody sees.
        assert_eq!(Case::new().asked(&[1]).next(40), Next::Look);
    }

    #[test]
    fn nobody_is_blamed_for_what_cannot_be_answered() {
        let answered = || Case::new().asked(&[1]).scored().answered(&[1]).checked(1, None).sound(&[1, 2, 3]);
        let asks: [(Option<u32>, &[u64]); 6] = [
            (Some(0), &[0, 2]),
            (Some(0), &[0, u64::MAX]),
            (Some(0), &[1, 1]),
            (Some(0), &[0]),
            (Some(1), &[0, 1]),
            (None, &[0, 1]),
        ];
        for (step, chunks) in asks {
            let case = answered().asked_for(2, step, chunks);
            assert_eq!(case.next(40), Next::Sign(None), "{step:?} {chunks:?}");
        }
        assert_eq!(answered().asked_for(2, Some(0), &[0, 1]).next(40), Next::Sign(Some(Fault::NoAnswer)));
    }

    #[test]
    fn what_it_finds_itself_it_says_at_once() {
        let case =
            Case::new().asked(&[1]).scored().answered(&[1]).checked(1, Some(Fault::Replay { step: 1 }));
        assert_eq!(case.next(1), Next::Sign(Some(Fault::Replay { step: 1 })));
    }

    #[test]
    fn secrets_wait_for_the_others_but_not_for_ever() {
        let right = || Case::new().asked(&[1, 2, 3]).scored().answered(&[1, 2, 3]).checked(1, None);
        assert_eq!(right().next(1), Next::Sound);
        let said = || right().sound(&[1]);
        assert_eq!(said().next(1), Next::Wait);
        assert_eq!(said().sound(&[2]).next(49), Next::Wait);
        assert_eq!(said().sound(&[2, 3]).next(1), Next::Sign(None));
        assert_eq!(said().sound(&[2]).earned(3).next(1), Next::Sign(None));
        assert_eq!(said().next(49), Next::Wait);
        assert_eq!(said().next(50), Next::Sign(None));
    }

    #[test]
    fn a_rejection_of_another_is_looked_at_and_believed_only_if_it_is_found_here_too() {
        let said = || {
            let case = Case::new().asked(&[1, 2, 3]).scored().answered(&[1, 2, 3]).checked(1, None);
            case.sound(&[1, 3]).rejected(2)
        };
        assert_eq!(said().next(1), Next::Check(key(2)));
        assert_eq!(said().checked(2, Some(Fault::Start)).next(1), Next::Sign(Some(Fault::Start)));
        assert_eq!(said().checked(2, None).next(1), Next::Sign(None));
        // It was not opened anything, so there is nothing that it could have found.
        let alone =
            Case::new().asked(&[1]).scored().answered(&[1]).checked(1, None).sound(&[1, 3]).rejected(2);
        assert_eq!(alone.next(1), Next::Sign(None));
    }

    #[test]
    fn a_verdict_is_signed_once() {
        let mut case = Case::new();
        case.signed = true;
        assert_eq!(case.next(0), Next::Publish);
        assert_eq!(case.next(59), Next::Publish);
        assert_eq!(Case::new().earned(1).next(0), Next::Over);
    }
}
