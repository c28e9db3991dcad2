//! What a real node does too rarely to be waited for: unknown outcomes, lost records, withdrawals at the wrong moment.

use std::time::Duration;

use watershed_protocol::{Msat, Preimage, Subject};

use super::fake::{Fake, NOW, PAYEE, balance, credit, treasury};
use super::{Looked, Offer, PayoutState, REMEMBERED, TreasuryError, Withdrawal, WithdrawalState};
use crate::escrow::{CameBack, Hold, HoldState, LotState, LotTerms, Purpose, Terms, test_invoice, test_node};
use crate::l402::Cashier as _;
use crate::ledger::{Account, Name};
use crate::store::{Filter, NodeMemory, list};
use crate::treasury::Till;
use crate::wallet::ldk::LIMITS;
use crate::wallet::{
    ChainPayment, ChainTrouble, Event, Incoming, Invoice, InvoiceError, Outgoing, Wallet as _, WalletError,
    Withdraw,
};

const AMOUNT: u64 = 5_000_000;

fn secret() -> Preimage {
    Preimage::from_bytes([3; 32])
}

fn subject() -> Subject {
    Subject::from_bytes([1; 32])
}

fn invoice() -> Invoice {
    test_invoice(secret().hash(), AMOUNT, 189, PAYEE)
}

/// What LDK Node says when it has sent a payment and cannot write it down.
fn full_disk() -> WalletError {
    WalletError::Node { action: "pay", reason: "Failed to persist data.".into() }
}

fn refused() -> WalletError {
    WalletError::NotSent("no usable channel")
}

fn sent(preimage: Preimage) -> Event {
    Event::Sent { hash: secret().hash(), preimage, fee: Msat::ZERO }
}

/// Offered and locked, with these answers of the node.
async fn locked(answers: Vec<WalletError>) -> (tempfile::TempDir, Fake) {
    let (dir, money, _) = treasury(1_000_000_000);
    let lots = vec![LotTerms { hash: secret().hash(), amount: Msat::new(AMOUNT) }];
    let terms = Terms { subject: subject(), window: 144, lots };
    let earner = Account::Miner("ada".parse().unwrap());
    money.offer(&Offer { terms, payee: test_node(PAYEE), budget: Account::Operator, earner }).unwrap();
    money.wallet().script().pay = answers.into();
    money.lock(subject(), &[invoice()]).await.unwrap();
    (dir, money)
}

fn state(money: &Fake) -> LotState {
    money.escrow(subject()).unwrap().remove(0).state
}

fn is_paying(money: &Fake) -> bool {
    matches!(state(money), LotState::Paying { .. })
}

async fn turn(money: &Fake, tip: u32) {
    money.wallet().script().tip = tip;
    money.turn(&mut Looked::default()).await.unwrap();
}

#[tokio::test]
async fn only_proof_that_nothing_was_sent_brings_a_lot_back() {
    let (_dir, money) = locked(vec![refused()]).await;
    assert!(matches!(state(&money), LotState::CameBack { how: CameBack::NotSent { .. } }));
    assert_eq!(balance(&money, &Account::Escrow), 0);

    let (_dir, money) = locked(vec![full_disk()]).await;
    assert!(is_paying(&money), "it may be in flight: {:?}", state(&money));
    assert_eq!(balance(&money, &Account::Escrow), 5_000_000);
    // Asked again, the node refuses for want of a route, which says nothing of the first time; it noted a failure.
    money.wallet().script().pay.push_back(refused());
    money.wallet().script().outgoing.insert(secret().hash(), Outgoing::Pending);
    money.wallet().script().outgoing.clear();
    turn(&money, 101).await;
    assert!(is_paying(&money));
    // Without a usable channel it is not asked at all.
    money.wallet().script().channels.clear();
    turn(&money, 102).await;
    assert_eq!(money.wallet().script().asked.len(), 2);
    money.wallet().script().channels.push(super::fake::channel(500_000_000));
    money.wallet().script().pay.push_back(WalletError::AlreadyPaying);
    turn(&money, 110).await;
    turn(&money, 111).await;
    assert_eq!(money.wallet().script().asked.len(), 3, "now it is known to be on its way");
    let LotState::Paying { latest_deadline, .. } = state(&money) else { unreachable!() };
    assert_eq!(latest_deadline, LIMITS.latest_deadline(110, 189), "it may have been sent only now");
    // The node has no record of it and tells of its success all the same.
    assert!(money.handle(&sent(Preimage::from_bytes([4; 32]))).await.is_err(), "no proof");
    assert!(is_paying(&money));
    money.handle(&sent(secret())).await.unwrap();
    assert!(matches!(state(&money), LotState::Settled { .. }));
    assert_eq!((balance(&money, &Account::Escrow), balance(&money, &Account::Channels)), (0, -5_000_000));
    money.handle(&sent(secret())).await.unwrap();
    assert_eq!(balance(&money, &Account::Operator), -995_000_000, "once");
}

