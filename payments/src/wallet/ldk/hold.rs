//! Hold invoices with a chosen hold window. LDK Node makes invoices that leave three blocks; this makes the same invoice
//! say more, and signs it again with the node's key.

use ldk_node::bip39::Mnemonic;
use ldk_node::bitcoin::bip32::Xpriv;
use ldk_node::bitcoin::secp256k1::{SECP256K1, SecretKey};
use ldk_node::lightning::sign::KeysManager;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, InvoiceBuilder};

use watershed_protocol::Msat;

use crate::wallet::invoice::currency;
use crate::wallet::{Invoice, Limits, Network, WalletError};

/// LDK gives an HTLC back 39 blocks before it expires (`HTLC_FAIL_BACK_BUFFER`), and relays and accepts none that expires
/// later than 14 days from now. `max_accepted_htlcs` (BOLT 2) is 50, without a setting in LDK Node; the protocol's own
/// limit is 483. Its default for dust, 10,000 times the fee rate, is 2,530 sat at the lowest fee, too little for the small
/// tiers of one escrow.
pub const LIMITS: Limits = Limits {
    fail_back: 39,
    notice: 6,
    max_final_cltv: 2016,
    htlcs_per_channel: 50,
    max_dust: Msat::new(50_000_000),
};

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
