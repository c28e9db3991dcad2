//! BOLT 12 by LDK Node.
//!
//! LDK Node chooses the name of such a payment itself and tells it after the payment is on its way. So that a payment is
//! found again after a crash in between, each carries a note of ours, which LDK Node keeps with it.
//!
//! # Who can be paid
//! The invoice comes back along a blinded path that the payer makes, and the money goes along one that the payee makes. LDK
//! builds a path from a node that is announced (it has a public channel), or through a peer that is, or through the only
//! peer that there is. A node whose peers are all unknown to the network can neither offer nor pay an offer, unless it has
//! but one. See `DefaultMessageRouter` and `DefaultRouter` of lightning 0.2.

use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{Node, NodeError};
use watershed_protocol::{Msat, PaymentHash};

use super::node::{LdkWallet, refused};
use super::view::preimage_of;
use crate::wallet::{Offer, OfferPayment, Outgoing, PayLimits, WalletError};

impl LdkWallet {
    /// An offer that anybody may pay any amount.
    ///
    /// # Errors
    /// [`WalletError::Node`] if nobody could reach this node through it.
    pub async fn offer(&self, description: String) -> Result<Offer, WalletError> {
        self.on_node(move |node| {
            let made = node.bolt12_payment().receive_variable_amount(&description, None);
            Ok(Offer::from_bolt12(made.map_err(refused("make an offer"))?))
        })
        .await
    }
}

/// Whether an offer is signed with this node's key. A path that begins at this node says nothing: it may be the payee's only peer.
fn is_own(node: &Node, offer: &Offer) -> bool {
    offer.bolt12().issuer_signing_pubkey() == Some(node.node_id())
}

fn has_note(payment: &PaymentDetails, wanted: &str) -> bool {
    let outgoing = payment.direction == PaymentDirection::Outbound;
    let note = match &payment.kind {
        PaymentKind::Bolt12Offer { payer_note, .. } => payer_note.as_ref(),
        _ => None,
    };
    outgoing && note.is_some_and(|note| note.0 == wanted)
}

pub(super) fn pay(
    node: &Node,
    offer: &Offer,
    amount: Msat,
    note: String,
    limits: PayLimits,
) -> Result<(), WalletError> {
    if is_own(node, offer) {
        return Err(WalletError::NotSent("this wallet made the offer itself, and nobody pays himself"));
    }
    let limits = RouteParametersConfig {
        max_total_routing_fee_msat: Some(limits.max_fee.msat()),
        max_total_cltv_expiry_delta: limits.max_cltv,
        ..RouteParametersConfig::default()
    };
    let sent = node.bolt12_payment().send_using_amount(
        offer.bolt12(),
        amount.msat(),
        None,
        Some(note),
        Some(limits),
    );
    match sent {
        Ok(_) => Ok(()),
        Err(NodeError::PaymentSendingFailed | NodeError::InvoiceRequestCreationFailed) => {
            Err(WalletError::NotSent(
                "the node could not ask for the offer's invoice: it needs a public channel, or a peer that has one",
            ))
        }
        Err(NodeError::InvalidOffer | NodeError::UnsupportedCurrency | NodeError::InvalidAmount) => {
            Err(WalletError::NotSent("the node does not take this offer"))
        }
        // It may be on its way, but not written down.
        Err(e) => Err(refused("pay an offer")(e)),
    }
}

pub(super) fn find(node: &Node, note: &str) -> Option<OfferPayment> {
    let found = node.list_payments_with_filter(|p| has_note(p, note)).into_iter().next()?;
    let hash = match &found.kind {
        PaymentKind::Bolt12Offer { hash: Some(hash), .. } => Some(PaymentHash::from_bytes(hash.0)),
        _ => None,
    };
    let outcome = match (found.status, hash, preimage_of(&found)) {
        (PaymentStatus::Succeeded, Some(_), Some(preimage)) => {
            Outgoing::Succeeded { preimage, fee: Msat::new(found.fee_paid_msat.unwrap_or(0)) }
        }
        (PaymentStatus::Failed, _, _) => Outgoing::Failed,
        _ => Outgoing::Pending,
    };
    Some(OfferPayment { hash, outcome })
}
