//! What a payer, a payee or a stranger may try, against real nodes.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::Duration;

use common::{LIMIT, Market, ended, payee_ended, preimage, terms};
use ldk_node::bip39::Mnemonic;
use ldk_node::bitcoin::bip32::Xpriv;
use ldk_node::bitcoin::secp256k1::SECP256K1;
use ldk_node::lightning::sign::KeysManager;
use ldk_node::lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder};
use watershed_payments::escrow::{BackReason, HoldError, HoldState, LotError};
use watershed_payments::treasury::TreasuryError;
use watershed_payments::wallet::{
    HoldRequest, Invoice, InvoiceError, Network, PayLimits, Wallet as _, WalletError,
};
use watershed_protocol::Msat;

/// The invoice with another amount, final CLTV or network, signed by the payee all the same: what a payer with a program
/// of its own could pay. `seed` is the payee's.
fn altered(invoice: &Invoice, seed: u8, msat: u64, final_cltv: u64, currency: Currency) -> Invoice {
    let words = Mnemonic::from_entropy(&[seed; 32]).unwrap();
    let master = Xpriv::new_master(Network::Regtest, &words.to_seed("")).unwrap();
    let key = KeysManager::new(&master.private_key.secret_bytes(), 0, 0, true).get_node_secret_key();
    let old: Bolt11Invoice = invoice.to_string().parse().unwrap();
    let mut builder = InvoiceBuilder::new(currency)
        .payment_hash(*old.payment_hash())
        .payment_secret(*old.payment_secret())
        .description("altered".into())
        .basic_mpp()
        .duration_since_epoch(old.duration_since_epoch())
        .expiry_time(old.expiry_time())
        .min_final_cltv_expiry_delta(final_cltv)
        .amount_milli_satoshis(msat);
    for hint in old.route_hints() {
        builder = builder.private_route(hint);
    }
    let made = builder.build_signed(|m| SECP256K1.sign_ecdsa_recoverable(m, &key)).unwrap();
    assert_eq!(made.recover_payee_pub_key(), old.recover_payee_pub_key());
    made.to_string().parse().unwrap()
}

