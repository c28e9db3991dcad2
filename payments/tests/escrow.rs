//! Every path of a lot, over real channels.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Market, agrees, ended, payee_ended, preimage, subject, terms};
use watershed_payments::escrow::{BackReason, CameBack, HoldState, LotState};
use watershed_payments::ledger::Account;
use watershed_payments::store::Store as _;
use watershed_protocol::{Msat, PublicKey, Receipt};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fresh_payee_is_paid_the_share_it_earned() {
    let market = Market::open().await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    market.agree().await;
    market.ensure(100_000_000, 6).await;
    market.agree().await;

    let terms = terms(0, &[1_001, 2_000, 4_000, 8_000_000, 16_000_000, 32_000_000], 144);
    market.lock(&terms).await.unwrap();
    market.agree().await;
    assert!(
        payer.escrow(terms.subject).unwrap().iter().all(|lot| matches!(lot.state, LotState::Locked { .. }))
    );
    let capacity = payer.capacity(market.payee.address.id).await.unwrap();
    assert_eq!((capacity.channels, capacity.free_htlcs), (1, 44));

    payee.settle(&[preimage(0), preimage(3), preimage(4)]).await.unwrap();
    payee.give_back(terms.subject, None, "not earned").await.unwrap();
    let lots = ended(payer, terms.subject).await;
    let paid: u64 =
        lots.iter().filter(|l| matches!(l.state, LotState::Settled { .. })).map(|l| l.amount.msat()).sum();
    assert_eq!(paid, 24_001_001);
    payee_ended(payee, terms.subject).await;
    market.agree().await;
    let miner = Account::Miner("payee".parse().unwrap());
    assert_eq!(payer.store().balances().unwrap()[&miner], 0, "earned and paid");
    assert_eq!(payee.store().balances().unwrap()[&Account::Operator], -24_001_001);

    // The receipt is signed by the key that signed the invoice.
    let receipts = payee.receipts(terms.subject).unwrap();
    assert_eq!(receipts.len(), 3);
    let receipt = receipts[0].open::<Receipt>().unwrap();
    assert_eq!(receipt.value().amount, Msat::new(1_001));
    assert_eq!((receipt.value().payment_hash, receipt.value().subject), (preimage(0).hash(), terms.subject));
    let node = market.payee.address.id.x_only_public_key().0.serialize();
    assert_eq!(receipt.signer(), PublicKey::from_bytes(node).unwrap());

    // The payee leaves: both sides get theirs on chain, and the cost is in the books.
    payer.release(market.payee.address.id, false).await.unwrap();
    let gone = async || Ok(payer.wallet_channels().await.is_empty().then_some(()));
    payer.wait("closing", common::LIMIT, gone).await.unwrap();
    for _ in 0..12 {
        market.mine(1).await;
        payer.book_chain().await.unwrap();
        payee.book_chain().await.unwrap();
    }
    market.agree().await;
    let (ours, theirs) = (payer.store().balances().unwrap(), payee.store().balances().unwrap());
    assert_eq!((ours[&Account::Closing], theirs[&Account::Closing]), (0, 0));
    assert_eq!(ours[&Account::Channels] + ours[&Account::ChannelReserves], 0);
    assert!(theirs[&Account::OnChain] >= 23_000_000, "{theirs:?}");
    assert!(ours[&Account::OnChainFees] > 0 && ours[&Account::OnChainFees] < 2_000_000, "{ours:?}");
}

trait Channels {
    async fn wallet_channels(&self) -> Vec<watershed_payments::wallet::Channel>;
}

