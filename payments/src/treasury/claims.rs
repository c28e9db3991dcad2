//! Who may claim what is left of a pledge, and where it is to go: a random token that only the sponsor knows.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use watershed_protocol::PaymentHash;

use super::{Treasury, TreasuryError};
use crate::ledger::Name;
use crate::store::{Change, Filter, Record, Store, get, list};
use crate::wallet::{Destination, Wallet};

/// What a pledge's sponsor left. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    digest: String,
    /// The campaign.
    pub campaign: Name,
    /// The pledge.
    pub pledge: PaymentHash,
    /// Where what is left is to go by itself.
    pub to: Option<Destination>,
}

impl Record for Claim {
    const KIND: &'static str = "claim";
    fn id(&self) -> String {
        self.digest.clone()
    }
    fn group(&self) -> String {
        format!("campaign/{}", self.campaign)
    }
    fn is_open(&self) -> bool {
        false
    }
}

/// Names a token; the token cannot be found from it.
fn digest(token: &str) -> String {
    hex::encode(Sha256::new().chain_update(b"watershed/claim").chain_update(token).finalize())
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// Writes down who may claim what is left of a pledge. `token` is at least 16 random bytes as text.
    ///
    /// # Errors
    /// Those of the store.
    pub fn keep_claim(
        &self,
        token: &str,
        campaign: Name,
        pledge: PaymentHash,
        to: Option<Destination>,
    ) -> Result<(), TreasuryError> {
        let mut change = Change::new();
        change.put(&Claim { digest: digest(token), campaign, pledge, to }, 0)?;
        self.commit(&change)
    }

    /// The claim of a token; none if it is nobody's.
    ///
    /// # Errors
    /// Those of the store.
    pub fn claim(&self, token: &str) -> Result<Option<Claim>, TreasuryError> {
        Ok(get::<Claim>(self.store.as_ref(), &digest(token))?.map(|c| c.record))
    }

    /// All claims of a campaign's pledges.
    ///
    /// # Errors
    /// Those of the store.
    pub fn claims(&self, campaign: &Name) -> Result<Vec<Claim>, TreasuryError> {
        let found = list::<Claim>(self.store.as_ref(), Filter::Group(&format!("campaign/{campaign}")))?;
        Ok(found.into_iter().map(|c| c.record).collect())
    }
}