#[tokio::test]
async fn a_lot_that_was_thought_to_be_back_is_paid_by_its_preimage() {
    let (_dir, money) = locked(vec![refused()]).await;
    money.handle(&sent(secret())).await.unwrap();
    assert!(matches!(state(&money), LotState::Settled { .. }));
    assert_eq!((balance(&money, &Account::Escrow), balance(&money, &Account::Channels)), (0, -5_000_000));
    let again = money.lock(subject(), &[invoice()]).await.unwrap();
    assert!(matches!(again[0].state, LotState::Settled { .. }), "and is not paid twice");
    assert_eq!(money.wallet().script().asked.len(), 1);
}

#[tokio::test]
async fn a_failure_counts_without_a_record_if_there_was_one_attempt() {
    let failed = Event::Failed { hash: secret().hash(), reason: "no".into() };
    let (_dir, money) = locked(vec![full_disk()]).await;
    money.handle(&failed).await.unwrap();
    assert!(matches!(state(&money), LotState::CameBack { how: CameBack::Failed }));
    money.wallet().script().pay.push_back(full_disk());
    money.lock(subject(), &[invoice()]).await.unwrap();
    money.handle(&failed).await.unwrap();
    assert!(is_paying(&money), "it may be news of the first attempt");
}

#[tokio::test]
async fn what_the_node_lost_ends_when_nothing_of_it_can_be_in_flight() {
    for known in [false, true] {
        let (_dir, money) = locked(vec![]).await;
        if !known {
            money.wallet().script().outgoing.clear();
        }
        let end = LIMITS.resolved(LIMITS.latest_deadline(100, 189));
        turn(&money, end - 1).await;
        assert!(is_paying(&money), "{known}");
        turn(&money, end).await;
        assert!(matches!(state(&money), LotState::CameBack { .. }), "{known}");
        assert_eq!(balance(&money, &Account::Escrow), 0);
        assert!(money.wallet().script().outgoing.is_empty(), "the node forgets it too");
    }
}

#[tokio::test]
async fn a_restart_asks_again_for_what_the_node_never_heard_of() {
    let (_dir, money) = locked(vec![full_disk()]).await;
    *money.moving() = super::Moving::default();
    money.resume().await.unwrap();
    turn(&money, 101).await;
    assert_eq!(money.wallet().script().outgoing[&secret().hash()], Outgoing::Pending);
    assert!(is_paying(&money) && money.moving().unknown.is_empty());
}

#[tokio::test]
async fn a_payout_is_booked_back_only_with_proof_and_has_an_end() {
    let (_dir, money, time) = treasury(1_000_000_000);
    let pay = async || money.pay_out(&invoice(), Msat::new(1000), Account::Operator).await.unwrap().state;
    money.wallet().script().pay.push_back(refused());
    assert!(matches!(pay().await, PayoutState::Failed { .. }));
    money.wallet().script().pay.push_back(full_disk());
    assert_eq!(pay().await, PayoutState::Paying);
    assert_eq!(balance(&money, &Account::Escrow), 5_000_000);
    // The invoice expires, so it is not asked for again; nor is it given up while it may be in flight.
    *time.lock().unwrap() = NOW + Duration::from_secs(4000);
    let over = LIMITS.expired(100 + 1008);
    turn(&money, over - 1).await;
    assert_eq!(money.payout(secret().hash()).unwrap().state, PayoutState::Paying);
    turn(&money, over).await;
    assert!(matches!(money.payout(secret().hash()).unwrap().state, PayoutState::Failed { .. }));
    assert_eq!((balance(&money, &Account::Escrow), balance(&money, &Account::Channels)), (0, 0));
    assert_eq!(money.wallet().script().asked.len(), 2);
    // And even then the preimage proves that it was paid.
    money.handle(&sent(secret())).await.unwrap();
    assert!(matches!(money.payout(secret().hash()).unwrap().state, PayoutState::Paid { .. }));
    assert_eq!(balance(&money, &Account::Operator), -995_000_000);
}