fn cheap(final_cltv: u64) -> PayLimits {
    PayLimits { max_fee: Msat::ZERO, max_cltv: u32::try_from(final_cltv).unwrap() + 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payer_that_locks_less_or_shorter_gains_nothing() {
    let market = Market::with_channel(50_000_000, 5).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let terms = terms(0, &[2_000_000, 3_000_000], 144);
    let holds = payee.accept(&terms).await.unwrap();

    // Less: the payee's node itself refuses what is below the invoice.
    let less = altered(&holds[0].invoice, 2, 1_000_000, 189, Currency::Regtest);
    payer.wallet().pay(&less, cheap(189)).await.unwrap();
    let failed = async || {
        use watershed_payments::wallet::Outgoing;
        Ok((payer.wallet().outgoing(preimage(0).hash()).await? == Some(Outgoing::Failed)).then_some(()))
    };
    payer.wait("failing", LIMIT, failed).await.unwrap();
    assert!(matches!(payee.held(terms.subject).unwrap()[0].state, HoldState::Invoiced));

    // Shorter: the node takes it, and the payee gives it back with the reason.
    let shorter = altered(&holds[1].invoice, 2, 3_000_000, 60, Currency::Regtest);
    payer.wallet().pay(&shorter, cheap(60)).await.unwrap();
    let back = async || {
        let state = payee.held(terms.subject)?.remove(1).state;
        Ok(matches!(state, HoldState::GivenBack { .. }).then_some(state))
    };
    let state = payee.wait("giving back", LIMIT, back).await.unwrap();
    let HoldState::GivenBack { reason: BackReason::WindowTooShort { found, wanted: 144 }, .. } = state else {
        unreachable!("{state:?}")
    };
    assert!(found < 60);
    // Nobody can be talked into giving the secret out for either.
    let early = payee.settle(&[preimage(0)]).await;
    assert!(matches!(early, Err(TreasuryError::Hold(HoldError::NotHeld(_)))), "{early:?}");
    let late = payee.settle(&[preimage(1)]).await;
    assert!(matches!(late, Err(TreasuryError::Hold(HoldError::WentBack { .. }))), "{late:?}");

    // Terms under an old subject or with an old secret are refused.
    let other = common::terms(0, &[2_000_000, 3_000_001], 144);
    assert!(matches!(payee.accept(&other).await, Err(TreasuryError::OtherTerms(_))));
    let mut reused = common::terms(10, &[2_000_000], 144);
    reused.lots[0].hash = preimage(0).hash();
    assert!(matches!(payee.accept(&reused).await, Err(TreasuryError::HashUsed(_))));
    // The altered payments went past the books, and came back.
    market.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payee_that_asks_for_more_or_lies_is_not_paid() {
    let market = Market::with_channel(50_000_000, 5).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let terms = terms(0, &[2_000_000], 144);
    payer.offer(&market.offer(&terms)).unwrap();
    let invoice = payee.accept(&terms).await.unwrap().remove(0).invoice;
    let lock = async |invoice: Invoice| match payer.lock(terms.subject, &[invoice]).await {
        Err(TreasuryError::Lot(LotError::Invoice(e))) => e,
        other => unreachable!("{other:?}"),
    };
    let more = lock(altered(&invoice, 2, 2_000_001, 189, Currency::Regtest)).await;
    assert!(matches!(more, InvoiceError::Amount { .. }));
    let longer = lock(altered(&invoice, 2, 2_000_000, 1000, Currency::Regtest)).await;
    assert!(matches!(longer, InvoiceError::FinalCltv { .. }));
    let network = lock(altered(&invoice, 2, 2_000_000, 189, Currency::Signet)).await;
    assert!(matches!(network, InvoiceError::Network { .. }));
    let stranger =
        payer.wallet().invoice(Msat::new(2_000_000), "x".into(), Duration::from_secs(60)).await.unwrap();
    let other = payer.lock(terms.subject, &[stranger]).await;
    assert!(matches!(other, Err(TreasuryError::Invoice(InvoiceError::Hash { .. }))), "{other:?}");
    assert!(matches!(payer.lock(terms.subject, &[]).await, Err(TreasuryError::InvoiceCount { .. })));
    // the payee's own, for another secret, or for too short a time
    let hold = async |secret: u32, seconds| {
        let request = HoldRequest {
            hash: preimage(secret).hash(),
            amount: Msat::new(2_000_000),
            description: "lot".into(),
            expiry: Duration::from_secs(seconds),
            final_cltv: 189,
        };
        payee.wallet().hold_invoice(request).await.unwrap()
    };
    let wrong = payer.lock(terms.subject, &[hold(9, 3600).await]).await;
    let Err(TreasuryError::Invoice(InvoiceError::Hash { found, wanted })) = wrong else {
        unreachable!("{wrong:?}")
    };
    assert_eq!((found, wanted), (preimage(9).hash(), preimage(0).hash()));
    let short = hold(0, 1).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(matches!(lock(short).await, InvoiceError::Expired(_)));
    // a lock that is not there
    let lie = payer.confirm(terms.subject, &[(preimage(0).hash(), 300)]).await;
    assert!(matches!(lie, Err(TreasuryError::Lot(LotError::NotInFlight { .. }))), "{lie:?}");
    payer.lock(terms.subject, &[invoice]).await.unwrap();
    let deadlines = common::held(payee, &terms).await;
    let lie = payer.confirm(terms.subject, &[(preimage(0).hash(), deadlines[0].1 + 50)]).await;
    assert!(matches!(lie, Err(TreasuryError::Lot(LotError::DeadlineLie { .. }))), "{lie:?}");
    payer.confirm(terms.subject, &deadlines).await.unwrap();
    // the offer cannot be withdrawn any more, nor the channel closed over the payee's head
    let withdrawn = payer.withdraw_offer(terms.subject);
    assert!(matches!(withdrawn, Err(TreasuryError::Lot(LotError::NotWithdrawable { .. }))));
    let released = payer.release(market.payee.address.id, false).await;
    assert!(matches!(released, Err(TreasuryError::LotsOpen { open: 1, .. })));
    payee.settle(&[preimage(0)]).await.unwrap();
    ended(payer, terms.subject).await;
    payee_ended(payee, terms.subject).await;
    market.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_secret_is_paid_for_once() {
    let market = Market::with_channel(50_000_000, 5).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let terms = terms(0, &[2_000_000], 144);
    market.lock(&terms).await.unwrap();
    let invoice = payee.held(terms.subject).unwrap().remove(0).invoice;
    let pay_again = async || payer.wallet().pay(&invoice, cheap(189)).await;
    assert!(matches!(pay_again().await, Err(WalletError::AlreadyPaying)));
    // neither as another escrow nor as a payment
    let mut reused = common::terms(10, &[2_000_000], 144);
    reused.lots[0].hash = preimage(0).hash();
    let refused = payer.offer(&market.offer(&reused));
    assert!(matches!(refused, Err(TreasuryError::HashUsed(_))), "{refused:?}");
    let refused = payer.pay_out(&invoice, Msat::ZERO, common::operator()).await;
    assert!(matches!(refused, Err(TreasuryError::HashUsed(_))), "{refused:?}");

    payee.settle(&[preimage(0)]).await.unwrap();
    ended(payer, terms.subject).await;
    payee_ended(payee, terms.subject).await;
    assert!(matches!(pay_again().await, Err(WalletError::AlreadyPaying)));
    // Even a payer that has forgotten it is not paid for twice: the payee's node gives it back.
    let forgotten = async || {
        // not while the HTLC is still being taken out of the channel
        let gone = payer.wallet().forget(vec![preimage(0).hash()]).await?;
        Ok((!gone.is_empty()).then_some(()))
    };
    payer.wait("forgetting", LIMIT, forgotten).await.unwrap();
    if pay_again().await.is_ok() {
        let back = async || {
            use watershed_payments::wallet::Outgoing;
            Ok((payer.wallet().outgoing(preimage(0).hash()).await? == Some(Outgoing::Failed)).then_some(()))
        };
        payer.wait("failing", LIMIT, back).await.unwrap();
    }
    use watershed_payments::store::Store as _;
    assert_eq!(payee.store().balances().unwrap()[&common::operator()], -2_000_000);
    common::agrees(payee).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_does_not_fit_is_known_before_anything_is_sent() {
    let market = Market::with_channel(160_000_000, 60).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let capacity = payer.capacity(market.payee.address.id).await.unwrap();
    assert_eq!((capacity.channels, capacity.free_htlcs), (2, 100), "60 lots take two channels");
    // the payee's side takes the whole of each channel in flight
    for channel in payer.wallet().channels().await.unwrap() {
        let takes = channel.peer_takes.unwrap();
        assert!(
            takes.msat() >= channel.sats * 1000 - channel.peer_reserve.msat() - channel.reserve.msat(),
            "{takes}"
        );
    }
    let sixty = terms(0, &[2_500_000; 60], 1900);
    market.lock(&sixty).await.unwrap();
    let deadline = common::held(payee, &sixty).await[0].1;
    assert!(deadline - payee.wallet().tip().await.unwrap() >= 1900, "two weeks, nearly");
    assert_eq!(payer.capacity(market.payee.address.id).await.unwrap().free_htlcs, 40);

    let more = terms(100, &[1_000; 41], 144);
    payer.offer(&market.offer(&more)).unwrap();
    let invoices: Vec<_> = payee.accept(&more).await.unwrap().into_iter().map(|h| h.invoice).collect();
    let refused = payer.lock(more.subject, &invoices).await;
    assert!(matches!(refused, Err(TreasuryError::Slots { needed: 41, free: 40, .. })), "{refused:?}");
    let large = terms(200, &[600_000_000], 144);
    payer.offer(&market.offer(&large)).unwrap();
    let invoice = payee.accept(&large).await.unwrap().remove(0).invoice;
    let refused = payer.lock(large.subject, &[invoice]).await;
    assert!(matches!(refused, Err(TreasuryError::Spendable { .. })), "{refused:?}");
    // both channels together have it, none has it alone
    let capacity = payer.capacity(market.payee.address.id).await.unwrap();
    assert!(capacity.largest < capacity.spendable);
    let wide = terms(210, &[capacity.largest.msat() + 1], 144);
    payer.offer(&market.offer(&wide)).unwrap();
    let invoice = payee.accept(&wide).await.unwrap().remove(0).invoice;
    let refused = payer.lock(wide.subject, &[invoice]).await;
    assert!(matches!(refused, Err(TreasuryError::Largest { .. })), "{refused:?}");
    let small = terms(250, &[2_000_000; 26], 144);
    payer.offer(&market.offer(&small)).unwrap();
    let invoices: Vec<_> = payee.accept(&small).await.unwrap().into_iter().map(|h| h.invoice).collect();
    let refused = payer.lock(small.subject, &invoices).await;
    assert!(matches!(refused, Err(TreasuryError::Dust { .. })), "{refused:?}");
    let long = terms(300, &[1_000], 1972);
    assert!(payee.accept(&long).await.unwrap_err().to_string().contains("2016"));
    let poor = watershed_payments::treasury::Offer {
        budget: "budget/none".parse().unwrap(),
        ..market.offer(&terms(400, &[1_000], 144))
    };
    payer.offer(&poor).unwrap();
    let invoice = payee.accept(&poor.terms).await.unwrap().remove(0).invoice;
    let refused = payer.lock(poor.terms.subject, &[invoice]).await;
    assert!(matches!(refused, Err(TreasuryError::Budget { .. })), "{refused:?}");

    payee.give_back(sixty.subject, None, "enough").await.unwrap();
    ended(payer, sixty.subject).await;
    market.agree().await;
}
