//! A payer and a payee with real nodes on a real chain, in this process.
#![allow(dead_code, clippy::unwrap_used)] // helpers of tests; each test file uses its part

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use watershed_payments::escrow::{LotTerms, Terms};
use watershed_payments::ledger::Account;
use watershed_payments::regtest::{Bitcoind, free_port};
use watershed_payments::store::SqliteStore;
use watershed_payments::treasury::{Offer, Treasury, TreasuryError};
use watershed_payments::wallet::ldk::{ChainSource, LdkWallet, WalletConfig, init};
use watershed_payments::wallet::{ChannelPolicy, Network, NodeAddress, Wallet as _};
use watershed_protocol::{Msat, PaymentHash, Preimage, Subject};

pub(crate) type Money = Treasury<LdkWallet, SqliteStore>;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One participant, running.
pub(crate) struct Party {
    pub(crate) money: Money,
    pub(crate) dir: PathBuf,
    pub(crate) address: NodeAddress,
    running: tokio::task::JoinHandle<()>,
}

impl Party {
    /// Makes the wallet if it is not there, and starts it.
    pub(crate) async fn start(dir: &Path, chain: &ChainSource, payer: Option<NodeAddress>, seed: u8) -> Self {
        if WalletConfig::load(dir).is_err() {
            let listen = vec![format!("127.0.0.1:{}", free_port().unwrap())];
            let config = WalletConfig {
                network: Network::Regtest,
                chain: chain.clone(),
                listen,
                announce: Vec::new(),
                payer,
                channels: ChannelPolicy::default(),
            };
            init(dir, &config, [seed; 32]).unwrap();
        }
        let listen = WalletConfig::load(dir).unwrap().listen[0].clone();
        let wallet = Arc::new(LdkWallet::start(dir.to_owned()).await.unwrap());
        let address = NodeAddress { id: wallet.node_id(), address: listen };
        let store = Arc::new(SqliteStore::open(&dir.join("payments.sqlite")).unwrap());
        let clock = Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let money = Treasury::new(wallet, store, clock, Arc::new(move |text| eprintln!("{name}: {text}")));
        money.resume().await.unwrap();
        let running = tokio::spawn({
            let money = money.clone();
            async move { money.run().await }
        });
        Self { money, dir: dir.to_owned(), address, running }
    }

    /// Stops in order; the data stays.
    pub(crate) async fn stop(self) -> PathBuf {
        self.running.abort();
        let _ = self.running.await;
        self.money.wallet().stop().await.unwrap();
        self.dir
    }
}

/// Payer with on-chain funds, payee without anything.
pub(crate) struct Market {
    pub(crate) bitcoind: Bitcoind,
    pub(crate) payer: Party,
    pub(crate) payee: Party,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn operator() -> Account {
    Account::Operator
}

pub(crate) fn preimage(n: u32) -> Preimage {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Preimage::from_bytes(bytes)
}

pub(crate) fn subject(n: u32) -> Subject {
    Subject::from_bytes(preimage(n ^ 0x8000_0000).to_bytes())
}

/// Terms with lots of these msat, with secrets `preimage(first)`, `preimage(first + 1)`, ...
pub(crate) fn terms(first: u32, msat: &[u64], window: u32) -> Terms {
    let lot = |(i, msat): (usize, &u64)| LotTerms {
        hash: preimage(first + i as u32).hash(),
        amount: Msat::new(*msat),
    };
    Terms { subject: subject(first), window, lots: msat.iter().enumerate().map(lot).collect() }
}

impl Market {
    /// Both running, the payer with 50 bitcoin, no channel.
    pub(crate) async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bitcoind = Bitcoind::start(&dir.path().join("bitcoind")).await.unwrap();
        let payer = Party::start(&dir.path().join("payer"), bitcoind.source(), None, 1).await;
        let to = Some(payer.address.clone());
        let payee = Party::start(&dir.path().join("payee"), bitcoind.source(), to, 2).await;
        let market = Self { bitcoind, payer, payee, dir };
        let address = market.payer.money.wallet().address().await.unwrap();
        market.bitcoind.rpc().fund(&address).await.unwrap();
        market.seen().await;
        market.payer.money.book_chain().await.unwrap();
        market
    }

