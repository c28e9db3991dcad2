//! Where money that is owed can go: a BOLT 12 offer, a Lightning address, or an invoice.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    AddressClient, AddressError, Invoice, InvoiceError, LightningAddress, Network, Offer, OfferError,
};

/// Where to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// BOLT 12.
    Offer(Box<Offer>),
    /// `name@domain`.
    Address(LightningAddress),
    /// BOLT 11.
    Invoice(Box<Invoice>),
}

/// Why nothing can be paid there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// The offer.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The invoice.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// An invoice where something is needed that lasts.
    #[error("an invoice expires before it is needed; give a BOLT 12 offer or a Lightning address")]
    Expires,
}

impl DestinationError {
    /// For programs; does not change.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Offer(OfferError::Network(_)) | Self::Invoice(InvoiceError::Network { .. }) => {
                "destination-network"
            }
            Self::Offer(OfferError::Expired(_)) | Self::Invoice(InvoiceError::Expired(_)) | Self::Expires => {
                "destination-expired"
            }
            Self::Offer(OfferError::Little { .. } | OfferError::Currency | OfferError::Quantity)
            | Self::Invoice(InvoiceError::NoAmount | InvoiceError::Amount { .. })
            | Self::Address(AddressError::Amount { .. }) => "destination-amount",
            Self::Address(AddressError::Private(_)) => "destination-private",
            Self::Address(AddressError::Form(_)) | Self::Offer(_) | Self::Invoice(_) => "destination-form",
            Self::Address(_) => "destination-unreachable",
        }
    }
}

impl Destination {
    /// Whether something could be paid there now.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(
        &self,
        addresses: &AddressClient,
        network: Network,
        now: Duration,
    ) -> Result<(), DestinationError> {
        match self {
            Self::Offer(offer) => offer.check_payable(network, now)?,
            Self::Address(address) => addresses.check(address)?,
            Self::Invoice(invoice) => invoice.check_payable(network, now)?,
        }
        Ok(())
    }

    /// Whether something could be paid there at any time.
    ///
    /// # Errors
    /// As [`Destination::check`], and [`DestinationError::Expires`] for an invoice.
    pub fn check_lasting(
        &self,
        addresses: &AddressClient,
        network: Network,
        now: Duration,
    ) -> Result<(), DestinationError> {
        if matches!(self, Self::Invoice(_)) {
            return Err(DestinationError::Expires);
        }
        self.check(addresses, network, now)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let text = text.trim();
        let head: String = text.chars().take(20).collect::<String>().to_ascii_lowercase();
        let rest = if head.starts_with("lightning:") { text.get(10..).unwrap_or_default() } else { text };
        let head = head.strip_prefix("lightning:").unwrap_or(&head);
        Ok(if head.starts_with("lno1") {
            Self::Offer(Box::new(rest.parse()?))
        } else if head.starts_with("ln") && !rest.contains('@') {
            Self::Invoice(Box::new(rest.parse()?))
        } else {
            Self::Address(rest.parse()?)
        })
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(to: Destination) -> Self {
        to.to_string()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(offer) => offer.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Invoice(invoice) => invoice.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_from_the_others_and_refused_by_name() {
        assert!(matches!("lnurl.user@example.org".parse(), Ok(Destination::Address(_))));
        assert!(matches!("LIGHTNING:ada@example.org".parse(), Ok(Destination::Address(_))));
        let code = |text: &str| text.parse::<Destination>().unwrap_err().code();
        for text in ["", "ada", "lno1qq", "lnbc1", "lnbcrt1zz", "LNO1QQ", "lightning:lno1qq", "x@y"] {
            assert_eq!(code(text), "destination-form", "{text}");
        }
        let client = AddressClient::new(false).unwrap();
        let here: Destination = "ada@127.0.0.1:80".parse().unwrap();
        let private = here.check_lasting(&client, Network::Regtest, Duration::ZERO).unwrap_err();
        assert_eq!(private.code(), "destination-private");
    }
}
