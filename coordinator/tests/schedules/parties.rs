//! Miners and validators. Each looks at the run now and then and says what it would say; what is lost is said again at the
//! next look.

use watershed_coordinator::machine::{Run, Stage, Work, WorkStage};
use watershed_payments::escrow::earned;
use watershed_protocol::market::{
    Commitment, Fault, Join, JudgingTimes, Message, Opened, Opening, Outcome, Reveal, Score, StepClaim,
    TrajectoryHash, Verdict,
};
use watershed_protocol::{AssignmentId, Digest, Msat, PaymentHash, Preimage, PublicKey, RunId, SubmissionId};

use crate::Kind;
use crate::book::LotState;
use crate::rng::Rng;
use crate::setup::cast;
use crate::truth::{FAULT, is_right, is_unanswered, score};
use crate::world::{Item, World};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// Says nothing any more after so many looks.
    Silent(u64),
    Late,
    Declining,
    /// Declines whatever it is given, as soon as it holds the reward.
    TakingBack,
    /// One of many keys of somebody who asks for nothing and does nothing.
    Crowd,
    /// Joins again and again, each time with another price.
    Fickle,
    NeverAccepting,
    /// Comes and goes, with another node or without its state.
    Restless,
    /// Sends rubbish beside what it should.
    Rubbish,
    /// A validator whose verdicts and hashes are wrong at times.
    Lying,
    /// A miner that does not do the work, or answers only some.
    Cheating,
}

#[derive(Clone, Debug)]
pub(crate) struct Party {
    key: PublicKey,
    miner: Option<usize>,
    manner: Manner,
    looks: u64,
}

impl Party {
    /// Whether it is a validator that says what is not so.
    pub(crate) fn is_liar(&self) -> Option<PublicKey> {
        (self.miner.is_none() && self.manner == Manner::Lying).then_some(self.key)
    }
}

impl Party {
    pub(crate) fn all(rng: &mut Rng, kind: Kind, validators: usize) -> Vec<Self> {
        let manner = |rng: &mut Rng, bad: &[Manner], percent| match kind {
            Kind::Honest => Manner::Honest,
            _ if rng.chance(percent) => rng.pick(bad).unwrap_or(Manner::Honest),
            _ => Manner::Honest,
        };
        let silent = Manner::Silent(rng.between(1, 60));
        let (bad_miner, bad_validator, percent): (&[Manner], &[Manner], u64) = match kind {
            Kind::Hostile => (
                &[Manner::Rubbish, Manner::Restless, Manner::Cheating, Manner::TakingBack, Manner::Fickle],
                &[Manner::Lying, Manner::Rubbish, silent],
                75,
            ),
            Kind::Silent => (&[silent, Manner::Late], &[silent, Manner::Late], 60),
            _ => (
                &[
                    silent,
                    Manner::Late,
                    Manner::Declining,
                    Manner::TakingBack,
                    Manner::Fickle,
                    Manner::NeverAccepting,
                    Manner::Restless,
                    Manner::Rubbish,
                    Manner::Cheating,
                ],
                &[silent, Manner::Late, Manner::Rubbish, Manner::Lying],
                40,
            ),
        };
        let count = usize::try_from(rng.between(1, 5)).unwrap();
        let mut all = Vec::new();
        for (index, key) in cast().miners.iter().take(count).enumerate() {
            let manner = manner(rng, bad_miner, percent);
            all.push(Self { key: *key, miner: Some(index), manner, looks: 0 });
        }
        if kind != Kind::Honest && rng.chance(20) {
            let crowd = cast().miners.iter().enumerate().skip(5);
            all.extend(crowd.map(|(n, key)| Self {
                key: *key,
                miner: Some(n),
                manner: Manner::Crowd,
                looks: 0,
            }));
        }
        for key in cast().validators.iter().take(validators) {
            let manner = manner(rng, bad_validator, percent / 2);
            all.push(Self { key: *key, miner: None, manner, looks: 0 });
        }
        all
    }
}

pub(crate) fn commitment(assignment: AssignmentId, salt: u8) -> Commitment {
    let mut bytes = assignment.to_bytes();
    bytes[0] ^= salt;
    let shown = reveal(assignment);
    Commitment {
        assignment,
        submission: SubmissionId::from_bytes(bytes),
        trajectory: TrajectoryHash::of(shown.start, &shown.steps),
        error_feedback: Digest([2; 32]),
        moments: Digest([3; 32]),
        updates: 2,
    }
}

/// The submission of everybody.
pub(crate) const SHOWN: Digest = Digest([6; 32]);

pub(crate) fn reveal(assignment: AssignmentId) -> Reveal {
    let step = StepClaim { state: Digest([4; 32]), loss: 5 };
    Reveal { assignment, blob: SHOWN, start: Digest([7; 32]), steps: vec![step; 2] }
}

