//! BOLT 12 offers, and what one must say to be paid an amount that we choose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ldk_node::bitcoin::constants::ChainHash;
use ldk_node::lightning::offers::offer::{Amount, Offer as LdkOffer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_protocol::Msat;

use super::Network;

/// Longest text that is looked at. An offer with three blinded paths has about 1,000 characters.
const MAX_TEXT: usize = 4096;

/// An offer whose form is right.
#[derive(Clone, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Offer(LdkOffer);

/// Why an offer is not paid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OfferError {
    /// Too long to look at.
    #[error("an offer of {0} characters is not read; {MAX_TEXT} is the limit")]
    Long(usize),
    /// Not BOLT 12.
    #[error("this is no BOLT 12 offer: {0}")]
    Form(String),
    /// Of another chain.
    #[error("the offer is not for {0}, the network of this wallet")]
    Network(Network),
    /// Too late.
    #[error("the offer expired {0} s ago")]
    Expired(u64),
    /// In dollars, say.
    #[error("the offer asks for an amount in another currency than bitcoin")]
    Currency,
    /// It sells pieces of something.
    #[error("the offer wants to know how many pieces are bought; give one without a quantity")]
    Quantity,
    /// It asks for more than there is.
    #[error("the offer asks for at least {least}, and {amount} are to be paid")]
    Little {
        /// Asked.
        least: Msat,
        /// To be paid.
        amount: Msat,
    },
}

impl Offer {
    /// What node libraries take.
    pub(crate) fn bolt12(&self) -> &LdkOffer {
        &self.0
    }

    pub(crate) fn from_bolt12(offer: LdkOffer) -> Self {
        Self(offer)
    }

    /// What it asks for at least; 0 if the payer chooses.
    pub fn least(&self) -> Msat {
        match self.0.amount() {
            Some(Amount::Bitcoin { amount_msats }) => Msat::new(amount_msats),
            _ => Msat::ZERO,
        }
    }

    /// Whether it can be paid an amount of our choice on this network, at this time since 1970.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check_payable(&self, network: Network, now: Duration) -> Result<(), OfferError> {
        if !self.0.supports_chain(ChainHash::using_genesis_block(network)) {
            return Err(OfferError::Network(network));
        }
        if let Some(since) = self.0.absolute_expiry().and_then(|end| now.checked_sub(end)) {
            return Err(OfferError::Expired(since.as_secs()));
        }
        if matches!(self.0.amount(), Some(Amount::Currency { .. })) {
            return Err(OfferError::Currency);
        }
        if self.0.expects_quantity() {
            return Err(OfferError::Quantity);
        }
        Ok(())
    }

    /// As [`Offer::check_payable`], for an amount.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check_amount(&self, amount: Msat, network: Network, now: Duration) -> Result<(), OfferError> {
        self.check_payable(network, now)?;
        if amount < self.least() {
            return Err(OfferError::Little { least: self.least(), amount });
        }
        Ok(())
    }
}

impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl FromStr for Offer {
    type Err = OfferError;
    fn from_str(text: &str) -> Result<Self, OfferError> {
        if text.len() > MAX_TEXT {
            return Err(OfferError::Long(text.len()));
        }
        Ok(Self(text.trim().parse().map_err(|e| OfferError::Form(format!("{e:?}")))?))
    }
}

impl TryFrom<String> for Offer {
    type Error = OfferError;
    fn try_from(text: String) -> Result<Self, OfferError> {
        text.parse()
    }
}

impl From<Offer> for String {
    fn from(offer: Offer) -> Self {
        offer.to_string()
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer(from {})", self.least())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use ldk_node::bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
    use ldk_node::lightning::offers::offer::{OfferBuilder, Quantity};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn payee() -> PublicKey {
        SecretKey::from_slice(&[1; 32]).unwrap().public_key(&Secp256k1::new())
    }

    fn read(text: &str) -> Offer {
        text.parse().unwrap()
    }

    #[test]
    fn an_offer_for_any_amount_on_this_network_is_taken() {
        let free = OfferBuilder::new(payee()).chain(Network::Regtest).build().unwrap().to_string();
        let offer = read(&free);
        assert_eq!(offer.check_amount(Msat::new(1), Network::Regtest, NOW), Ok(()));
        assert_eq!(offer.check_payable(Network::Bitcoin, NOW), Err(OfferError::Network(Network::Bitcoin)));
        assert_eq!((read(&offer.to_string()), offer.least()), (offer, Msat::ZERO));
        // Without a chain an offer is for bitcoin.
        let main = read(&OfferBuilder::new(payee()).build().unwrap().to_string());
        assert_eq!(main.check_payable(Network::Bitcoin, NOW), Ok(()));
        assert_eq!(main.check_payable(Network::Regtest, NOW), Err(OfferError::Network(Network::Regtest)));
    }

    #[test]
    fn what_cannot_be_paid_any_amount_is_named() {
        let regtest = || OfferBuilder::new(payee()).chain(Network::Regtest);
        let at_least = read(&regtest().amount_msats(5000).build().unwrap().to_string());
        assert_eq!(at_least.check_amount(Msat::new(5000), Network::Regtest, NOW), Ok(()));
        let little = OfferError::Little { least: Msat::new(5000), amount: Msat::new(4999) };
        assert_eq!(at_least.check_amount(Msat::new(4999), Network::Regtest, NOW), Err(little));
        let old = regtest().absolute_expiry(NOW - Duration::from_secs(9)).build().unwrap().to_string();
        assert_eq!(read(&old).check_payable(Network::Regtest, NOW), Err(OfferError::Expired(9)));
        let many = Quantity::Bounded(NonZeroU64::new(9).unwrap());
        let pieces = regtest().supported_quantity(many).build().unwrap().to_string();
        assert_eq!(read(&pieces).check_payable(Network::Regtest, NOW), Err(OfferError::Quantity));
    }

    #[test]
    fn what_is_no_offer_is_refused() {
        assert_eq!("x".repeat(5000).parse::<Offer>(), Err(OfferError::Long(5000)));
        for text in ["", "lno1", "lnbc1", "lno1qqqq", "ada@example.org"] {
            assert!(matches!(text.parse::<Offer>(), Err(OfferError::Form(_))), "{text}");
        }
    }
}