    /// With a channel that can carry `msat` in `htlcs` lots.
    pub(crate) async fn with_channel(msat: u64, htlcs: usize) -> Self {
        let market = Self::open().await;
        market.ensure(msat, htlcs).await;
        market
    }

    pub(crate) async fn ensure(&self, msat: u64, htlcs: usize) {
        let peer = &self.payee.address;
        self.payer.money.ensure_capacity(peer, Msat::new(msat), htlcs).await.unwrap();
        // The fee of a funding transaction is in the books once it is in a block.
        self.mine(1).await;
    }

    pub(crate) async fn seen(&self) {
        self.bitcoind.rpc().seen_by(self.payer.money.wallet()).await.unwrap();
        self.bitcoind.rpc().seen_by(self.payee.money.wallet()).await.unwrap();
    }

    pub(crate) async fn mine(&self, blocks: u32) {
        self.bitcoind.rpc().mine(blocks).await.unwrap();
        self.seen().await;
    }

    pub(crate) fn offer(&self, terms: &Terms) -> Offer {
        Offer {
            terms: terms.clone(),
            payee: self.payee.address.id,
            budget: operator(),
            earner: Account::Miner("payee".parse().unwrap()),
        }
    }

    /// Offers, accepts, pays, and waits until the payee holds every lot and the payer has taken its word.
    pub(crate) async fn lock(&self, terms: &Terms) -> Result<(), TreasuryError> {
        let (payer, payee) = (&self.payer.money, &self.payee.money);
        payer.offer(&self.offer(terms))?;
        let invoices: Vec<_> = payee.accept(terms).await?.into_iter().map(|h| h.invoice).collect();
        payer.lock(terms.subject, &invoices).await?;
        let deadlines = held(payee, terms).await;
        payer.confirm(terms.subject, &deadlines).await?;
        Ok(())
    }

    /// Neither ledger differs from its node.
    pub(crate) async fn agree(&self) {
        agrees(&self.payer.money).await;
        agrees(&self.payee.money).await;
    }
}

/// Waits until every lot is held; their deadlines.
pub(crate) async fn held(payee: &Money, terms: &Terms) -> Vec<(PaymentHash, u32)> {
    use watershed_payments::escrow::HoldState;
    let all = async || {
        let lots = payee.held(terms.subject)?;
        let deadlines = lots.iter().filter_map(|lot| match lot.state {
            HoldState::Held { deadline, .. } => Some((lot.hash, deadline)),
            _ => None,
        });
        let deadlines: Vec<_> = deadlines.collect();
        Ok((deadlines.len() == lots.len()).then_some(deadlines))
    };
    payee.wait("holding", LIMIT, all).await.unwrap()
}

/// Waits until the payer has no open lot in the escrow.
pub(crate) async fn ended(payer: &Money, subject: Subject) -> Vec<watershed_payments::treasury::LotStatus> {
    use watershed_payments::escrow::LotState;
    let done = async || {
        let lots = payer.escrow(subject)?;
        let open = |s: &LotState| !matches!(s, LotState::Settled { .. } | LotState::CameBack { .. });
        Ok((!lots.iter().any(|lot| open(&lot.state))).then_some(lots))
    };
    payer.wait("ending", LIMIT, done).await.unwrap()
}

/// Waits until the payee has settled or given back every lot.
pub(crate) async fn payee_ended(
    payee: &Money,
    subject: Subject,
) -> Vec<watershed_payments::treasury::HoldStatus> {
    use watershed_payments::escrow::HoldState;
    let done = async || {
        let lots = payee.held(subject)?;
        let open = |s: &HoldState| !matches!(s, HoldState::Settled { .. } | HoldState::GivenBack { .. });
        Ok((!lots.iter().any(|lot| open(&lot.state))).then_some(lots))
    };
    payee.wait("ending", LIMIT, done).await.unwrap()
}

/// Waits until the ledger agrees with the node: commitments settle some milliseconds after the events.
pub(crate) async fn agrees(money: &Money) {
    let mut last = None;
    let agrees = async || {
        let books = money.reconcile().await?;
        let done = books.report.agrees() && books.report.exact;
        last = Some(books);
        Ok(done.then_some(()))
    };
    let agreed = money.wait("agreeing", LIMIT, agrees).await;
    assert!(agreed.is_ok(), "{last:#?}");
}