#[tokio::test]
async fn one_hash_is_paid_for_one_thing() {
    let (_dir, money) = locked(vec![]).await;
    let twice = money.pay_out(&invoice(), Msat::ZERO, Account::Operator).await;
    assert!(matches!(twice, Err(TreasuryError::HashUsed(_))), "{twice:?}");
    let (_dir, money, _) = treasury(1_000_000_000);
    money.pay_out(&invoice(), Msat::ZERO, Account::Operator).await.unwrap();
    let lots = vec![LotTerms { hash: secret().hash(), amount: Msat::new(AMOUNT) }];
    let terms = Terms { subject: subject(), window: 144, lots };
    let (payee, budget) = (test_node(PAYEE), Account::Operator);
    let twice = money.offer(&Offer { terms, payee, budget, earner: "miner/ada".parse().unwrap() });
    assert!(matches!(twice, Err(TreasuryError::HashUsed(_))), "{twice:?}");
}

#[tokio::test]
async fn the_node_forgets_what_ended_a_day_ago_and_our_record_stays() {
    let (_dir, money) = locked(vec![]).await;
    money.handle(&sent(secret())).await.unwrap();
    money.wallet().script().outgoing.insert(secret().hash(), Outgoing::Failed);
    turn(&money, 105).await;
    turn(&money, 105 + REMEMBERED - 1).await;
    assert_eq!(money.wallet().script().outgoing.len(), 1);
    turn(&money, 105 + REMEMBERED).await;
    assert!(money.wallet().script().outgoing.is_empty());
    assert!(list::<crate::escrow::Lot>(money.store(), Filter::Kept).unwrap().is_empty());
    let again = money.lock(subject(), &[invoice()]).await.unwrap();
    assert!(matches!(again[0].state, LotState::Settled { .. }));
    assert_eq!(money.wallet().script().asked.len(), 1, "it is not paid twice");

    // One that came back may be locked again, and then the node has to remember it.
    let (_dir, money) = locked(vec![refused()]).await;
    turn(&money, 105).await;
    turn(&money, 105 + REMEMBERED).await;
    money.lock(subject(), &[invoice()]).await.unwrap();
    turn(&money, 105 + 2 * REMEMBERED).await;
    assert!(is_paying(&money) && money.wallet().script().outgoing.len() == 1);
}

fn left(txid: &str, sats: u64, fee: u64) -> ChainPayment {
    ChainPayment {
        txid: txid.into(),
        outgoing: true,
        amount: Msat::from_sat(sats).unwrap(),
        fee: Msat::from_sat(fee).unwrap(),
        confirmed: false,
    }
}

fn withdrawals(money: &Fake) -> Vec<WithdrawalState> {
    list::<Withdrawal>(money.store(), Filter::Latest(9))
        .unwrap()
        .into_iter()
        .map(|w| w.record.state)
        .collect()
}

#[tokio::test]
async fn a_withdrawal_is_the_operators_with_its_fee_and_no_more_than_that() {
    let (_dir, money, _) = treasury(100_000_000);
    credit(&money, &"sponsor/bo".parse().unwrap(), 900_000_000);
    money.wallet().script().balances.on_chain_spendable_sats = 1_000_000;
    let all = money.withdraw("a".into(), Withdraw::All).await;
    assert!(matches!(all, Err(TreasuryError::Budget { .. })), "nine tenths are the sponsor's: {all:?}");
    let close = money.withdraw("a".into(), Withdraw::Sats(90_000)).await;
    assert!(matches!(close, Err(TreasuryError::Budget { .. })), "there is no room for the fee: {close:?}");
    money.wallet().script().withdraw = Some(full_disk());
    assert!(money.withdraw("a".into(), Withdraw::Sats(60_000)).await.is_err());
    assert!(matches!(withdrawals(&money)[..], [WithdrawalState::Failed { .. }]));
    assert_eq!(money.withdraw("a".into(), Withdraw::Sats(60_000)).await.unwrap(), "w1");
    assert_eq!(money.available(&Account::Operator).unwrap(), Msat::new(20_000_000), "spoken for");
    let twice = money.withdraw("a".into(), Withdraw::Sats(30_000)).await;
    assert!(matches!(twice, Err(TreasuryError::Budget { .. })));
    money.wallet().script().chain.push(left("w1", 60_000, 141));
    turn(&money, 101).await;
    assert_eq!(balance(&money, &Account::Operator), -39_859_000);
    assert_eq!(balance(&money, &Account::OnChainFees), 0);
    assert!(matches!(&withdrawals(&money)[0], WithdrawalState::Booked { txid } if txid == "w1"));
    // Now all that can be spent is the operator's.
    money.wallet().script().balances.on_chain_spendable_sats = 39_000;
    money.withdraw("a".into(), Withdraw::All).await.unwrap();
}

