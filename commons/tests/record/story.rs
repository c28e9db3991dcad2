//! The record of a whole run, and ways to tell it differently.

use std::sync::LazyLock;

use watershed_commons::record::{RecordFault, Runs};
use watershed_protocol::market::{
    Commitment, Entry, Fault, FinalState, Message, Opened, Opening, Outcome, Reveal, Score, StepClaim,
    Stepped, TrajectoryHash, Verdict,
};
use watershed_protocol::{
    AssignmentId, Envelope, Msat, PaymentHash, Receipt, RoundNumber, SecretKey, encode,
};

use crate::cast::{
    FEE, LEFT, PAID, PLEDGED, PLEDGES, REWARD, ROUNDS, SHARES, STEPS, TIERS, checkpoint, coordinator, digest,
    lots, miner, node, opened, run, secret, spec, task, validator,
};

/// What an entry is: rounds, miners and validators by number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tag {
    Run,
    Pledge(usize),
    Text,
    Checkpoint(u32),
    Assigned(u32, usize),
    Commit(u32, usize),
    Reveal(u32, usize),
    Open(u32, usize, usize),
    Opened(u32, usize, usize),
    Round(u32),
    Verdict(u32, usize, usize),
    Settled(u32, usize),
    Receipts(u32, usize),
    Ended,
    Extra,
}

#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) told: Vec<(Tag, Entry)>,
}

fn trajectory(round: u32, miner: usize) -> (watershed_protocol::Digest, Vec<StepClaim>) {
    let state = |step: u32| digest(&format!("state {round} {miner} {step}"));
    (state(0), (1..=STEPS).map(|s| StepClaim { state: state(s), loss: s }).collect())
}

pub(crate) fn signed(message: &Message, key: &SecretKey) -> Entry {
    Entry::Message { envelope: Envelope::sign(message, key).unwrap() }
}

pub(crate) fn pledge(n: usize) -> PaymentHash {
    PaymentHash::from_bytes(digest(&format!("pledge {n}")).0)
}

impl Story {
    /// Two rounds of two miners and two validators. In the second round one miner's work is wrong.
    pub(crate) fn honest() -> Self {
        static HONEST: LazyLock<Story> = LazyLock::new(Story::tell);
        HONEST.clone()
    }

    fn tell() -> Self {
        let mut story = Self { told: vec![(Tag::Run, opened(&spec(), &coordinator()))] };
        for (n, amount) in PLEDGES.into_iter().enumerate() {
            let entry = Entry::Pledge { run: run(), hash: pledge(n), amount: Msat::new(amount) };
            story.told.push((Tag::Pledge(n), entry));
        }
        story.told.push((Tag::Text, crate::cast::text(run())));
        story.stepped(0, Vec::new());
        for round in 0..ROUNDS {
            story.round(round);
        }
        story.told.push((
            Tag::Ended,
            Entry::Ended {
                run: run(),
                how: FinalState::Finished,
                pledged: Msat::new(PLEDGED),
                paid: Msat::new(PAID),
                fees: Msat::new(8 * FEE),
                left: Msat::new(LEFT),
            },
        ));
        story
    }

    fn stepped(&mut self, round: u32, accepted: Vec<AssignmentId>) {
        let stepped = Stepped {
            run: run(),
            round: RoundNumber(round),
            checkpoint: checkpoint(round),
            blob: digest("a file"),
            velocity: None,
            accepted,
            loss: 3.0f32.to_bits(),
        };
        self.told.push((Tag::Checkpoint(round), Entry::Checkpoint(stepped)));
    }

