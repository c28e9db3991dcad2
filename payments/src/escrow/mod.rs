//! Escrow in lots: a reward is cut into HTLCs that the payer locks and the payee holds, until whoever has the secrets
//! decides. This module decides what follows from what, as pure functions of values; `treasury` carries it out.

mod hold;
mod lot;
mod terms;
mod tiers;

pub use hold::{
    BackReason, DEADLINE_MARGIN, Hold, HoldEffect, HoldError, HoldEvent, HoldState, HoldStep, Purpose,
};
pub use lot::{CameBack, Lot, LotError, LotState, LotStep};
pub use terms::{LotTerms, MAX_LOTS, Terms, TermsError};
pub use tiers::{MAX_TIERS, TierError, earned, split};

#[cfg(test)]
#[allow(clippy::unwrap_used)] // helper of tests
pub(crate) fn test_node(key: u8) -> crate::wallet::NodeId {
    use ldk_node::bitcoin::secp256k1::{SECP256K1, SecretKey};
    crate::wallet::NodeId::from_secret_key(SECP256K1, &SecretKey::from_slice(&[key; 32]).unwrap())
}

/// A signed invoice of the node with that key, made at second 1,800,000,000 and valid for an hour.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // helper of tests
pub(crate) fn test_invoice(
    hash: watershed_protocol::PaymentHash,
    msat: u64,
    final_cltv: u64,
    key: u8,
) -> crate::wallet::Invoice {
    use ldk_node::bitcoin::hashes::{Hash as _, sha256};
    use ldk_node::bitcoin::secp256k1::{SECP256K1, SecretKey};
    use ldk_node::lightning::types::payment::PaymentSecret;
    use ldk_node::lightning_invoice::{Currency, InvoiceBuilder};
    use std::time::Duration;
    let key = SecretKey::from_slice(&[key; 32]).unwrap();
    let built = InvoiceBuilder::new(Currency::Regtest)
        .payment_hash(sha256::Hash::from_byte_array(hash.to_bytes()))
        .payment_secret(PaymentSecret([9; 32]))
        .description("lot".into())
        .amount_milli_satoshis(msat)
        .duration_since_epoch(Duration::from_secs(1_800_000_000))
        .expiry_time(Duration::from_secs(3600))
        .min_final_cltv_expiry_delta(final_cltv)
        .basic_mpp()
        .build_signed(|m| SECP256K1.sign_ecdsa_recoverable(m, &key))
        .unwrap();
    built.to_string().parse().unwrap()
}
