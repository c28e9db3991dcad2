//! BOLT 11 invoices, and what one must say to be paid.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ldk_node::bitcoin::hashes::Hash as _;
use ldk_node::lightning_invoice::{Bolt11Invoice, Currency};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::{Msat, PaymentHash};

use super::{Network, NodeId};

/// Longest text that is looked at. BOLT 11 sets no limit; an invoice with ten route hints has about 1,500 characters.
const MAX_TEXT: usize = 4096;

/// An invoice whose signature and form are right.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Invoice(Bolt11Invoice);

/// Why an invoice is not paid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvoiceError {
    /// Too long to look at.
    #[error("an invoice of {0} characters is not read; {MAX_TEXT} is the limit")]
    Long(usize),
    /// Not BOLT 11, or the signature is wrong.
    #[error("this is no BOLT 11 invoice: {0}")]
    Form(String),
    /// Ours.
    #[error("this wallet made the invoice itself, and nobody pays himself; give it to whoever is to pay")]
    Own,
    /// Without amount.
    #[error("the invoice names no amount")]
    NoAmount,
    /// Of another chain.
    #[error("the invoice is for {found}, this wallet is on {wanted}")]
    Network {
        /// In the invoice.
        found: String,
        /// Ours.
        wanted: Network,
    },
    /// Of somebody else.
    #[error("the invoice was signed by {found}, not by {wanted}")]
    Payee {
        /// Who signed.
        found: NodeId,
        /// Who should have.
        wanted: NodeId,
    },
    /// For another secret.
    #[error("the invoice has payment hash {found}, not {wanted}")]
    Hash {
        /// In the invoice.
        found: PaymentHash,
        /// Agreed.
        wanted: PaymentHash,
    },
    /// For another amount.
    #[error("the invoice asks for {found}, not for {wanted}")]
    Amount {
        /// In the invoice.
        found: Msat,
        /// Agreed.
        wanted: Msat,
    },
    /// Too late.
    #[error("the invoice expired {0} s ago")]
    Expired(u64),
    /// Held for too short or too long.
    #[error("the invoice asks to be held for {found} blocks; agreed were {least} to {most}")]
    FinalCltv {
        /// In the invoice.
        found: u64,
        /// The window with its safety.
        least: u64,
        /// What the payer locks at most.
        most: u64,
    },
}

/// What an invoice must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The chain.
    pub network: Network,
    /// Who signs.
    pub payee: NodeId,
    /// The hash.
    pub hash: PaymentHash,
    /// The amount.
    pub amount: Msat,
    /// Least and most final CLTV.
    pub final_cltv: (u64, u64),
}

impl Invoice {
    /// What node libraries take.
    pub(crate) fn bolt11(&self) -> &Bolt11Invoice {
        &self.0
    }

    pub(crate) fn from_bolt11(invoice: Bolt11Invoice) -> Result<Self, InvoiceError> {
        if invoice.amount_milli_satoshis().is_none() {
            return Err(InvoiceError::NoAmount);
        }
        Ok(Self(invoice))
    }

    /// Names the payment.
    pub fn hash(&self) -> PaymentHash {
        PaymentHash::from_bytes(self.0.payment_hash().to_byte_array())
    }

    /// What is asked for.
    pub fn amount(&self) -> Msat {
        Msat::new(self.0.amount_milli_satoshis().unwrap_or(0))
    }

    /// Who signed.
    pub fn payee(&self) -> NodeId {
        self.0.recover_payee_pub_key()
    }

    /// How many blocks the last HTLC is held at least.
    pub fn final_cltv(&self) -> u64 {
        self.0.min_final_cltv_expiry_delta()
    }

    /// Since 1970, when it ends.
    pub fn expires_at(&self) -> Duration {
        self.0.duration_since_epoch().saturating_add(self.0.expiry_time())
    }

    /// Whether it says what was agreed. `now` is the time since 1970.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, expected: &Expected, now: Duration) -> Result<(), InvoiceError> {
        let Expected { network, payee, hash, amount, final_cltv: (least, most) } = *expected;
        self.check_network(network)?;
        if self.payee() != payee {
            return Err(InvoiceError::Payee { found: self.payee(), wanted: payee });
        }
        if self.hash() != hash {
            return Err(InvoiceError::Hash { found: self.hash(), wanted: hash });
        }
        if self.amount() != amount {
            return Err(InvoiceError::Amount { found: self.amount(), wanted: amount });
        }
        self.check_time(now)?;
        if !(least..=most).contains(&self.final_cltv()) {
            return Err(InvoiceError::FinalCltv { found: self.final_cltv(), least, most });
        }
        Ok(())
    }

    /// Whether it can be paid at all: on this network, at this time since 1970.
    ///
    /// # Errors
    /// [`InvoiceError::Network`] and [`InvoiceError::Expired`].
    pub fn check_payable(&self, network: Network, now: Duration) -> Result<(), InvoiceError> {
        self.check_network(network)?;
        self.check_time(now)
    }

    fn check_network(&self, network: Network) -> Result<(), InvoiceError> {
        if self.0.currency() != currency(network) {
            let found = match self.0.currency() {
                Currency::Bitcoin => "bitcoin",
                Currency::BitcoinTestnet => "testnet",
                Currency::Regtest => "regtest",
                Currency::Simnet => "simnet",
                Currency::Signet => "signet",
            };
            return Err(InvoiceError::Network { found: found.to_owned(), wanted: network });
        }
        Ok(())
    }

    fn check_time(&self, now: Duration) -> Result<(), InvoiceError> {
        match now.checked_sub(self.expires_at()) {
            Some(since) => Err(InvoiceError::Expired(since.as_secs())),
            None => Ok(()),
        }
    }
}