fn preimage(validator: PublicKey, assignment: AssignmentId, tier: u32) -> Preimage {
    let mut bytes = assignment.to_bytes();
    for (byte, key) in bytes.iter_mut().zip(validator.to_bytes()) {
        *byte ^= key;
    }
    bytes[0] ^= u8::try_from(tier).unwrap();
    Preimage::from_bytes(bytes)
}

impl World {
    pub(crate) fn wake(&mut self, index: usize) {
        let Some(party) = self.parties.get_mut(index) else { return };
        party.looks += 1;
        let party = party.clone();
        self.soon(Item::Wake(index), 10, 120);
        if matches!(party.manner, Manner::Silent(looks) if party.looks > looks) {
            return;
        }
        let mut messages = match party.miner {
            Some(at) => {
                self.heard.insert(party.key, self.now);
                self.collect(&party);
                self.as_miner(&party, at)
            }
            None => self.as_validator(&party),
        };
        if party.manner == Manner::Late {
            messages.retain(|m| matches!(m, Message::Join(_)) || self.rng.chance(8));
        }
        for message in messages {
            self.send(party.key, message);
        }
        if party.manner == Manner::Rubbish {
            for _ in 0..self.rng.below(3) {
                let (signer, message) = self.rubbish(party.key);
                self.send(signer, message);
            }
        }
    }

    /// Claims what a published secret releases; lets go of what can no longer be earned.
    fn collect(&mut self, party: &Party) {
        self.book.pass(self.now);
        for (id, escrow) in self.book.escrows.iter_mut().filter(|(_, e)| e.miner == party.key) {
            let over = self.run.works.get(id).is_none_or(|w| w.judged);
            for lot in &mut escrow.lots {
                if !matches!(lot.state, LotState::InFlight { .. }) {
                    continue;
                }
                if self.checks.published.contains(&lot.hash) {
                    assert!(
                        self.checks.earned.contains(&(*id, lot.hash)),
                        "the secret of a lot of {id} was given out for something else"
                    );
                    lot.state = LotState::Settled;
                } else if over && self.rng.chance(40) {
                    lot.state = LotState::Back;
                }
            }
        }
    }

    fn as_miner(&mut self, party: &Party, at: usize) -> Vec<Message> {
        let run = self.run.id;
        let mut messages = Vec::new();
        let known = self.run.miners.get(&party.key);
        // Whoever wants to keep others out asks for nothing.
        let price = if matches!(party.manner, Manner::Declining | Manner::TakingBack | Manner::Crowd) {
            0
        } else {
            10
        };
        let restless = party.manner == Manner::Restless && self.rng.chance(10);
        if restless && self.rng.chance(50) {
            messages.push(Message::Leave { run });
        } else if restless || known.is_none_or(|m| !m.active || m.channel != Some(Ok(()))) {
            let other = usize::from(party.manner == Manner::Restless && self.rng.chance(50));
            let lost_state = restless && self.rng.chance(30);
            messages.push(self.join(run, &cast().nodes[at][other], lost_state, price));
        }
        if party.manner == Manner::Fickle {
            for _ in 0..3 {
                let price = self.rng.below(3);
                messages.push(self.join(run, &cast().nodes[at][0], false, price));
            }
        }
        let stage = self.run.round.as_ref().map(|r| r.stage);
        for (id, work) in self.run.works.iter().filter(|(_, w)| w.assignment.miner == party.key) {
            let cheats = party.manner == Manner::Cheating && id.to_bytes()[0] < 170;
            match (&work.stage, stage) {
                (WorkStage::Offered, _) if matches!(party.manner, Manner::NeverAccepting | Manner::Crowd) => {
                }
                (WorkStage::Locked, _) if party.manner == Manner::TakingBack => {
                    messages.push(Message::Decline { assignment: *id, reason: "no".to_owned() });
                }
                (WorkStage::Dropped { .. }, _) => {}
                _ if party.manner == Manner::Declining && self.rng.chance(70) => {}
                _ if party.manner == Manner::Declining => {
                    messages.push(Message::Decline { assignment: *id, reason: "no".to_owned() });
                }
                (WorkStage::Offered, _) => {
                    let invoices = vec!["lnbcrt1".to_owned(); work.lots.len()];
                    messages.push(Message::Accept { assignment: *id, invoices });
                }
                (WorkStage::Paid, _) => {
                    let reports = work.lots.iter().map(|l| (l.hash, 800_000)).collect();
                    messages.push(Message::Locked { assignment: *id, reports });
                }
                (WorkStage::Locked, Some(Stage::Locking | Stage::Training)) => {
                    messages.push(Message::Commit(commitment(*id, u8::from(cheats))));
                }
                (WorkStage::Committed, Some(Stage::Revealing)) => {
                    messages.push(Message::Reveal(reveal(*id)));
                }
                (WorkStage::Revealed, Some(Stage::Judging)) => {
                    // Some answer only those whose questions they like.
                    let likes = |v: &PublicKey| !cheats || v.to_bytes()[31] < 128;
                    let asked = work.openings.values().zip(work.openings.keys()).filter(|(_, v)| likes(v));
                    messages.extend(asked.filter(|(_, v)| !work.opened.contains_key(v)).map(|(o, v)| {
                        let trick = party.manner == Manner::Rubbish && self.rng.chance(50);
                        let state = if trick { SHOWN } else { Digest([8; 32]) };
                        let chunks = Digest([9; 32]);
                        Message::Opened(Opened {
                            assignment: *id,
                            validator: *v,
                            step: o.step,
                            state: o.step.map(|_| state),
                            chunks,
                        })
                    }));
                }
                _ => {}
            }
            if work.ended.is_some_and(|(paid, _)| paid > Msat::ZERO) && !work.receipts {
                let receipts = vec![cast().envelope.clone()];
                messages.push(Message::Receipts { assignment: *id, receipts });
            }
        }
        messages
    }