    fn round(&mut self, round: u32) {
        for m in 0..2 {
            let first = u64::from((round * 2 + m as u32) * STEPS * 2);
            let mut assignment = task(round, miner(m).public(), first);
            assignment.previous = round.checked_sub(1).map(|before| self.id(before, m));
            let entry = Entry::Assigned { assignment, lots: lots(round, m), node: node(m).public() };
            self.told.push((Tag::Assigned(round, m), entry));
        }
        for m in 0..2 {
            let commitment = self.commitment(round, m);
            self.told.push((Tag::Commit(round, m), signed(&Message::Commit(commitment), &miner(m))));
        }
        for m in 0..2 {
            let (start, steps) = trajectory(round, m);
            let reveal = Reveal { assignment: self.id(round, m), blob: digest("an upload"), start, steps };
            self.told.push((Tag::Reveal(round, m), signed(&Message::Reveal(reveal), &miner(m))));
        }
        self.told.push((Tag::Round(round), self.closed(round, &[0, 1])));
        let each = [(0, 0), (0, 1), (1, 0), (1, 1)];
        for (m, v) in each {
            let opening = Opening { assignment: self.id(round, m), step: Some(1), chunks: vec![0, 1] };
            self.told.push((Tag::Open(round, m, v), signed(&Message::Open(opening), &validator(v))));
        }
        for (m, v) in each {
            let opened = Opened {
                assignment: self.id(round, m),
                validator: validator(v).public(),
                step: Some(1),
                state: Some(digest("a state")),
                chunks: digest("chunks"),
            };
            self.told.push((Tag::Opened(round, m, v), signed(&Message::Opened(opened), &miner(m))));
        }
        for m in 0..2 {
            for v in 0..2 {
                let verdict = self.verdict(round, m, v);
                self.told
                    .push((Tag::Verdict(round, m, v), signed(&Message::Verdict(verdict), &validator(v))));
            }
        }
        let right = (0..2).filter(|m| SHARES[round as usize][*m] > 0);
        let mut accepted: Vec<AssignmentId> = right.map(|m| self.id(round, m)).collect();
        accepted.sort_unstable();
        self.stepped(round + 1, accepted);
        for (m, share) in SHARES[round as usize].into_iter().enumerate() {
            let paid = u64::from(share) * 2_000;
            let (settled, back) = (Msat::new(paid), Msat::new(REWARD - paid));
            let assignment = self.id(round, m);
            self.told.push((Tag::Settled(round, m), Entry::Settled { assignment, settled, back }));
            if paid > 0 {
                let receipts = self.receipts(round, m, |_| ());
                self.told.push((Tag::Receipts(round, m), receipts));
            }
        }
    }

    /// The end of submissions, when these miners had shown something.
    pub(crate) fn closed(&self, round: u32, miners: &[usize]) -> Entry {
        let mut shown: Vec<AssignmentId> = miners.iter().map(|m| self.id(round, *m)).collect();
        shown.sort_unstable();
        let mut submissions: Vec<_> = miners.iter().map(|m| self.commitment(round, *m).submission).collect();
        let round = RoundNumber(round);
        let randomness = Verdict::randomness(run(), round, &mut submissions);
        Entry::Round { run: run(), round, shown, randomness }
    }

    fn commitment(&self, round: u32, m: usize) -> Commitment {
        let (start, steps) = trajectory(round, m);
        Commitment {
            assignment: self.id(round, m),
            submission: Commitment::submission_of(miner(m).public(), &[round as u8]),
            trajectory: TrajectoryHash::of(start, &steps),
            error_feedback: digest("error feedback"),
            moments: digest("moments"),
            updates: STEPS * (round + 1),
        }
    }

    fn verdict(&self, round: u32, m: usize, v: usize) -> Verdict {
        let mut shown = [0, 1].map(|m| self.commitment(round, m).submission);
        let share = SHARES[round as usize][m];
        let earned = (0..TIERS).filter(|tier| share >> tier & 1 == 1);
        let outcome = match share {
            0 => Outcome::Rejected(Fault::Replay { step: 1 }),
            _ => Outcome::Earned { share, preimages: earned.map(|t| secret(round, m, v, t)).collect() },
        };
        Verdict {
            assignment: self.id(round, m),
            submission: self.commitment(round, m).submission,
            randomness: Verdict::randomness(run(), RoundNumber(round), &mut shown),
            step: Some(1),
            chunks: vec![0, 1],
            score: Some(Score { own_before: 4, own_after: 3, unseen_before: 4, unseen_after: 3 }),
            outcome,
        }
    }

