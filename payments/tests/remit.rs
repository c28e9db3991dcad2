//! Paying what is owed to offers and Lightning addresses: real nodes, a real server.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "remit/lnurl.rs"]
mod lnurl;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{LIMIT, Money, Party, agrees};
use watershed_payments::ledger::{Account, Name};
use watershed_payments::regtest::Bitcoind;
use watershed_payments::store::{Record as _, Store as _};
use watershed_payments::treasury::{RemitState, Remittance};
use watershed_payments::wallet::{
    AddressClient, AddressError, Destination, InvoiceError, Network, Wallet as _,
};
use watershed_protocol::Msat;

fn sponsor(name: &str) -> Account {
    Account::Sponsor(name.parse::<Name>().unwrap())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Msat that came in over Lightning.
async fn received(money: &Money) -> u64 {
    let all = money.wallet().lightning_payments().await.unwrap();
    all.iter().filter(|p| !p.outgoing && p.succeeded).map(|p| p.amount.msat()).sum()
}

/// Owes a sponsor an amount.
fn owe(house: &Money, name: &str, msat: u64) {
    house.transfer(&format!("owed/{name}"), &Account::Operator, &sponsor(name), Msat::new(msat), "").unwrap();
}

async fn settled(house: &Money, key: &str, addresses: &AddressClient) -> Remittance {
    house.settle_remittance(key, addresses, LIMIT).await.unwrap().unwrap()
}

fn paid(r: &Remittance) -> u64 {
    match &r.state {
        RemitState::Paid { amount, preimage, payment, .. } => {
            assert_eq!(preimage.hash(), *payment);
            amount.msat()
        }
        other => unreachable!("{other:?}"),
    }
}

struct House {
    bitcoind: Bitcoind,
    house: Party,
    ada: Party,
    dir: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bitcoind = Bitcoind::start(&dir.path().join("bitcoind")).await.unwrap();
        let house = Party::start(&dir.path().join("house"), bitcoind.source(), None, 1).await;
        let ada = Party::start(&dir.path().join("ada"), bitcoind.source(), None, 2).await;
        let address = house.money.wallet().address().await.unwrap();
        bitcoind.rpc().fund(&address).await.unwrap();
        bitcoind.rpc().seen_by(house.money.wallet()).await.unwrap();
        house.money.book_chain().await.unwrap();
        Self { bitcoind, house, ada, dir }
    }

    async fn mine(&self, blocks: u32, also: &[&Party]) {
        self.bitcoind.rpc().mine(blocks).await.unwrap();
        for party in [&self.house, &self.ada].into_iter().chain(also.iter().copied()) {
            self.bitcoind.rpc().seen_by(party.money.wallet()).await.unwrap();
        }
    }

    /// A channel of the house's to a node, usable.
    async fn channel(&self, to: &Party, public: bool) {
        let house = &self.house.money;
        let before = house.wallet().channels().await.unwrap().iter().filter(|c| c.usable).count();
        if public {
            house.open_public_channel(&to.address, 1_000_000).await.unwrap();
        } else {
            house.open_channel(&to.address, 1_000_000).await.unwrap();
        }
        let end = std::time::Instant::now() + LIMIT;
        while house.wallet().channels().await.unwrap().iter().filter(|c| c.usable).count() == before {
            assert!(std::time::Instant::now() < end, "no channel");
            self.mine(1, &[to]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_offer_and_an_address_are_paid_to_the_millisatoshi() {
    let mut world = House::open().await;
    let addresses = AddressClient::new(true).unwrap();
    world.channel(&world.ada, false).await;
    let house = world.house.money.clone();

    // Between two nodes that know nobody but each other, over a channel that nobody else knows of.
    let offer = world.ada.money.wallet().offer("refunds".into()).await.unwrap();
    let to: Destination = offer.to_string().parse().unwrap();
    to.check_lasting(&addresses, Network::Regtest, now()).unwrap();
    assert_eq!(
        to.check_lasting(&addresses, Network::Bitcoin, now()).unwrap_err().code(),
        "destination-network"
    );
    owe(&house, "ada", 1_234_567);
    house.remit("refund/ada", sponsor("ada"), to.clone(), 16).unwrap();
    // Repeated and at the same time it is still paid once.
    let repeated = house.remit("refund/ada", sponsor("ada"), "x@example.org".parse().unwrap(), 1).unwrap();
    assert_eq!(repeated.to, to);
    let both =
        tokio::join!(settled(&house, "refund/ada", &addresses), settled(&house, "refund/ada", &addresses));
    assert_eq!((paid(&both.0), paid(&both.1)), (1_234_567, 1_234_567));
    assert_eq!(received(&world.ada.money).await, 1_234_567);
    agrees(&house).await;
    agrees(&world.ada.money).await;

    // With a second peer that the network does not know either, the payer can make no path for the answer.
    let bo = Party::start(&world.dir.path().join("bo"), world.bitcoind.source(), None, 3).await;
    world.channel(&bo, false).await;
    owe(&house, "ada-2", 50_000);
    house.remit("refund/ada-2", sponsor("ada-2"), to.clone(), 16).unwrap();
    let waits = settled(&house, "refund/ada-2", &addresses).await;
    let RemitState::Waiting { until, reason } = &waits.state else { panic!("{waits:?}") };
    assert!(reason.contains("public channel") && *until > now().as_secs(), "{waits:?}");
    assert_eq!(house.available(&sponsor("ada-2")).unwrap(), Msat::new(50_000));

    // A public channel makes both known.
    world.channel(&world.ada, true).await;
    world.mine(6, &[&bo]).await;
    let end = std::time::Instant::now() + Duration::from_secs(120);
    let done = loop {
        let done = settled(&house, "refund/ada-2", &addresses).await;
        if !done.is_open() {
            break done;
        }
        assert!(std::time::Instant::now() < end, "{done:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert_eq!(paid(&done), 50_000);
    assert!(done.attempt >= 2);

    // An address, whose server gives invoices of bo's node.
    let server = lnurl::honest(bo.money.clone()).await;
    owe(&house, "bo", 7_654_321);
    let to = Destination::Address(server.address("bo"));
    house.remit("refund/bo", sponsor("bo"), to.clone(), 16).unwrap();
    assert_eq!(paid(&settled(&house, "refund/bo", &addresses).await), 7_654_321);
    assert_eq!(received(&bo.money).await, 7_654_321);
    // All of it is paid: nothing more comes from this account, whoever asks.
    house.remit("claim/bo", sponsor("bo"), to, 1).unwrap();
    let nothing = settled(&house, "claim/bo", &addresses).await;
    assert!(matches!(&nothing.state, RemitState::GivenUp { reason } if reason == "nothing is left"));

    // Stopped while it asks: after the start the node tells what became of it.
    owe(&house, "ada-3", 77_777);
    house.remit("refund/ada-3", sponsor("ada-3"), offer.to_string().parse().unwrap(), 16).unwrap();
    let before = received(&world.ada.money).await;
    let asked = house.advance("refund/ada-3", &addresses).await.unwrap().unwrap();
    assert!(matches!(asked.state, RemitState::Asking { .. } | RemitState::Paid { .. }), "{asked:?}");
    drop(house);
    let dir = world.house.stop().await;
    world.house = Party::start(&dir, world.bitcoind.source(), None, 1).await;
    let house = world.house.money.clone();
    let end = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let r = settled(&house, "refund/ada-3", &addresses).await;
        if !r.is_open() {
            assert_eq!(paid(&r), 77_777);
            break;
        }
        assert!(std::time::Instant::now() < end, "{r:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(received(&world.ada.money).await, before + 77_777);

    for money in [&house, &world.ada.money, &bo.money] {
        agrees(money).await;
    }
    let balances = house.store().balances().unwrap();
    for name in ["ada", "ada-2", "ada-3", "bo"] {
        assert_eq!(balances[&sponsor(name)], 0, "{name}");
    }
    assert_eq!(balances.get(&Account::RoutingFees).copied().unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_paid_stays_on_the_account() {
    let world = House::open().await;
    let addresses = AddressClient::new(true).unwrap();
    world.channel(&world.ada, false).await;
    let house = world.house.money.clone();
    owe(&house, "ada", 100_000);
    // Nobody answers there.
    let nowhere: Destination = "ada@127.0.0.1:9".parse().unwrap();
    house.remit("refund/ada", sponsor("ada"), nowhere, 2).unwrap();
    let first = settled(&house, "refund/ada", &addresses).await;
    assert!(matches!(first.state, RemitState::Waiting { .. }), "{first:?}");
    let again = house.advance("refund/ada", &addresses).await.unwrap().unwrap();
    assert_eq!(again.attempt, 1, "not before its time");
    // Meanwhile an invoice claims some of it, another too much, and the first one again nothing.
    let invoice = async |msat: u64| {
        let made = world.ada.money.request(Msat::new(msat), "r".into(), LIMIT, Account::Operator).await;
        Destination::Invoice(Box::new(made.unwrap().invoice))
    };
    let good = invoice(60_000).await;
    house.remit("claim/1", sponsor("ada"), good.clone(), 1).unwrap();
    assert_eq!(paid(&settled(&house, "claim/1", &addresses).await), 60_000);
    for (key, to, why) in
        [("claim/2", invoice(40_001).await, "are left"), ("claim/3", good.clone(), "are left")]
    {
        house.remit(key, sponsor("ada"), to, 1).unwrap();
        let refused = settled(&house, key, &addresses).await;
        assert!(
            matches!(&refused.state, RemitState::GivenUp { reason } if reason.contains(why)),
            "{refused:?}"
        );
    }
    // Also for another account the same invoice is not paid, nor counted as paid.
    owe(&house, "bo", 60_000);
    house.remit("claim/4", sponsor("bo"), good, 1).unwrap();
    let refused = settled(&house, "claim/4", &addresses).await;
    assert!(
        matches!(&refused.state, RemitState::GivenUp { reason } if reason.contains("before")),
        "{refused:?}"
    );
    assert_eq!(house.available(&sponsor("bo")).unwrap(), Msat::new(60_000));
    house.remit("claim/5", sponsor("ada"), invoice(40_000).await, 1).unwrap();
    assert_eq!(paid(&settled(&house, "claim/5", &addresses).await), 40_000);
    assert_eq!(received(&world.ada.money).await, 100_000);
    agrees(&house).await;
    agrees(&world.ada.money).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_nothing_by_tricks() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("bitcoind")).await.unwrap();
    let ada = Party::start(&dir.path().join("ada"), bitcoind.source(), None, 2).await;
    let made = ada.money.request(Msat::new(5_000), "r".into(), LIMIT, Account::Operator).await.unwrap();
    let server = lnurl::hostile(made.invoice.to_string()).await;
    let (open, closed) = (AddressClient::new(true).unwrap(), AddressClient::new(false).unwrap());
    let ask = async |name: &str, msat: u64| {
        open.invoice(&server.address(name), Msat::new(msat), Network::Regtest, now()).await
    };
    for name in ["good", "moved"] {
        assert_eq!(ask(name, 5_000).await.unwrap().hash(), made.hash, "{name}");
    }
    let other = ask("good", 5_001).await.unwrap_err();
    assert!(matches!(other, AddressError::Invoice { source: InvoiceError::Amount { .. }, .. }), "{other}");
    let chain = open.invoice(&server.address("good"), Msat::new(5_000), Network::Bitcoin, now()).await;
    assert!(matches!(chain, Err(AddressError::Invoice { source: InvoiceError::Network { .. }, .. })));
    let late = now() + Duration::from_secs(3600);
    let late = open.invoice(&server.address("good"), Msat::new(5_000), Network::Regtest, late).await;
    assert!(matches!(late, Err(AddressError::Invoice { source: InvoiceError::Expired(_), .. })));
    for name in ["private", "plain", "file"] {
        let refused = ask(name, 5_000).await.unwrap_err();
        assert!(matches!(refused, AddressError::Private(_)), "{name}: {refused}");
    }
    for (name, why) in [("inside", "not asked"), ("loop", "redirect")] {
        let refused = ask(name, 5_000).await.unwrap_err();
        assert!(
            matches!(&refused, AddressError::Unreachable { reason, .. } if reason.contains(why)),
            "{refused}"
        );
    }
    assert!(matches!(ask("endless", 5_000).await, Err(AddressError::Long(_))));
    for name in ["text", "withdraw", "nobody"] {
        assert!(matches!(ask(name, 5_000).await, Err(AddressError::Answer { .. })), "{name}");
    }
    let error = ask("error", 5_000).await.unwrap_err();
    assert!(matches!(&error, AddressError::Refused { reason, .. } if reason == "closed"), "{error}");
    let junk = ask("junk", 5_000).await.unwrap_err();
    assert!(matches!(junk, AddressError::Invoice { source: InvoiceError::Form(_), .. }), "{junk}");
    for name in ["small", "large"] {
        assert!(matches!(ask(name, 5_000).await, Err(AddressError::Amount { .. })), "{name}");
    }
    // Without the tests' own permission this machine is not asked at all.
    let refused = closed.invoice(&server.address("good"), Msat::new(5_000), Network::Regtest, now()).await;
    assert!(matches!(refused, Err(AddressError::Private(_))));
}