    fn join(&mut self, run: RunId, node: &str, lost_state: bool, price: u64) -> Message {
        let slow = self.kind != Kind::Honest && self.rng.chance(3);
        let dear = self.kind != Kind::Honest && self.rng.chance(3);
        Message::Join(Join {
            run,
            node: node.to_owned(),
            tokens_per_second: if slow { 0 } else { 10 },
            min_per_million_tokens: Msat::new(if dear { u64::MAX } else { price }),
            lost_state,
        })
    }

    fn as_validator(&mut self, party: &Party) -> Vec<Message> {
        let judging = self.run.round.as_ref().is_some_and(|r| r.stage == Stage::Judging);
        let mut messages = Vec::new();
        let lying = party.manner == Manner::Lying;
        for (id, work) in self.run.current() {
            let asked = work.holders.contains(&party.key) || lying;
            if work.stage == WorkStage::Hashing && asked && !work.hashes.contains_key(&party.key) {
                let tiers = self.run.spec.reward.tiers;
                let mut hashes: Vec<PaymentHash> =
                    (0..tiers).map(|t| preimage(party.key, *id, t).hash()).collect();
                if lying && self.rng.chance(30) {
                    // Somebody else's, or one of its own that serves for another task too.
                    let known: Vec<PaymentHash> =
                        self.run.works.values().flat_map(|w| w.hashes.values().flatten()).copied().collect();
                    hashes[0] = self.rng.pick(&known).unwrap_or(hashes[0]);
                }
                messages.push(Message::Hashes { assignment: *id, hashes });
            }
            if !judging || work.stage != WorkStage::Revealed || work.verdicts.contains_key(&party.key) {
                continue;
            }
            if !work.openings.contains_key(&party.key) && self.rng.chance(70) {
                let trusted = self.run.miners.get(&work.assignment.miner).map(|m| m.record);
                let trusted = trusted.is_some_and(|r| self.run.spec.checks.trusts(r));
                let step = (!trusted || self.rng.chance(50)).then(|| self.rng.small(0, 1));
                messages.push(Message::Open(Opening { assignment: *id, step, chunks: vec![0, 1] }));
            }
            if lying || work.opened.contains_key(&party.key) || is_unanswered(work) {
                messages.extend(verdict(&mut self.rng, &self.run, *id, work, party.key, (lying, self.now)));
            }
        }
        messages
    }
}

fn verdict(
    rng: &mut Rng,
    run: &Run,
    assignment: AssignmentId,
    work: &Work,
    key: PublicKey,
    (lying, now): (bool, u64),
) -> Option<Message> {
    let (tiers, times) =
        (run.spec.reward.tiers, JudgingTimes::of(&run.spec.rounds, run.round.as_ref()?.until));
    let wrong = lying && rng.chance(50);
    let share = rng.small(0, (1 << tiers) - 1);
    let paid = earned(tiers, if wrong { 0 } else { share }).ok()?;
    let preimages = (0..).zip(paid).filter(|(_, paid)| *paid).map(|(t, _)| preimage(key, assignment, t));
    let outcome = if lying && rng.chance(40) {
        rng.pick(&[
            Outcome::Rejected(Fault::NoAnswer),
            Outcome::Rejected(Fault::Start),
            Outcome::Rejected(FAULT),
        ])?
    } else if is_unanswered(work) && !lying {
        if now < times.answer {
            return None;
        }
        Outcome::Rejected(Fault::NoAnswer)
    } else if !is_right(assignment, work) && !lying {
        Outcome::Rejected(FAULT)
    } else {
        Outcome::Earned { share, preimages: preimages.collect() }
    };
    let half = 1.5f32.to_bits();
    let scores = [score(), Score { own_after: half, ..score() }, Score { own_before: 0, ..score() }];
    let asked = work.openings.get(&key);
    Some(Message::Verdict(Verdict {
        assignment,
        submission: work.commitment.as_ref()?.submission,
        randomness: if wrong && rng.chance(50) { Digest([0; 32]) } else { run.randomness()? },
        step: asked.and_then(|a| a.step),
        chunks: asked.map(|a| a.chunks.clone()).unwrap_or_default(),
        score: if lying { rng.pick(&scores) } else { Some(score()) },
        outcome,
    }))
}
