//! Money beside the escrows: joining fees, and what sponsors got back.

use watershed_protocol::{Msat, PaymentHash, PublicKey};

use super::follow::{sum, total};
use super::{RecordFault, RunTold};

impl RunTold {
    pub(super) fn joined(
        &mut self,
        miner: PublicKey,
        payment: PaymentHash,
        amount: Msat,
    ) -> Result<(), RecordFault> {
        if self.ended.is_some() || self.spec.funding.joining_fee == Msat::ZERO {
            return Err(RecordFault::Order("a joining fee"));
        }
        sum("a joining fee", amount, self.spec.funding.joining_fee)?;
        if !self.payments.insert(payment) || self.joined.insert(miner, amount).is_some() {
            return Err(RecordFault::Twice(format!("the joining fee of {miner}")));
        }
        Ok(())
    }

    /// Whether a miner may be given tasks: where joining costs something, whoever did not pay may not.
    pub(super) fn may_work(&self, miner: PublicKey) -> Result<(), RecordFault> {
        if self.spec.funding.joining_fee == Msat::ZERO || self.joined.contains_key(&miner) {
            return Ok(());
        }
        Err(RecordFault::Assignment("its miner did not pay the joining fee".to_owned()))
    }

    /// What the run had: pledges, and joining fees.
    pub(super) fn taken(&self) -> Msat {
        total(self.pledges.values().chain(self.joined.values()).copied())
    }

    /// A pledge's part of what was left; below what it comes to by a msat at most.
    fn part(&self, pledge: PaymentHash) -> Option<Msat> {
        let amount = u128::from(self.pledges.get(&pledge)?.msat());
        let pledged = u128::from(total(self.pledges.values().copied()).msat()).max(1);
        // Of the parts, each of which loses a fraction, only the sum is told.
        let left = u128::from(self.left.msat()) + self.pledges.len() as u128;
        Some(Msat::new(u64::try_from(left * amount / pledged).unwrap_or(u64::MAX)))
    }

    pub(super) fn refunded(
        &mut self,
        pledge: PaymentHash,
        payment: PaymentHash,
        amount: Msat,
    ) -> Result<(), RecordFault> {
        let (true, Some(part)) = (self.ended.is_some(), self.part(pledge)) else {
            return Err(RecordFault::Order("a refund"));
        };
        if !self.payments.insert(payment) || self.refunds.insert(payment, (pledge, amount)).is_some() {
            return Err(RecordFault::Twice(format!("the refund {payment}")));
        }
        let of_pledge = self.refunds.values().filter(|(of, _)| *of == pledge).map(|(_, amount)| *amount);
        let paid = total(of_pledge);
        if paid > part {
            return Err(RecordFault::Sum { what: "refunded of a pledge", found: paid, wanted: part });
        }
        let all = total(self.refunds.values().map(|(_, amount)| *amount));
        if all > self.left {
            return Err(RecordFault::Sum { what: "refunded", found: all, wanted: self.left });
        }
        Ok(())
    }
}