#[tokio::test]
async fn a_withdrawal_whose_answer_was_lost_is_found_by_its_amount_or_given_up() {
    let (_dir, money, _) = treasury(1_000_000_000);
    let asked = |id: &str, sats| Withdrawal {
        id: id.into(),
        address: "a".into(),
        sats,
        all: false,
        tip: 100,
        state: WithdrawalState::Asked,
    };
    let mut change = crate::store::Change::new();
    change.put(&asked("1", 60_000), 0).unwrap();
    change.put(&asked("2", 70_000), 0).unwrap();
    money.commit(&change).unwrap();
    money.wallet().script().chain.push(left("x", 70_000, 200));
    turn(&money, 105).await;
    assert_eq!(balance(&money, &Account::Operator), -929_800_000);
    assert!(matches!(withdrawals(&money)[..], [WithdrawalState::Booked { .. }, WithdrawalState::Asked]));
    turn(&money, 106).await;
    assert!(matches!(withdrawals(&money)[..], [_, WithdrawalState::Failed { .. }]));
    assert_eq!(money.available(&Account::Operator).unwrap(), Msat::new(929_800_000));
}

#[tokio::test]
async fn unpaid_pledges_and_invoices_are_bounded_and_forgotten() {
    let (_dir, money, time) = treasury(0);
    let names: Vec<Name> = (0..11).map(|n| format!("run-{n}").parse().unwrap()).collect();
    let pledge = async |name: &Name| {
        money.pledge_with_random_secret(name, "ada".parse().unwrap(), Msat::new(1000)).await
    };
    for name in &names {
        money.start_campaign(name.clone(), Msat::new(1_000_000), 144, None).unwrap();
    }
    // One write for all of them: each would be one of its own.
    let unpaid = async |name: &Name, count: u16| {
        let mut change = crate::store::Change::new();
        for n in 0..count {
            let mut secret = [0; 32];
            secret[..name.as_ref().len()].copy_from_slice(name.as_ref().as_bytes());
            secret[30..].copy_from_slice(&n.to_le_bytes());
            let preimage = Preimage::from_bytes(secret);
            let (hash, amount) = (preimage.hash(), Msat::new(1000));
            let purpose =
                Purpose::Pledge { campaign: name.clone(), sponsor: "bo".parse().unwrap(), preimage };
            let invoice = test_invoice(hash, 1000, 189, 1);
            let (state, memory) = (HoldState::Invoiced, NodeMemory::Needed);
            change.put(&Hold { hash, purpose, amount, window: 144, invoice, state, memory }, 0).unwrap();
        }
        money.commit(&change).unwrap();
    };
    unpaid(&names[0], 99).await;
    pledge(&names[0]).await.unwrap();
    assert!(matches!(pledge(&names[0]).await, Err(TreasuryError::TooManyPledges { most: 100 })));
    for name in &names[1..10] {
        unpaid(name, 100).await;
    }
    assert!(matches!(pledge(&names[10]).await, Err(TreasuryError::TooManyPledges { most: 1000 })));
    let till = Till::new(money.clone(), Account::Commons);
    let invoice = async || till.invoice(Msat::new(1000), "x".into(), 3600).await;
    for _ in 0..60 {
        invoice().await.unwrap();
    }
    let busy = invoice().await.unwrap_err();
    assert_eq!(Till::<super::fake::FakeWallet, crate::store::SqliteStore>::retry_after(&busy), Some(1));

    *time.lock().unwrap() = NOW + Duration::from_secs(3600 + 300);
    let kept = || {
        let holds = list::<Hold>(money.store(), Filter::Latest(u32::MAX)).unwrap().len();
        (holds, list::<super::Request>(money.store(), Filter::Latest(u32::MAX)).unwrap().len())
    };
    turn(&money, 101).await;
    assert_eq!(kept(), (1000, 60));
    pledge(&names[10]).await.unwrap();
    turn(&money, 106).await;
    assert_eq!(kept(), (1001, 60));
    turn(&money, 107).await;
    assert_eq!(kept(), (1, 0), "what nobody paid leaves nothing");
}

