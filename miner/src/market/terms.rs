//! Whether an offer is what it should be. Pure; a miner locks its node's liquidity on the strength of it.

use watershed_payments::escrow::{LotTerms, Terms};
use watershed_protocol::market::view::WorkView;
use watershed_protocol::market::{RunSpec, Standing};
use watershed_protocol::{Msat, PublicKey};

/// The escrow that a task offers to a miner of which so many submissions were accepted since the last rejected one. What is owed
/// from before may come later: the record shows whether it does.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn terms(spec: &RunSpec, me: PublicKey, work: &WorkView, good: u32) -> Result<Terms, String> {
    let a = &work.assignment;
    if a.id().ok() != Some(work.id) {
        return Err("the assignment's name is not that of its content".to_owned());
    }
    if a.miner != me || spec.id().ok() != Some(a.run) {
        return Err("the assignment is for another miner or run".to_owned());
    }
    let sequences = u64::from(a.batch) * u64::from(spec.inner.steps);
    let fits = a.batch >= spec.inner.batch && u64::from(a.window.sequences) == sequences;
    if !fits || a.window.shards != spec.data.shards || a.window.sequence_length != spec.data.sequence_length {
        return Err("the assignment's text is not what the run's specification says".to_owned());
    }
    let standing = Standing { good, owed: Msat::ZERO };
    let rewards = standing.rewards(&spec.reward, a.batch / spec.inner.batch.max(1), Msat::ZERO);
    let least = rewards.map(|(least, _)| least);
    if least.is_none_or(|least| a.reward < least) {
        return Err(format!("{} are offered, which is less than the specification says", a.reward));
    }
    let mut sum = Msat::ZERO;
    for lot in &work.lots {
        if !spec.committee.iter().any(|m| m.key == lot.validator) {
            return Err(format!("{} holds a secret and is no validator of this run", lot.validator));
        }
        sum = sum.checked_add(lot.amount).ok_or("the lots sum to more than there is")?;
    }
    if sum != a.reward {
        return Err(format!("the lots sum to {sum} instead of {}", a.reward));
    }
    let lots = work.lots.iter().map(|l| LotTerms { hash: l.hash, amount: l.amount }).collect();
    let terms = Terms { subject: work.id.subject(), window: spec.reward.window, lots };
    terms.check().map_err(|e| e.to_string())?;
    Ok(terms)
}
