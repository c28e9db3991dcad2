//! The accounts: where money is, to whom it is owed, and what it cost.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a sponsor, a budget, a miner or a validator: 1 to 66 of `a-z 0-9 . _ -`, which hex ids fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Text that names no account.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccountError {
    /// A name with other characters, or of another length.
    #[error("{0:?} is no name: 1 to 66 characters of a-z, 0-9, `.`, `_` and `-` are")]
    Name(String),
    /// Not one of the accounts.
    #[error(
        "there is no account {0:?}; accounts are on-chain, channels, channel-reserves, escrow, closing, operator, \
         commons, sponsor/NAME, budget/NAME, miner/NAME, validator/NAME, routing-fees and on-chain-fees"
    )]
    Unknown(String),
}

impl FromStr for Name {
    type Err = AccountError;
    fn from_str(text: &str) -> Result<Self, AccountError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if (1..=66).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AccountError::Name(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = AccountError;
    fn try_from(text: String) -> Result<Self, AccountError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An account of the ledger. Places and costs have balances of zero or more, claims of zero or less.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Account {
    /// Place: the node's on-chain wallet.
    OnChain,
    /// Place: our side of open channels, as far as it can be spent.
    Channels,
    /// Place: our side of open channels, as far as BOLT 2's `channel_reserve_satoshis` forbids to spend it.
    ChannelReserves,
    /// Place: locked in HTLCs that we sent and whose outcome is open.
    Escrow,
    /// Place: in the outputs of closed channels, on the way to the on-chain wallet.
    Closing,
    /// Claim: whoever runs this node.
    Operator,
    /// Claim: what belongs to everybody.
    Commons,
    /// Claim: a sponsor.
    Sponsor(Name),
    /// Claim: what a purpose may still spend.
    Budget(Name),
    /// Claim: a miner. What it earns and what it is paid pass through here.
    Miner(Name),
    /// Claim: a validator.
    Validator(Name),
    /// Cost: paid to nodes that forwarded our payments.
    RoutingFees,
    /// Cost: paid to those who mine blocks, the closing of channels included.
    OnChainFees,
}

impl Account {
    /// Whether this is a place where money is.
    pub fn is_place(&self) -> bool {
        matches!(self, Self::OnChain | Self::Channels | Self::ChannelReserves | Self::Escrow | Self::Closing)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnChain => f.write_str("on-chain"),
            Self::Channels => f.write_str("channels"),
            Self::ChannelReserves => f.write_str("channel-reserves"),
            Self::Escrow => f.write_str("escrow"),
            Self::Closing => f.write_str("closing"),
            Self::Operator => f.write_str("operator"),
            Self::Commons => f.write_str("commons"),
            Self::Sponsor(name) => write!(f, "sponsor/{name}"),
            Self::Budget(name) => write!(f, "budget/{name}"),
            Self::Miner(name) => write!(f, "miner/{name}"),
            Self::Validator(name) => write!(f, "validator/{name}"),
            Self::RoutingFees => f.write_str("routing-fees"),
            Self::OnChainFees => f.write_str("on-chain-fees"),
        }
    }
}

impl FromStr for Account {
    type Err = AccountError;
    fn from_str(text: &str) -> Result<Self, AccountError> {
        match text {
            "on-chain" => return Ok(Self::OnChain),
            "channels" => return Ok(Self::Channels),
            "channel-reserves" => return Ok(Self::ChannelReserves),
            "escrow" => return Ok(Self::Escrow),
            "closing" => return Ok(Self::Closing),
            "operator" => return Ok(Self::Operator),
            "commons" => return Ok(Self::Commons),
            "routing-fees" => return Ok(Self::RoutingFees),
            "on-chain-fees" => return Ok(Self::OnChainFees),
            _ => {}
        }
        match text.split_once('/') {
            Some(("sponsor", name)) => Ok(Self::Sponsor(name.parse()?)),
            Some(("budget", name)) => Ok(Self::Budget(name.parse()?)),
            Some(("miner", name)) => Ok(Self::Miner(name.parse()?)),
            Some(("validator", name)) => Ok(Self::Validator(name.parse()?)),
            _ => Err(AccountError::Unknown(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Account {
    type Error = AccountError;
    fn try_from(text: String) -> Result<Self, AccountError> {
        text.parse()
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_reads_back_and_nothing_else_does() {
        let name: Name = "ada-1".parse().unwrap();
        let all = [
            Account::OnChain,
            Account::Channels,
            Account::ChannelReserves,
            Account::Escrow,
            Account::Closing,
            Account::Operator,
            Account::Commons,
            Account::Sponsor(name.clone()),
            Account::Budget(name.clone()),
            Account::Miner(name.clone()),
            Account::Validator(name),
            Account::RoutingFees,
            Account::OnChainFees,
        ];
        for account in all {
            assert_eq!(account.to_string().parse(), Ok(account));
        }
        assert!(matches!("sponsor/".parse::<Account>(), Err(AccountError::Name(_))));
        assert!(matches!("sponsor/A".parse::<Account>(), Err(AccountError::Name(_))));
        assert!(matches!("bank".parse::<Account>(), Err(AccountError::Unknown(_))));
        assert!("x".repeat(67).parse::<Name>().is_err());
    }
}
