//! A wallet that does what a test says, for what a real node does once in a thousand times.
#![allow(clippy::unwrap_used)] // helper of tests

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use watershed_protocol::{Envelope, Msat, PaymentHash, Preimage, Receipt};

use super::Treasury;
use crate::escrow::{test_invoice, test_node};
use crate::ledger::{Account, Legs};
use crate::store::{Change, SqliteStore, Store as _};
use crate::wallet::ldk::LIMITS;
use crate::wallet::{
    Balances, ChainPayment, ChainView, Channel, ChannelName, Event, HoldRequest, Incoming, Invoice, Known,
    LightningPayment, Limits, Network, NodeAddress, NodeId, Offer, OfferPayment, OpenChannel, Outgoing,
    PayLimits, Wallet, WalletError, Withdraw,
};

/// The second at which test invoices are made.
pub(super) const NOW: Duration = Duration::from_secs(1_800_000_000);

/// What the node knows and will answer.
#[derive(Default)]
pub(super) struct Script {
    pub(super) tip: u32,
    pub(super) source: Option<u32>,
    pub(super) heard: Option<u64>,
    /// Answers to the next payments; after the last, payments are taken.
    pub(super) pay: VecDeque<WalletError>,
    /// Payments that it was asked for.
    pub(super) asked: Vec<PaymentHash>,
    pub(super) outgoing: BTreeMap<PaymentHash, Outgoing>,
    pub(super) incoming: BTreeMap<PaymentHash, Incoming>,
    pub(super) channels: Vec<Channel>,
    pub(super) balances: Balances,
    pub(super) chain: Vec<ChainPayment>,
    pub(super) withdraw: Option<WalletError>,
    pub(super) invoices: u8,
}

pub(super) struct FakeWallet(Mutex<Script>);

impl FakeWallet {
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

/// The payee of all that is paid here.
pub(super) const PAYEE: u8 = 7;

/// A usable channel with it.
pub(super) fn channel(spendable: u64) -> Channel {
    Channel {
        name: "1".into(),
        channel_id: "aa".into(),
        peer: test_node(PAYEE),
        sats: 1_000_000,
        funding_txid: Some("bb".into()),
        opened_by_us: false,
        ready: true,
        usable: true,
        spendable: Msat::new(spendable),
        next_htlc: Msat::new(spendable),
        receivable: Msat::new(1),
        peer_takes: None,
        reserve: Msat::new(10_000_000),
        peer_reserve: Msat::new(10_000_000),
        feerate_per_kw: 253,
        ours_on_close: None,
        anchors: false,
    }
}

pub(super) type Fake = Treasury<FakeWallet, SqliteStore>;

/// A treasury over a fake wallet at block 100, whose operator has `msat`.
pub(super) fn treasury(msat: u64) -> (tempfile::TempDir, Fake, Arc<Mutex<Duration>>) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("payments.sqlite")).unwrap();
    let script = Script { tip: 100, channels: vec![channel(500_000_000)], ..Script::default() };
    let time = Arc::new(Mutex::new(NOW));
    let clock = Arc::clone(&time);
    let money = Treasury::new(
        Arc::new(FakeWallet(Mutex::new(script))),
        Arc::new(store),
        Arc::new(move || *clock.lock().unwrap()),
        Arc::new(|_| {}),
    );
    credit(&money, &Account::Operator, msat);
    (dir, money, time)
}

/// Gives an account `msat` that are on chain.
pub(super) fn credit(money: &Fake, account: &Account, msat: u64) {
    let legs = Legs::new().leg(account, &Account::OnChain, Msat::new(msat)).unwrap();
    let mut change = Change::new();
    change.book(legs.entry(format!("test/{account}"), "").unwrap());
    money.store().commit(&change, 0).unwrap();
}

pub(super) fn balance(money: &Fake, account: &Account) -> i64 {
    money.store().balances().unwrap().get(account).copied().unwrap_or(0)
}

