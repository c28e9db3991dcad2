//! What LDK Node shows, in the words of [`crate::wallet`].

use std::collections::BTreeSet;

use ldk_node::lightning::events::ClosureReason;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning_types::payment as ldk_payment;
use ldk_node::payment::{ConfirmationStatus, PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{ChannelDetails, LightningBalance, Node, PendingSweepBalance};
use watershed_protocol::{Msat, PaymentHash, Preimage};

use crate::wallet::{ChainPayment, Channel, ClosedChannelFunds, Event, LightningPayment};

pub(super) fn payment(node: &Node, hash: PaymentHash, direction: PaymentDirection) -> Option<PaymentDetails> {
    // LDK Node names a BOLT 11 payment by its hash.
    node.payment(&PaymentId(hash.to_bytes())).filter(|p| p.direction == direction)
}

pub(super) fn preimage_of(payment: &PaymentDetails) -> Option<Preimage> {
    match &payment.kind {
        PaymentKind::Bolt11 { preimage, .. }
        | PaymentKind::Bolt11Jit { preimage, .. }
        | PaymentKind::Bolt12Offer { preimage, .. } => preimage.map(|p| Preimage::from_bytes(p.0)),
        _ => None,
    }
}

pub(super) fn lightning_payment(payment: &PaymentDetails) -> Option<LightningPayment> {
    let hash = match &payment.kind {
        PaymentKind::Onchain { .. } => return None,
        PaymentKind::Bolt11 { hash, .. }
        | PaymentKind::Bolt11Jit { hash, .. }
        | PaymentKind::Spontaneous { hash, .. } => Some(*hash),
        PaymentKind::Bolt12Offer { hash, .. } | PaymentKind::Bolt12Refund { hash, .. } => *hash,
    };
    Some(LightningPayment {
        hash: PaymentHash::from_bytes(hash?.0),
        outgoing: payment.direction == PaymentDirection::Outbound,
        amount: Msat::new(payment.amount_msat.unwrap_or(0)),
        fee: Msat::new(payment.fee_paid_msat.unwrap_or(0)),
        pending: payment.status == PaymentStatus::Pending,
        succeeded: payment.status == PaymentStatus::Succeeded,
    })
}

pub(super) fn chain_payment(payment: &PaymentDetails) -> Option<ChainPayment> {
    let PaymentKind::Onchain { txid, status } = &payment.kind else { return None };
    Some(ChainPayment {
        txid: txid.to_string(),
        outgoing: payment.direction == PaymentDirection::Outbound,
        amount: Msat::new(payment.amount_msat.unwrap_or(0)),
        fee: Msat::new(payment.fee_paid_msat.unwrap_or(0)),
        confirmed: matches!(status, ConfirmationStatus::Confirmed { .. }),
    })
}

/// What a balance has to do with a closed channel; nothing if the channel is open.
pub(super) fn closing_balance(
    balance: &LightningBalance,
    open: &BTreeSet<String>,
) -> Option<ClosedChannelFunds> {
    let (channel_id, sats, claimable_from) = match balance {
        LightningBalance::ClaimableOnChannelClose { channel_id, amount_satoshis, .. }
        | LightningBalance::ClaimableAwaitingConfirmations { channel_id, amount_satoshis, .. }
        | LightningBalance::CounterpartyRevokedOutputClaimable { channel_id, amount_satoshis, .. } => {
            (channel_id, *amount_satoshis, None)
        }
        LightningBalance::ContentiousClaimable {
            channel_id,
            amount_satoshis,
            timeout_height: height,
            ..
        }
        | LightningBalance::MaybeTimeoutClaimableHTLC {
            channel_id,
            amount_satoshis,
            claimable_height: height,
            ..
        }
        | LightningBalance::MaybePreimageClaimableHTLC {
            channel_id,
            amount_satoshis,
            expiry_height: height,
            ..
        } => (channel_id, *amount_satoshis, Some(*height)),
    };
    let closed_in_block = !matches!(balance, LightningBalance::ClaimableOnChannelClose { .. });
    let channel_id = channel_id.to_string();
    (!open.contains(&channel_id)).then_some(ClosedChannelFunds {
        channel_id: Some(channel_id),
        sats,
        sweep_txid: None,
        in_wallet: false,
        closed_in_block,
        claimable_from,
    })
}

/// The hash of a balance that is an HTLC, in a channel or on the chain.
pub(super) fn htlc(balance: &LightningBalance) -> Option<PaymentHash> {
    match balance {
        LightningBalance::MaybeTimeoutClaimableHTLC { payment_hash, .. }
        | LightningBalance::MaybePreimageClaimableHTLC { payment_hash, .. }
        | LightningBalance::ContentiousClaimable { payment_hash, .. } => {
            Some(PaymentHash::from_bytes(payment_hash.0))
        }
        _ => None,
    }
}

pub(super) fn sweep(balance: &PendingSweepBalance) -> ClosedChannelFunds {
    let (channel_id, sats, txid, in_wallet) = match balance {
        PendingSweepBalance::PendingBroadcast { channel_id, amount_satoshis } => {
            (channel_id, amount_satoshis, None, false)
        }
        PendingSweepBalance::BroadcastAwaitingConfirmation {
            channel_id,
            amount_satoshis,
            latest_spending_txid,
            ..
        } => (channel_id, amount_satoshis, Some(latest_spending_txid), false),
        PendingSweepBalance::AwaitingThresholdConfirmations {
            channel_id,
            amount_satoshis,
            latest_spending_txid,
            ..
        } => (channel_id, amount_satoshis, Some(latest_spending_txid), true),
    };
    ClosedChannelFunds {
        channel_id: channel_id.map(|id| id.to_string()),
        sats: *sats,
        sweep_txid: txid.map(ToString::to_string),
        in_wallet,
        closed_in_block: true,
        claimable_from: None,
    }
}

/// Whether a channel that we opened has anchors, from the fee of its commitment transaction: BOLT 3 gives the transaction
/// a weight of 724 without and 1124 with anchors, plus 172 for each HTLC output, so the remainder by 172 tells. The fee
/// that the node shows is what the outputs leave, and each of them is rounded down to the sat.
fn has_anchors(fee_sats: u64, feerate_per_kw: u64) -> bool {
    let off = |base: u64| {
        let left = |htlcs: u64| {
            let left = fee_sats.checked_sub((base + 172 * htlcs) * feerate_per_kw / 1000)?;
            (left <= htlcs + 1).then_some(left)
        };
        (0..=2 * 483).filter_map(left).min()
    };
    match (off(1124), off(724)) {
        (Some(with), Some(without)) => with < without,
        (with, _) => with.is_some(),
    }
}

pub(super) fn channel(details: &ChannelDetails, on_close: &[LightningBalance]) -> Channel {
    let sat = |sats: u64| Msat::from_sat(sats).unwrap_or_default();
    let closed_now = on_close.iter().find_map(|b| match b {
        LightningBalance::ClaimableOnChannelClose {
            channel_id,
            amount_satoshis,
            transaction_fee_satoshis,
            ..
        } if *channel_id == details.channel_id => Some((*amount_satoshis, *transaction_fee_satoshis)),
        _ => None,
    });
    let anchors = details.is_outbound
        && closed_now
            .is_some_and(|(_, fee)| has_anchors(fee, u64::from(details.feerate_sat_per_1000_weight)));
    Channel {
        name: details.user_channel_id.0.to_string(),
        channel_id: details.channel_id.to_string(),
        peer: details.counterparty_node_id,
        sats: details.channel_value_sats,
        funding_txid: details.funding_txo.map(|o| o.txid.to_string()),
        opened_by_us: details.is_outbound,
        ready: details.is_channel_ready,
        usable: details.is_usable,
        spendable: Msat::new(details.outbound_capacity_msat),
        next_htlc: Msat::new(details.next_outbound_htlc_limit_msat),
        receivable: Msat::new(details.inbound_capacity_msat),
        peer_takes: details.counterparty_outbound_htlc_maximum_msat.map(Msat::new),
        reserve: sat(details.unspendable_punishment_reserve.unwrap_or(0)),
        feerate_per_kw: details.feerate_sat_per_1000_weight,
        peer_reserve: sat(details.counterparty_unspendable_punishment_reserve),
        ours_on_close: closed_now.map(|(ours, fee)| sat(ours + fee)),
        anchors,
    }
}

pub(super) fn event(found: ldk_node::Event) -> Event {
    use ldk_node::Event as Ldk;
    let hash = |h: ldk_payment::PaymentHash| PaymentHash::from_bytes(h.0);
    match found {
        Ldk::PaymentClaimable { payment_hash, claimable_amount_msat, claim_deadline, .. } => {
            Event::Claimable {
                hash: hash(payment_hash),
                amount: Msat::new(claimable_amount_msat),
                deadline: claim_deadline,
            }
        }
        Ldk::PaymentReceived { payment_hash, amount_msat, .. } => {
            Event::Received { hash: hash(payment_hash), amount: Msat::new(amount_msat) }
        }
        Ldk::PaymentSuccessful { payment_hash, payment_preimage: Some(preimage), fee_paid_msat, .. } => {
            Event::Sent {
                hash: hash(payment_hash),
                preimage: Preimage::from_bytes(preimage.0),
                fee: Msat::new(fee_paid_msat.unwrap_or(0)),
            }
        }
        Ldk::PaymentFailed { payment_hash: Some(payment_hash), reason, .. } => Event::Failed {
            hash: hash(payment_hash),
            reason: reason.map_or_else(|| "unknown".to_owned(), |r| format!("{r:?}")),
        },
        Ldk::ChannelPending { user_channel_id, counterparty_node_id, funding_txo, .. } => {
            Event::ChannelPending {
                channel: user_channel_id.0.to_string(),
                peer: counterparty_node_id,
                funding_txid: funding_txo.txid.to_string(),
            }
        }
        Ldk::ChannelReady { user_channel_id, counterparty_node_id, .. } => {
            Event::ChannelReady { channel: user_channel_id.0.to_string(), peer: counterparty_node_id }
        }
        Ldk::ChannelClosed { user_channel_id, counterparty_node_id, reason, .. } => Event::ChannelClosed {
            channel: user_channel_id.0.to_string(),
            peer: counterparty_node_id,
            cooperative: reason.as_ref().is_some_and(|r| {
                matches!(
                    r,
                    ClosureReason::LegacyCooperativeClosure
                        | ClosureReason::CounterpartyInitiatedCooperativeClosure
                        | ClosureReason::LocallyInitiatedCooperativeClosure
                )
            }),
            reason: reason.map_or_else(|| "unknown".to_owned(), |r| r.to_string()),
        },
        other => Event::Other(format!("{other:?}").chars().take(200).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_told_from_the_fee() {
        for rate in [253, 1000, 5000, 25_000] {
            for htlcs in [0, 1, 6, 50] {
                // as many outputs as lose a part of a sat
                for lost in [0, 1, htlcs.min(5) + 1] {
                    assert!(
                        has_anchors((1124 + 172 * htlcs) * rate / 1000 + lost, rate),
                        "{rate} {htlcs} {lost}"
                    );
                    assert!(
                        !has_anchors((724 + 172 * htlcs) * rate / 1000 + lost, rate),
                        "{rate} {htlcs} {lost}"
                    );
                }
            }
        }
    }
}
