//! Channels with payees: whether they have room for an escrow, opening more, and parting.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use watershed_protocol::Msat;

use super::{ChannelRecord, Payout, Treasury, TreasuryError};
use crate::escrow::{Lot, LotState, MAX_LOTS, TermsError};
use crate::store::{Change, Filter, Store, StoreError, list};
use crate::wallet::{Channel, ChannelName, Limits, NodeAddress, NodeId, OpenChannel, Wallet, WalletError};

/// How often a channel that is being opened is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long the on-chain wallet is given to see its own last transaction.
const SEEN: Duration = Duration::from_secs(60);

/// What the usable channels with a payee have room for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// How many there are.
    pub channels: usize,
    /// HTLCs that they still take.
    pub free_htlcs: usize,
    /// What they can send.
    pub spendable: Msat,
    /// The largest HTLC that one of them takes.
    pub largest: Msat,
    /// What they still take in HTLCs of less than `dust_below`.
    pub free_dust: Msat,
    /// An HTLC of less would go to the miners of blocks if its channel were closed by force.
    pub dust_below: Msat,
}

/// The capacity of `channels` with one peer while HTLCs of ours of the amounts `open` are pending with it. Pure.
fn capacity_of(channels: &[Channel], open: &[Msat], limits: &Limits) -> Capacity {
    let usable: Vec<_> = channels.iter().filter(|c| c.usable).collect();
    let sum = |amounts: &mut dyn Iterator<Item = Msat>| {
        amounts.fold(Msat::ZERO, |sum, m| sum.checked_add(m).unwrap_or(Msat::new(u64::MAX)))
    };
    let dust_below = usable.iter().map(|c| c.dust_below()).max().unwrap_or_default();
    let dust = sum(&mut open.iter().copied().filter(|m| *m < dust_below));
    // One channel's worth: which HTLC goes where is the node's choice.
    let most = if usable.is_empty() { Msat::ZERO } else { limits.max_dust };
    Capacity {
        channels: usable.len(),
        free_htlcs: (usable.len() * limits.htlcs_per_channel).saturating_sub(open.len()),
        spendable: sum(&mut usable.iter().map(|c| c.next_htlc)),
        largest: usable.iter().map(|c| c.next_htlc).max().unwrap_or_default(),
        free_dust: most.checked_sub(dust).unwrap_or_default(),
        dust_below,
    }
}

impl<W: Wallet, S: Store> Treasury<W, S> {
    /// The amounts of our lots that are pending with a peer.
    pub(super) fn open_lots(&self, peer: NodeId) -> Result<Vec<Msat>, TreasuryError> {
        let open = list::<Lot>(self.store.as_ref(), Filter::Open)?.into_iter().map(|l| l.record);
        let with = open.filter(|lot| lot.payee == peer && lot.state != LotState::Offered);
        Ok(with.map(|lot| lot.amount).collect())
    }

    /// What the channels with a payee have room for. The node does not tell how many HTLCs a channel carries, so lots are
    /// counted here, and every payout, as any of them may pass this peer.
    ///
    /// # Errors
    /// Those of the wallet and the store.
    pub async fn capacity(&self, peer: NodeId) -> Result<Capacity, TreasuryError> {
        let channels = self.wallet.channels().await?;
        let with: Vec<_> = channels.into_iter().filter(|c| c.peer == peer).collect();
        let payouts = list::<Payout>(self.store.as_ref(), Filter::Open)?.into_iter().map(|p| p.record.amount);
        let open: Vec<_> = self.open_lots(peer)?.into_iter().chain(payouts).collect();
        Ok(capacity_of(&with, &open, &self.wallet.limits()))
    }

    /// Takes a payee from "connected" to "can hold `amount` in `htlcs` lots": uses the channels there are, or opens one,
    /// usable at once if the payee trusts us with that. Calling it again while there is room does nothing.
    ///
    /// # Errors
    /// [`TreasuryError::Terms`] for more lots than an escrow has, [`TreasuryError::Policy`], [`TreasuryError::Timeout`];
    /// [`WalletError::Funds`] and [`WalletError::Connection`].
    pub async fn ensure_capacity(
        &self,
        peer: &NodeAddress,
        amount: Msat,
        htlcs: usize,
    ) -> Result<Capacity, TreasuryError> {
        let policy = self.policy;
        if htlcs > MAX_LOTS {
            return Err(TermsError::Count(htlcs).into());
        }
        if peer.id == self.wallet.node_id() {
            return Err(WalletError::Itself.into());
        }
        let fits = |c: &Capacity| c.spendable >= amount && c.free_htlcs >= htlcs;
        let mut capacity = self.capacity(peer.id).await?;
        if !fits(&capacity) && !self.wallet.is_connected(peer.id).await? {
            self.wallet.connect(peer.clone()).await?;
            capacity = self.reconnected(peer.id).await?;
        }
        while !fits(&capacity) {
            let missing = amount.checked_sub(capacity.spendable).unwrap_or_default();
            let sats = policy.size(missing.msat());
            let sats = sats.map_err(|needed| TreasuryError::Policy { needed, most: policy.max_sats })?;
            let name = self.open_channel(peer, sats).await?;
            let channel = self.usable(&name, policy.patience()).await?;
            let before = capacity;
            capacity = self.capacity(peer.id).await?;
            // Without this a peer that takes a tenth of each channel would be given ten.
            let more = capacity.spendable.checked_sub(before.spendable).unwrap_or_default();
            if more < missing {
                return Err(TreasuryError::InFlight { peer: peer.id, sats: channel.sats, takes: more });
            }
        }
        Ok(capacity)
    }