impl Wallet for FakeWallet {
    fn node_id(&self) -> NodeId {
        test_node(1)
    }
    fn network(&self) -> Network {
        Network::Regtest
    }
    fn limits(&self) -> Limits {
        LIMITS
    }
    fn sign_receipt(&self, _: &Receipt) -> Result<Envelope, WalletError> {
        Err(WalletError::Signing("not here".into()))
    }
    async fn hold_invoice(&self, request: HoldRequest) -> Result<Invoice, WalletError> {
        Ok(test_invoice(request.hash, request.amount.msat(), u64::from(request.final_cltv), 1))
    }
    async fn invoice(&self, amount: Msat, _: String, _: Duration) -> Result<Invoice, WalletError> {
        let mut script = self.script();
        script.invoices += 1;
        let hash = Preimage::from_bytes([script.invoices; 32]).hash();
        Ok(test_invoice(hash, amount.msat(), 42, 1))
    }
    async fn pay_offer(&self, _: &Offer, _: Msat, _: String, _: PayLimits) -> Result<(), WalletError> {
        Err(WalletError::NotSent("not here"))
    }
    async fn offer_payment(&self, _: String) -> Result<Option<OfferPayment>, WalletError> {
        Ok(None)
    }
    async fn pay(&self, invoice: &Invoice, _: PayLimits) -> Result<(), WalletError> {
        let mut script = self.script();
        script.asked.push(invoice.hash());
        match script.pay.pop_front() {
            Some(e) => Err(e),
            None => {
                script.outgoing.insert(invoice.hash(), Outgoing::Pending);
                Ok(())
            }
        }
    }
    async fn claim(&self, _: PaymentHash, _: Msat, _: Preimage) -> Result<(), WalletError> {
        Ok(())
    }
    async fn fail(&self, _: PaymentHash) -> Result<(), WalletError> {
        Ok(())
    }
    async fn outgoing(&self, hash: PaymentHash) -> Result<Option<Outgoing>, WalletError> {
        Ok(self.script().outgoing.get(&hash).copied())
    }
    async fn forget(&self, hashes: Vec<PaymentHash>) -> Result<Vec<PaymentHash>, WalletError> {
        let mut script = self.script();
        for hash in &hashes {
            script.outgoing.remove(hash);
        }
        Ok(hashes)
    }
    async fn incoming(&self, hash: PaymentHash) -> Result<Option<Incoming>, WalletError> {
        Ok(self.script().incoming.get(&hash).copied())
    }
    async fn lightning_payments(&self) -> Result<Vec<LightningPayment>, WalletError> {
        Ok(Vec::new())
    }
    async fn in_flight(&self) -> Result<Msat, WalletError> {
        Ok(Msat::ZERO)
    }
    async fn chain_payments(&self, known: Known) -> Result<Vec<ChainPayment>, WalletError> {
        Ok(self.script().chain.iter().filter(|p| !known(&p.txid)).cloned().collect())
    }
    async fn tip(&self) -> Result<u32, WalletError> {
        Ok(self.script().tip)
    }
    async fn chain(&self) -> Result<ChainView, WalletError> {
        let script = self.script();
        Ok(ChainView { tip: script.tip, source: script.source, heard: script.heard })
    }
    async fn balances(&self) -> Result<Balances, WalletError> {
        Ok(self.script().balances.clone())
    }
    async fn channels(&self) -> Result<Vec<Channel>, WalletError> {
        Ok(self.script().channels.clone())
    }
    async fn is_connected(&self, _: NodeId) -> Result<bool, WalletError> {
        Ok(true)
    }
    async fn connect(&self, _: NodeAddress) -> Result<(), WalletError> {
        Ok(())
    }
    async fn reconnect(&self) -> Result<(), WalletError> {
        Ok(())
    }
    async fn open_channel(&self, _: OpenChannel) -> Result<ChannelName, WalletError> {
        Err(WalletError::Funds { sats: 0, spendable: 0 })
    }
    async fn close_channel(&self, _: &Channel, _: bool) -> Result<(), WalletError> {
        Ok(())
    }
    async fn address(&self) -> Result<String, WalletError> {
        Ok(String::new())
    }
    async fn withdraw(&self, _: String, _: Withdraw) -> Result<String, WalletError> {
        self.script().withdraw.take().map_or_else(|| Ok("w1".to_owned()), Err)
    }
    async fn next_event(&self) -> Event {
        std::future::pending().await
    }
    async fn event_handled(&self) -> Result<(), WalletError> {
        Ok(())
    }
    async fn sync(&self) -> Result<(), WalletError> {
        Ok(())
    }
    async fn stop(&self) -> Result<(), WalletError> {
        Ok(())
    }
}