    /// Receipts for what a miner earned, each altered by `change`.
    pub(crate) fn receipts(&self, round: u32, m: usize, change: impl Fn(&mut Receipt)) -> Entry {
        self.receipts_by(round, m, &node(m), change)
    }

    pub(crate) fn receipts_by(
        &self,
        round: u32,
        m: usize,
        signer: &SecretKey,
        change: impl Fn(&mut Receipt),
    ) -> Entry {
        let (assignment, share) = (self.id(round, m), SHARES[round as usize][m]);
        let paid = lots(round, m).into_iter().filter(|lot| share >> lot.tier & 1 == 1);
        let receipt = |lot: watershed_protocol::market::TermsOffered| {
            let (payment_hash, amount, subject) = (lot.hash, lot.amount, assignment.subject());
            let mut receipt = Receipt { payment_hash, amount, subject };
            change(&mut receipt);
            Envelope::sign(&receipt, signer).unwrap()
        };
        let receipts = paid.map(receipt).collect();
        signed(&Message::Receipts { assignment, receipts }, &miner(m))
    }

    /// The name of a miner's task in a round.
    pub(crate) fn id(&self, round: u32, m: usize) -> AssignmentId {
        match self.entry(Tag::Assigned(round, m)) {
            Entry::Assigned { assignment, .. } => assignment.id().unwrap(),
            other => unreachable!("{other:?}"),
        }
    }

    pub(crate) fn at(&self, tag: Tag) -> usize {
        self.told.iter().position(|(t, _)| *t == tag).unwrap()
    }

    pub(crate) fn entry(&self, tag: Tag) -> &Entry {
        &self.told[self.at(tag)].1
    }

    pub(crate) fn remove(&mut self, tag: Tag) -> (Tag, Entry) {
        self.told.remove(self.at(tag))
    }

    /// Tells an entry directly before another.
    pub(crate) fn move_before(&mut self, tag: Tag, before: Tag) {
        let moved = self.remove(tag);
        self.told.insert(self.at(before), moved);
    }

    /// Tells an entry directly behind another.
    pub(crate) fn move_behind(&mut self, tag: Tag, behind: Tag) {
        let moved = self.remove(tag);
        self.told.insert(self.at(behind) + 1, moved);
    }

    /// Tells one more entry directly behind another.
    pub(crate) fn insert_behind(&mut self, behind: Tag, entry: Entry) {
        self.told.insert(self.at(behind) + 1, (Tag::Extra, entry));
    }

    /// Tells one more entry directly before another.
    pub(crate) fn insert_before(&mut self, before: Tag, entry: Entry) {
        self.told.insert(self.at(before), (Tag::Extra, entry));
    }

    /// Alters an entry.
    pub(crate) fn change(&mut self, tag: Tag, change: impl FnOnce(&mut Entry)) {
        let at = self.at(tag);
        change(&mut self.told[at].1);
    }

    /// Alters a message and signs it with `key`.
    pub(crate) fn resign(&mut self, tag: Tag, key: &SecretKey, change: impl FnOnce(&mut Message)) {
        self.change(tag, |entry| {
            let Entry::Message { envelope } = entry else { unreachable!("{entry:?}") };
            let mut message = envelope.open::<Message>().unwrap().into_value();
            change(&mut message);
            *entry = signed(&message, key);
        });
    }

    /// Follows all entries, up to the first fault.
    pub(crate) fn follow(&self) -> Result<Runs, (Tag, RecordFault)> {
        let mut runs = Runs::default();
        for (tag, entry) in &self.told {
            runs.follow(&encode(entry).unwrap()).map_err(|fault| (*tag, fault))?;
        }
        Ok(runs)
    }

    /// The entry that is wrong, and why.
    #[track_caller]
    pub(crate) fn fault(&self) -> (Tag, RecordFault) {
        match self.follow() {
            Err(found) => found,
            Ok(_) => unreachable!("nothing is found wrong"),
        }
    }
}