    /// Waits until the channels with a peer that was just connected are usable again, which takes some messages; not for
    /// long, because a channel may be on its way out.
    async fn reconnected(&self, peer: NodeId) -> Result<Capacity, TreasuryError> {
        let patience = Instant::now() + Duration::from_secs(3);
        loop {
            let now = self.capacity(peer).await?;
            let known = self.wallet.channels().await?;
            let all = known.iter().filter(|c| c.peer == peer && c.ready).count();
            if now.channels == all || Instant::now() > patience {
                return Ok(now);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs something that sends `sats` from the on-chain wallet, after the wallet has seen the one before.
    pub(super) async fn spend_on_chain<T>(
        &self,
        sats: u64,
        spend: impl Future<Output = Result<T, WalletError>>,
    ) -> Result<T, TreasuryError> {
        let mut down_to = self.spending.lock().await;
        let end = Instant::now() + SEEN;
        if let Some(most) = *down_to {
            // A deposit at the same time hides that it has seen it; by then it has looked several times.
            while self.wallet.balances().await?.on_chain_sats > most && Instant::now() < end {
                // It may fail while the node is busy with the same.
                let _ = self.wallet.sync().await;
                tokio::time::sleep(LOOK).await;
            }
            *down_to = None;
        }
        let before = self.wallet.balances().await?.on_chain_sats;
        let value = spend.await?;
        *down_to = before.checked_sub(sats);
        Ok(value)
    }

    async fn usable(&self, name: &str, patience: Duration) -> Result<Channel, TreasuryError> {
        let end = Instant::now() + patience;
        loop {
            let channels = self.wallet.channels().await?;
            if let Some(channel) = channels.into_iter().find(|c| c.name == name && c.usable) {
                self.note_channels().await?;
                return Ok(channel);
            }
            if Instant::now() > end {
                return Err(TreasuryError::Timeout {
                    what: "opening a channel",
                    seconds: patience.as_secs(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts to open a channel of exactly `sats`.
    ///
    /// # Errors
    /// Those of the wallet.
    pub async fn open_channel(&self, peer: &NodeAddress, sats: u64) -> Result<ChannelName, TreasuryError> {
        let open = OpenChannel { peer: peer.clone(), sats, public: false };
        self.spend_on_chain(sats, self.wallet.open_channel(open)).await
    }

    /// The same for a channel that the whole network is told of; the peer must allow it.
    ///
    /// # Errors
    /// Those of the wallet.
    pub async fn open_public_channel(
        &self,
        peer: &NodeAddress,
        sats: u64,
    ) -> Result<ChannelName, TreasuryError> {
        let open = OpenChannel { peer: peer.clone(), sats, public: true };
        self.spend_on_chain(sats, self.wallet.open_channel(open)).await
    }

    /// Closes all channels with a peer that leaves; both sides get what is theirs on chain.
    ///
    /// # Errors
    /// [`TreasuryError::LotsOpen`] while lots are pending, unless `force`; [`WalletError::NoChannel`].
    pub async fn release(&self, peer: NodeId, force: bool) -> Result<usize, TreasuryError> {
        let open = self.open_lots(peer)?.len();
        if open > 0 && !force {
            return Err(TreasuryError::LotsOpen { peer, open });
        }
        let channels = self.wallet.channels().await?;
        let with: Vec<_> = channels.into_iter().filter(|c| c.peer == peer).collect();
        if with.is_empty() {
            return Err(WalletError::NoChannel(format!("with {peer}")).into());
        }
        for channel in &with {
            self.wallet.close_channel(channel, force).await?;
        }
        Ok(with.len())
    }

    /// Writes down channels that are not known yet: their funding transactions must be recognised on chain.
    pub(super) async fn note_channels(&self) -> Result<(), TreasuryError> {
        for channel in self.wallet.channels().await? {
            let Some(funding_txid) = channel.funding_txid.clone() else { continue };
            if self.store.raw(ChannelRecord::kind(), &channel.name)?.is_some() {
                continue;
            }
            let record = ChannelRecord::open(&channel, funding_txid);
            let mut change = Change::new();
            change.put(&record, 0)?;
            change.book(record.funded()?);
            match self.commit(&change) {
                Ok(()) | Err(TreasuryError::Store(StoreError::Conflict { .. })) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
