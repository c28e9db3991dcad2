//! Hold invoices with a chosen hold window. LDK Node makes invoices that leave three blocks; this makes the same invoice
//! say more, and signs it again with the node's key.

use ldk_node::bip39::Mnemonic;
use ldk_node::bitcoin::bip32::Xpriv;
use ldk_node::bitcoin::secp256k1::{SECP256K1, SecretKey};
use ldk_node::lightning::sign::KeysManager;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, InvoiceBuilder};

use crate::wallet::invoice::currency;
use crate::wallet::{Invoice, Network, WalletError};

/// Blocks by which an HTLC must outlive the window: LDK gives it back 39 blocks before it expires, to have time for the
/// chain (`HTLC_FAIL_BACK_BUFFER`), and up to 6 may pass between the payer's sending and the payee's noticing.
pub const HOLD_OVERHEAD: u32 = 39 + 6;

/// Longest final CLTV: LDK relays and accepts no HTLC that expires later than 14 days, 2016 blocks, from now.
pub const MAX_FINAL_CLTV: u32 = 2016;

/// The final CLTV of an HTLC that can be held for `window` blocks.
///
/// # Errors
/// [`WalletError::HoldTooLong`].
pub fn final_cltv_for(window: u32) -> Result<u16, WalletError> {
    let too_long = WalletError::HoldTooLong { asked: window, most: MAX_FINAL_CLTV, overhead: HOLD_OVERHEAD };
    match window.checked_add(HOLD_OVERHEAD) {
        Some(total) if total <= MAX_FINAL_CLTV => u16::try_from(total).map_err(|_| too_long),
        _ => Err(too_long),
    }
}

/// The node's key, derived as LDK Node derives it: seed, BIP-32 master key, LDK's `KeysManager`.
pub(super) fn node_key(network: Network, words: &Mnemonic) -> Result<SecretKey, WalletError> {
    let master =
        Xpriv::new_master(network, &words.to_seed("")).map_err(|e| WalletError::Signing(e.to_string()))?;
    // Time only seeds keys of new channels, which this manager never makes.
    Ok(KeysManager::new(&master.private_key.secret_bytes(), 0, 0, true).get_node_secret_key())
}

/// The invoice with another final CLTV.
pub(super) fn with_final_cltv(
    invoice: &Bolt11Invoice,
    network: Network,
    final_cltv: u16,
    key: &SecretKey,
) -> Result<Invoice, WalletError> {
    let failed = |reason: String| WalletError::Node { action: "make a hold invoice", reason };
    let description = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(description) => description.to_string(),
        Bolt11InvoiceDescriptionRef::Hash(_) => String::new(),
    };
    let amount = invoice.amount_milli_satoshis().ok_or_else(|| failed("it has no amount".into()))?;
    let mut builder = InvoiceBuilder::new(currency(network))
        .payment_hash(*invoice.payment_hash())
        .payment_secret(*invoice.payment_secret())
        .description(description)
        .basic_mpp()
        .duration_since_epoch(invoice.duration_since_epoch())
        .expiry_time(invoice.expiry_time())
        .min_final_cltv_expiry_delta(u64::from(final_cltv))
        .amount_milli_satoshis(amount);
    for hint in invoice.route_hints() {
        builder = builder.private_route(hint);
    }
    let signed = builder
        .build_signed(|message| SECP256K1.sign_ecdsa_recoverable(message, key))
        .map_err(|e| failed(format!("{e:?}")))?;
    Invoice::from_bolt11(signed).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_the_network_forbids_is_refused_with_the_limit() {
        assert_eq!(final_cltv_for(144).unwrap(), 189);
        assert_eq!(final_cltv_for(MAX_FINAL_CLTV - HOLD_OVERHEAD).unwrap(), 2016);
        let refused = final_cltv_for(MAX_FINAL_CLTV - HOLD_OVERHEAD + 1).unwrap_err().to_string();
        assert!(refused.contains("2016") && refused.contains("45"), "{refused}");
        assert!(final_cltv_for(u32::MAX).is_err());
    }
}