/// The prefix of a network's invoices.
pub(crate) fn currency(network: Network) -> Currency {
    match network {
        Network::Bitcoin => Currency::Bitcoin,
        Network::Regtest => Currency::Regtest,
        Network::Signet => Currency::Signet,
        _ => Currency::BitcoinTestnet,
    }
}

impl FromStr for Invoice {
    type Err = InvoiceError;
    fn from_str(text: &str) -> Result<Self, InvoiceError> {
        if text.len() > MAX_TEXT {
            return Err(InvoiceError::Long(text.len()));
        }
        let text = text.trim();
        // BIP 21 and the QR codes of wallets
        let text = text.strip_prefix("lightning:").unwrap_or(text);
        Self::from_bolt11(text.parse().map_err(|e| InvoiceError::Form(format!("{e}")))?)
    }
}

impl TryFrom<String> for Invoice {
    type Error = InvoiceError;
    fn try_from(text: String) -> Result<Self, InvoiceError> {
        text.parse()
    }
}

impl From<Invoice> for String {
    fn from(invoice: Invoice) -> Self {
        invoice.to_string()
    }
}

impl fmt::Display for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invoice({}, {})", self.hash(), self.amount())
    }
}

#[cfg(test)]
mod tests {
    use ldk_node::bitcoin::hashes::sha256;
    use ldk_node::bitcoin::secp256k1::{Secp256k1, SecretKey};
    use ldk_node::lightning::types::payment::PaymentSecret;
    use ldk_node::lightning_invoice::InvoiceBuilder;
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn made(network: Network, msat: u64, hash: [u8; 32], key: u8, cltv: u64) -> Invoice {
        let key = SecretKey::from_slice(&[key; 32]).unwrap();
        let built = InvoiceBuilder::new(currency(network))
            .payment_hash(sha256::Hash::from_byte_array(hash))
            .payment_secret(PaymentSecret([9; 32]))
            .description("lot".into())
            .amount_milli_satoshis(msat)
            .duration_since_epoch(NOW)
            .expiry_time(HOUR)
            .min_final_cltv_expiry_delta(cltv)
            .basic_mpp()
            .build_signed(|m| Secp256k1::new().sign_ecdsa_recoverable(m, &key))
            .unwrap();
        built.to_string().parse().unwrap()
    }

    fn expected() -> Expected {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        Expected {
            network: Network::Regtest,
            payee: NodeId::from_secret_key(&Secp256k1::new(), &key),
            hash: PaymentHash::from_bytes([7; 32]),
            amount: Msat::new(5000),
            final_cltv: (200, 210),
        }
    }

    #[test]
    fn only_the_invoice_that_was_agreed_is_paid() {
        let check = |invoice: Invoice| invoice.check(&expected(), NOW);
        assert_eq!(check(made(Network::Regtest, 5000, [7; 32], 1, 200)), Ok(()));
        let other = check(made(Network::Signet, 5000, [7; 32], 1, 200));
        assert!(matches!(other, Err(InvoiceError::Network { .. })), "{other:?}");
        let other = check(made(Network::Regtest, 5001, [7; 32], 1, 200));
        assert!(matches!(other, Err(InvoiceError::Amount { .. })), "{other:?}");
        let other = check(made(Network::Regtest, 5000, [8; 32], 1, 200));
        assert!(matches!(other, Err(InvoiceError::Hash { .. })), "{other:?}");
        let other = check(made(Network::Regtest, 5000, [7; 32], 2, 200));
        assert!(matches!(other, Err(InvoiceError::Payee { .. })), "{other:?}");
        for cltv in [199, 211] {
            let other = check(made(Network::Regtest, 5000, [7; 32], 1, cltv));
            assert!(matches!(other, Err(InvoiceError::FinalCltv { .. })), "{other:?}");
        }
        let late = made(Network::Regtest, 5000, [7; 32], 1, 200).check(&expected(), NOW + HOUR * 2);
        assert_eq!(late, Err(InvoiceError::Expired(3600)));
    }

    #[test]
    fn what_is_no_invoice_is_refused_in_bounded_time() {
        assert_eq!("x".repeat(5000).parse::<Invoice>(), Err(InvoiceError::Long(5000)));
        assert!(matches!("lnbc1".parse::<Invoice>(), Err(InvoiceError::Form(_))));
        let good = made(Network::Regtest, 5000, [7; 32], 1, 200).to_string();
        assert!(format!("lightning:{good}").parse::<Invoice>().is_ok());
        let mut changed = good.into_bytes();
        let at = changed.len() - 20;
        changed[at] = if changed[at] == b'q' { b'p' } else { b'q' };
        assert!(String::from_utf8(changed).unwrap().parse::<Invoice>().is_err(), "checksum");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = text.parse::<Invoice>();
            let _ = format!("lnbcrt{text}").parse::<Invoice>();
        }
    }
}
