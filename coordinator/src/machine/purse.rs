//! Money beside the escrows: joining fees, and what sponsors got back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watershed_protocol::market::Entry;
use watershed_protocol::{Msat, PaymentHash, PublicKey};

use super::{Effect, Phase, Refusal, Run};

/// Joining fees and refunds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Miners that paid to join, with the payment.
    pub joined: BTreeMap<PublicKey, PaymentHash>,
    /// Payments to sponsors: which pledge, and how much.
    pub refunded: BTreeMap<PaymentHash, (PaymentHash, Msat)>,
}

impl Run {
    /// Whether a miner may join: there is no fee, or it paid it.
    pub fn may_join(&self, miner: &PublicKey) -> bool {
        self.spec.funding.joining_fee == Msat::ZERO || self.purse.joined.contains_key(miner)
    }

    pub(super) fn fee_paid(
        &mut self,
        miner: PublicKey,
        payment: PaymentHash,
    ) -> Result<Vec<Effect>, Refusal> {
        if self.may_join(&miner) {
            return Err(Refusal::Known);
        }
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended { .. }) {
            return Err(Refusal::Phase { phase: "over", what: "joining" });
        }
        self.purse.joined.insert(miner, payment);
        let amount = self.spec.funding.joining_fee;
        let entry = Entry::Joined { run: self.id, miner, payment, amount };
        Ok(vec![Effect::Record(Box::new(entry)), Effect::JoiningFee { miner }])
    }

    pub(super) fn refunded(
        &mut self,
        pledge: PaymentHash,
        payment: PaymentHash,
        amount: Msat,
    ) -> Result<Vec<Effect>, Refusal> {
        if !matches!(self.phase, Phase::Ended { .. }) {
            return Err(Refusal::Phase { phase: "not over", what: "a refund" });
        }
        if self.purse.refunded.insert(payment, (pledge, amount)).is_some() {
            return Err(Refusal::Known);
        }
        let entry = Entry::Refunded { run: self.id, pledge, payment, amount };
        Ok(vec![Effect::Record(Box::new(entry))])
    }
}