#[tokio::test]
async fn a_wallet_that_does_not_follow_its_bitcoind_is_known_to_the_treasury() {
    let (_dir, money, time) = treasury(0);
    let look = async |seconds: u64| {
        *time.lock().unwrap() = NOW + Duration::from_secs(seconds);
        money.wallet().script().heard = Some(NOW.as_secs() + seconds);
        money.watch_chain().await.unwrap();
        money.chain_trouble()
    };
    money.wallet().script().source = Some(107);
    for seconds in (0..180).step_by(10) {
        assert_eq!(look(seconds).await, None, "after {seconds} s");
    }
    assert_eq!(look(180).await, Some(ChainTrouble::Lost { tip: 100, bitcoind: 107 }));
    money.wallet().script().tip = 107;
    assert_eq!(look(190).await, None);
}

#[tokio::test]
async fn a_wallet_pays_neither_its_own_invoice_nor_itself() {
    let (_dir, money, _) = treasury(1_000_000_000);
    let own = test_invoice(secret().hash(), AMOUNT, 42, 1);
    assert_eq!(own.payee(), money.wallet().node_id());
    let refused = money.pay_out(&own, Msat::new(1000), Account::Operator).await.unwrap_err();
    assert!(matches!(refused, TreasuryError::Invoice(InvoiceError::Own)), "{refused}");
    assert!(money.payout(secret().hash()).is_err(), "nothing is written down");
    let me = money.wallet().node_id();
    let lots = vec![LotTerms { hash: secret().hash(), amount: Msat::new(AMOUNT) }];
    let terms = Terms { subject: subject(), window: 144, lots };
    let earner = Account::Miner("ada".parse().unwrap());
    let refused = money.offer(&Offer { terms, payee: me, budget: Account::Operator, earner }).unwrap_err();
    assert!(matches!(refused, TreasuryError::Wallet(WalletError::Itself)), "{refused}");
    let peer = format!("{me}@127.0.0.1:9735").parse().unwrap();
    let refused = money.ensure_capacity(&peer, Msat::new(1), 1).await.unwrap_err();
    assert!(matches!(refused, TreasuryError::Wallet(WalletError::Itself)), "{refused}");
    assert!(money.wallet().script().asked.is_empty());
}

/// LDK Node refuses a hash as paid already also if the payment that it has is one to itself.
#[tokio::test]
async fn already_paying_is_believed_only_of_a_payment_of_ours() {
    let paid = async |outgoing: Option<Outgoing>, incoming: Option<Incoming>| {
        let (dir, money, _) = treasury(1_000_000_000);
        {
            let mut script = money.wallet().script();
            script.pay.push_back(WalletError::AlreadyPaying);
            script.outgoing.extend(outgoing.map(|o| (secret().hash(), o)));
            script.incoming.extend(incoming.map(|i| (secret().hash(), i)));
        }
        let payout = money.pay_out(&invoice(), Msat::new(1000), Account::Operator).await.unwrap();
        drop(dir);
        (payout.state, balance(&money, &Account::Escrow))
    };
    let locked = i64::try_from(AMOUNT).unwrap();
    assert_eq!(paid(Some(Outgoing::Pending), None).await, (PayoutState::Paying, locked));
    assert_eq!(paid(None, None).await, (PayoutState::Paying, locked), "the node may know the HTLC only");
    for incoming in [Incoming::Pending, Incoming::Succeeded, Incoming::Failed] {
        let (state, locked) = paid(None, Some(incoming)).await;
        assert!(matches!(state, PayoutState::Failed { .. }), "{incoming:?}: {state:?}");
        assert_eq!(locked, 0);
    }

    let (_dir, money) = locked_with(Incoming::Pending).await;
    assert!(
        matches!(state(&money), LotState::CameBack { how: CameBack::NotSent { .. } }),
        "{:?}",
        state(&money)
    );
    assert_eq!(balance(&money, &Account::Escrow), 0);
}

/// A lot that the node will not send, as it has a payment to itself with its hash.
async fn locked_with(incoming: Incoming) -> (tempfile::TempDir, Fake) {
    let (dir, money, _) = treasury(1_000_000_000);
    let lots = vec![LotTerms { hash: secret().hash(), amount: Msat::new(AMOUNT) }];
    let terms = Terms { subject: subject(), window: 144, lots };
    let earner = Account::Miner("ada".parse().unwrap());
    money.offer(&Offer { terms, payee: test_node(PAYEE), budget: Account::Operator, earner }).unwrap();
    money.wallet().script().pay.push_back(WalletError::AlreadyPaying);
    money.wallet().script().incoming.insert(secret().hash(), incoming);
    money.lock(subject(), &[invoice()]).await.unwrap();
    (dir, money)
}