impl Channels for common::Money {
    async fn wallet_channels(&self) -> Vec<watershed_payments::wallet::Channel> {
        use watershed_payments::wallet::Wallet as _;
        self.wallet().channels().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lot_that_nobody_settles_comes_back_before_its_deadline() {
    let market = Market::with_channel(50_000_000, 2).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let terms = terms(0, &[5_000_000], 144);
    market.lock(&terms).await.unwrap();
    market.mine(146).await;
    let lots = ended(payer, terms.subject).await;
    assert!(matches!(lots[0].state, LotState::CameBack { how: CameBack::TimedOut { .. } }), "{lots:?}");
    let holds = payee_ended(payee, terms.subject).await;
    let HoldState::GivenBack { reason: BackReason::Deadline { .. }, .. } = holds[0].state else {
        unreachable!("{holds:?}")
    };
    market.agree().await;
    // What a payee has given back stays given back: accepting again brings no new invoice, and what is paid for the old one
    // comes back at once.
    let again = payee.accept(&terms).await.unwrap();
    assert!(matches!(again[0].state, HoldState::GivenBack { .. }));
    payer.lock(terms.subject, &[again[0].invoice.clone()]).await.unwrap();
    let lots = ended(payer, terms.subject).await;
    assert!(matches!(lots[0].state, LotState::CameBack { how: CameBack::Failed }), "{lots:?}");
    market.agree().await;
    let refused = payee.settle(&[preimage(0)]).await.unwrap_err().to_string();
    assert!(refused.contains("went back"), "{refused}");
    assert_eq!(payer.wallet_channels().await.len(), 1, "no channel was closed over it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_sides_find_every_lot_again_after_a_restart() {
    let market = Market::with_channel(50_000_000, 3).await;
    let terms = terms(0, &[5_000_000, 6_000_000, 7_000_000], 144);
    market.lock(&terms).await.unwrap();
    let Market { bitcoind, payer, payee, dir } = market;
    let (to, chain) = (payer.address.clone(), bitcoind.source().clone());
    let (payer, payee) = (payer.stop().await, payee.stop().await);
    let payer = common::Party::start(&payer, &chain, None, 1).await;
    let payee = common::Party::start(&payee, &chain, Some(to), 2).await;
    let market = Market { bitcoind, payer, payee, dir };
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    assert!(payer.escrow(subject(0)).unwrap().iter().all(|lot| matches!(lot.state, LotState::Locked { .. })));
    payee.settle(&[preimage(0), preimage(2)]).await.unwrap();
    market.ensure(1_000, 1).await; // connects
    payee.give_back(subject(0), Some(&[preimage(1).hash()]), "no").await.unwrap();
    let states: Vec<_> = ended(payer, subject(0)).await.into_iter().map(|l| l.state.word()).collect();
    assert_eq!(states, ["settled", "back", "settled"]);
    payee_ended(payee, subject(0)).await;
    agrees(payer).await;
    agrees(payee).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_payee_claims_while_the_payer_is_away_and_one_that_stays_away_is_not_paid() {
    let market = Market::with_channel(50_000_000, 3).await;
    let first = terms(0, &[5_000_000, 6_000_000], 144);
    market.lock(&first).await.unwrap();
    let Market { bitcoind, payer, payee, dir } = market;
    let (to, chain) = (payer.address.clone(), bitcoind.source().clone());
    let payer = payer.stop().await;
    payee.money.settle(&[preimage(0)]).await.unwrap();
    let payer = common::Party::start(&payer, &chain, None, 1).await;
    let market = Market { bitcoind, payer, payee, dir };
    market.ensure(1_000, 1).await;
    let settled = async || {
        let lots = market.payer.money.escrow(subject(0))?;
        Ok(matches!(lots[0].state, LotState::Settled { .. }).then_some(()))
    };
    market.payer.money.wait("settling", common::LIMIT, settled).await.unwrap();

    market.agree().await;
    // Now the payee goes and does not come back: after the expiry the payer takes the second lot back on chain.
    let Market { bitcoind, payer, payee, dir } = market;
    let payee = payee.stop().await;
    let money = &payer.money;
    let back = || matches!(money.escrow(subject(0)).unwrap()[1].state, LotState::CameBack { .. });
    let mut blocks = 0;
    while !back() {
        bitcoind.rpc().mine(10).await.unwrap();
        bitcoind.rpc().seen_by(money.wallet()).await.unwrap();
        blocks += 10;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(blocks < 400, "{:?}", money.escrow(subject(0)));
    }
    assert!(blocks > 144, "not before the window is over");
    let lots = money.escrow(subject(0)).unwrap();
    assert!(matches!(lots[1].state, LotState::CameBack { how: CameBack::TimedOut { .. } }), "{lots:?}");

    // Both sides get home what is theirs.
    let payee = common::Party::start(&payee, &chain, Some(to), 2).await;
    let market = Market { bitcoind, payer, payee, dir };
    let closing = |money: &common::Money| {
        money.store().balances().unwrap().get(&Account::Closing).copied().unwrap_or(0)
    };
    // The payee's node first works off what it wanted to say while it was away.
    let mut blocks = 0;
    while blocks < 160 || closing(&market.payer.money) != 0 || closing(&market.payee.money) != 0 {
        market.mine(4).await;
        blocks += 4;
        market.payer.money.book_chain().await.unwrap();
        market.payee.money.book_chain().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(blocks < 600, "{:?}", market.payee.money.store().balances());
    }
    let holds = payee_ended(&market.payee.money, subject(0)).await;
    assert!(matches!(holds[1].state, HoldState::GivenBack { .. }), "{holds:?}");
    agrees(&market.payer.money).await;
    agrees(&market.payee.money).await;
}
