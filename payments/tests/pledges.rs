//! Pledges: all taken, or all given back.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{LIMIT, Market, operator};
use watershed_payments::escrow::{BackReason, HoldState};
use watershed_payments::ledger::{Account, Name};
use watershed_payments::store::Store as _;
use watershed_payments::treasury::{CampaignState, PayoutState, TreasuryError};
use watershed_payments::wallet::Wallet as _;
use watershed_protocol::Msat;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pledges_are_taken_when_the_goal_is_reached_and_returned_when_it_is_not() {
    let market = Market::with_channel(200_000_000, 6).await;
    // The payee collects; the payer is a sponsor with any wallet.
    let (sponsor, house) = (&market.payer.money, &market.payee.money);
    let names: Vec<Name> = ["run-1", "run-2", "ada", "bo"].map(|n| n.parse().unwrap()).into();
    let [first, second, ada, bo] = &names[..] else { unreachable!() };
    house.start_campaign(first.clone(), Msat::new(30_000_000), 144, None).unwrap();
    let pledge = async |campaign: &Name, who: &Name, msat: u64, secret: u8| {
        let made = house.pledge(campaign, who.clone(), Msat::new(msat), [secret; 32]).await.unwrap();
        sponsor.pay_out(&made.invoice, Msat::ZERO, operator()).await.unwrap();
        made.hash
    };
    let one = pledge(first, ada, 10_000_000, 1).await;
    let held = async || {
        let status = house.campaign(first)?;
        Ok((status.raised == Msat::new(10_000_000)).then_some(status))
    };
    let status = house.wait("holding", LIMIT, held).await.unwrap();
    assert_eq!(status.campaign.state, CampaignState::Collecting);
    assert!(matches!(status.pledges[0].hold.state, HoldState::Held { .. }));
    assert!(matches!(sponsor.payout(one).unwrap().state, PayoutState::Paying));
    let two = pledge(first, bo, 20_000_000, 2).await;
    let paid = async |hash| {
        let paid = async || {
            let state = sponsor.payout(hash)?.state;
            Ok((state != PayoutState::Paying).then_some(state))
        };
        sponsor.wait("being taken", LIMIT, paid).await.unwrap()
    };
    assert!(matches!(paid(one).await, PayoutState::Paid { .. }));
    assert!(matches!(paid(two).await, PayoutState::Paid { .. }));
    let done = async || Ok(house.campaign(first)?.campaign.done.then_some(()));
    house.wait("ending", LIMIT, done).await.unwrap();
    let late = house.pledge(first, ada.clone(), Msat::new(1_000), [3; 32]).await;
    assert!(matches!(late, Err(TreasuryError::CampaignOver { state: "funded", .. })));
    market.agree().await;
    let balances = house.store().balances().unwrap();
    assert_eq!(balances[&Account::Budget(first.clone())], -30_000_000);
    assert_eq!(balances[&Account::Sponsor(ada.clone())], 0);
    let statement = house.store().entries(Some(&Account::Sponsor(ada.clone())), 0, 10).unwrap();
    assert_eq!(statement.len(), 1, "ada's pledge is in her statement");

    // The second does not get there.
    house.start_campaign(second.clone(), Msat::new(90_000_000), 144, None).unwrap();
    let again = house.start_campaign(second.clone(), Msat::new(90_000_001), 144, None);
    assert!(matches!(again, Err(TreasuryError::OtherCampaign(_))));
    let three = pledge(second, ada, 10_000_000, 4).await;
    let unpaid = house.pledge(second, bo.clone(), Msat::new(5_000_000), [5; 32]).await.unwrap();
    let held = async || Ok((house.campaign(second)?.raised == Msat::new(10_000_000)).then_some(()));
    house.wait("holding", LIMIT, held).await.unwrap();
    let status = house.cancel_campaign(second, "too little").await.unwrap();
    assert!(matches!(status.campaign.state, CampaignState::Cancelled { .. }));
    assert!(matches!(paid(three).await, PayoutState::Failed { .. }));
    assert!(matches!(house.cancel_campaign(first, "x").await, Err(TreasuryError::CampaignOver { .. })));
    // an invoice that is paid after the end comes back too
    sponsor.pay_out(&unpaid.invoice, Msat::ZERO, operator()).await.unwrap();
    assert!(matches!(paid(unpaid.hash).await, PayoutState::Failed { .. }));
    market.agree().await;
    assert_eq!(house.store().balances().unwrap()[&Account::Budget(first.clone())], -30_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pledge_whose_deadline_is_near_goes_back() {
    let market = Market::with_channel(50_000_000, 2).await;
    let (sponsor, house) = (&market.payer.money, &market.payee.money);
    let run: Name = "run".parse().unwrap();
    house.start_campaign(run.clone(), Msat::new(30_000_000), 144, None).unwrap();
    let made = house.pledge(&run, "ada".parse().unwrap(), Msat::new(10_000_000), [1; 32]).await.unwrap();
    sponsor.pay_out(&made.invoice, Msat::ZERO, operator()).await.unwrap();
    let held = async || Ok((house.campaign(&run)?.raised == Msat::new(10_000_000)).then_some(()));
    house.wait("holding", LIMIT, held).await.unwrap();
    // The sponsor's wallet adds some blocks so that nobody on the way can tell who is paid.
    let HoldState::Held { deadline, .. } = house.campaign(&run).unwrap().pledges[0].hold.state else {
        unreachable!()
    };
    let tip = house.wallet().tip().await.unwrap();
    market.mine(deadline - tip - 7).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(house.campaign(&run).unwrap().raised, Msat::new(10_000_000), "not before");
    market.mine(1).await;
    let back = async || {
        let state = sponsor.payout(made.hash)?.state;
        Ok(matches!(state, PayoutState::Failed { .. }).then_some(()))
    };
    sponsor.wait("coming back", LIMIT, back).await.unwrap();
    let status = house.campaign(&run).unwrap();
    assert_eq!((status.raised, status.campaign.state), (Msat::ZERO, CampaignState::Collecting));
    let state = &status.pledges[0].hold.state;
    assert!(matches!(state, HoldState::GivenBack { reason: BackReason::Deadline { .. }, .. }), "{state:?}");
    market.agree().await;
}
