//! Sponsors get back what is left, and miners pay to join: a real coordinator, real wallets.
#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "sponsors/wallets.rs"]
mod wallets;

use wallets::{LIMIT, Party, address_server, another_run, coordinator, options, phase, recorded, world};
use watershed_commons::client::{ClientError, Joined};
use watershed_market::{MinerKind, Options, World};
use watershed_payments::wallet::Wallet as _;
use watershed_protocol::market::Join;
use watershed_protocol::market::view::PledgeView;
use watershed_protocol::{Msat, RunId, SecretKey};

async fn pledge_when(
    world: &World,
    run: RunId,
    hash: &str,
    what: &str,
    is: impl Fn(&PledgeView) -> bool,
) -> PledgeView {
    let found = async |w: &World| {
        let pledge = w.client.pledge_state(run, hash).await?;
        Ok(is(&pledge).then_some(pledge))
    };
    world.until(what, 120, found).await.unwrap()
}

fn code(refused: Result<impl std::fmt::Debug, ClientError>) -> String {
    refused.unwrap_err().code().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sponsors_get_back_what_is_left_where_they_wanted_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path()).await;
    // Ada has an offer, so her channel is public; bo has an address; cy left nothing.
    let ada = Party::rich(&world, "ada", 11, true).await;
    let bo = Party::rich(&world, "bo", 12, false).await;
    let cy = Party::rich(&world, "cy", 13, false).await;
    // What the coordinator can pay back is bounded by its side of channels, and 1 % stays in each.
    for (party, public) in [(&ada, true), (&bo, false), (&cy, false)] {
        let address = party.address.to_string();
        let open = ["wallet", "open", address.as_str(), "200000"];
        coordinator(&world, &[&open[..], if public { &["--public"] } else { &[] }].concat()).await;
        party.usable(&world, 2).await;
    }
    world.mine(6).await.unwrap();
    let run = another_run(&world, "left-over", &[("goal", 30_001_000)]).await;

    // What cannot be paid back to is said at once.
    let client = &world.client;
    let offer = ada.money.wallet().offer("refunds".into()).await.unwrap().to_string();
    let address = address_server(bo.money.clone()).await;
    let invoice = cy.invoice(1000).await;
    for (to, wanted) in [
        ("nonsense", "destination-form"),
        ("lno1qqqq", "destination-form"),
        ("ada@10.0.0.1", "destination-form"),
        (invoice.as_str(), "destination-expired"),
    ] {
        assert_eq!(code(client.pledge(run, "ada", 1000, Some(to)).await), wanted, "{to}");
    }
    let made = [
        client.pledge(run, "ada", 10_000, Some(&offer)).await.unwrap(),
        client.pledge(run, "bo", 15_001, Some(&address)).await.unwrap(),
        client.pledge(run, "cy", 5_000, None).await.unwrap(),
    ];
    assert!(made.iter().all(|m| m.claim.len() == 64) && made[0].claim != made[1].claim);
    for (party, pledge) in [&ada, &bo, &cy].into_iter().zip(&made) {
        party.send(&pledge.pledge.invoice).await;
    }
    phase(&world, run, "running").await;
    assert_eq!(code(client.refund(run, &made[2].claim, &cy.invoice(1000).await).await), "nothing-left");

    // The operator ends it before anything is spent.
    coordinator(
        &world,
        &["run", "cancel", &run.to_string(), "--reason", "a test", "--coordinator", &world.url],
    )
    .await;
    phase(&world, run, "ended").await;
    assert_eq!(client.run(run).await.unwrap().sums.left, Msat::new(30_001_000));
    for (pledge, party, sat) in [(&made[0], &ada, 10_000), (&made[1], &bo, 15_001)] {
        let hash = &pledge.pledge.hash;
        let paid = pledge_when(&world, run, hash, "a sponsor is paid back", |p| p.refund == "paid").await;
        assert_eq!((paid.refunded, paid.left), (Msat::new(sat * 1000), Msat::ZERO));
        assert_eq!(party.received().await, sat * 1000);
    }

    // Cy's part needs her token: the preimage, which every node on the way has seen, is not one.
    let hash = &made[2].pledge.hash;
    let seen = client.pledge_state(run, hash).await.unwrap();
    assert_eq!((seen.refund.as_str(), seen.left), ("none", Msat::new(5_000_000)));
    let preimage = cy.pay(&made[2].pledge.invoice).await;
    let claim = &made[2].claim;
    for wrong in [&preimage, hash, &"0".repeat(64), &claim.to_uppercase()] {
        assert_eq!(code(client.refund(run, wrong, &cy.invoice(1000).await).await), "no-claim");
    }
    assert_eq!(code(client.refund(world.run, claim, &invoice).await), "no-claim", "of another run");
    assert_eq!(code(client.refund(run, claim, &cy.invoice(5_000_001).await).await), "not-paid");
    let first = cy.invoice(1_999_999).await;
    for _ in 0..2 {
        let done = client.refund(run, claim, &first).await.unwrap();
        assert_eq!(done["paid"], 1_999_999, "asking again is told the same");
    }
    assert_eq!(cy.received().await, 1_999_999);
    // Killed and started again, it has forgotten nothing.
    world.end("coordinator", "TERM").unwrap();
    world.revive("coordinator").unwrap();
    world.until("the coordinator answers", 60, async |w| Ok(w.client.info().await.ok())).await.unwrap();
    let last = cy.invoice(3_000_001).await;
    let again = async |w: &World| match w.client.refund(run, claim, &last).await {
        Ok(done) => Ok(Some(done)),
        // The channels are not back yet: nothing was sent, and an invoice that was tried is not tried again.
        Err(e) => panic!("{e}"),
    };
    pledge_when(&world, run, hash, "the coordinator is back", |p| p.left == Msat::new(3_000_001)).await;
    cy.usable(&world, 2).await;
    let done = world.until("cy is paid", 60, again).await.unwrap();
    assert_eq!(done["paid"], 3_000_001);
    assert_eq!(code(world.client.refund(run, claim, &cy.invoice(1).await).await), "nothing-left");
    assert_eq!(cy.received().await, 5_000_000);

    recorded(&world, "4 payments back to sponsors").await;
    for party in [ada, bo, cy] {
        party.stop().await;
    }
    world.stop().unwrap();
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_pay_once_to_join() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path()).await;
    let payer = Party::rich(&world, "payer", 14, false).await;
    let run = another_run(&world, "with-a-fee", &[("joining_fee", 21_000)]).await;
    let other = another_run(&world, "with-a-fee-too", &[("joining_fee", 21_000)]).await;
    phase(&world, run, "running").await;
    let client = &world.client;
    let stranger = Party::start(&world, "stranger", 15).await;
    let join = |run: RunId| Join {
        run,
        node: stranger.address.to_string(),
        tokens_per_second: 1000,
        min_per_million_tokens: Msat::ZERO,
        lost_state: false,
    };
    let ask = async |run, key: &SecretKey, credential| match client
        .join(run, join(run), key, credential)
        .await
        .unwrap()
    {
        Joined::Pay(challenge) => challenge,
        Joined::Yes => panic!("joined without paying"),
    };
    // Asking again shows the same invoice; another miner and another run get others.
    let (ada, bo) = (key(1), key(2));
    let asked = ask(run, &ada, None).await;
    assert_eq!(ask(run, &ada, None).await.invoice, asked.invoice);
    assert_ne!(ask(run, &bo, None).await.invoice, asked.invoice);
    assert_ne!(ask(other, &ada, None).await.invoice, asked.invoice);
    // Unpaid: whatever preimage is shown, and no channel is opened for it.
    let guessed = client.join(run, join(run), &ada, Some((&asked.token, &"0".repeat(64)))).await;
    assert_eq!(code(guessed), "l402_preimage_wrong");
    let view = client.miner(run, ada.public(), u64::MAX).await.unwrap();
    assert!(!view.active && view.channel == "none yet");
    assert!(stranger.money.wallet().channels().await.unwrap().is_empty());

    let preimage = payer.pay(&asked.invoice).await;
    let credential = Some((asked.token.as_str(), preimage.as_str()));
    // Paid, but by a miner of another key, and for another run; and changed.
    ask(run, &bo, credential).await;
    ask(other, &ada, credential).await;
    let mut forged = asked.token.clone().into_bytes();
    let at = forged.len() / 2;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let refused = client.join(run, join(run), &bo, Some((&forged, &preimage))).await;
    assert!(["l402_signature_forged", "l402_macaroon_undecodable"].contains(&code(refused).as_str()));
    assert_eq!(client.join(run, join(run), &ada, credential).await.unwrap(), Joined::Yes);
    let channel = async |w: &World| {
        w.mine(1).await?;
        let view = w.client.miner(run, ada.public(), u64::MAX).await?;
        Ok((view.active && view.channel != "none yet").then_some(view))
    };
    world.until("the coordinator opens a channel", 60, channel).await.unwrap();
    // Once paid, always in: without the token, after leaving, after a restart.
    let leave = watershed_protocol::market::Message::Leave { run };
    client.say(run, &leave, &ada).await.unwrap();
    world.end("coordinator", "KILL").unwrap();
    world.revive("coordinator").unwrap();
    world.until("the coordinator answers", 60, async |w| Ok(w.client.info().await.ok())).await.unwrap();
    assert_eq!(world.client.join(run, join(run), &ada, None).await.unwrap(), Joined::Yes);
    assert!(matches!(world.client.join(run, join(run), &bo, None).await.unwrap(), Joined::Pay(_)));

    // The program: it shows the invoice and waits, and somebody pays who keeps the preimage to himself.
    world.join_as("newcomer", run, &["--joining-fee", "invoice"]).await.unwrap();
    let shown = async |w: &World| {
        let said = w.said("newcomer");
        Ok(said.lines().find(|l| l.starts_with("lnbcrt")).map(str::to_owned))
    };
    let invoice = world.until("the miner shows an invoice", 120, shown).await.unwrap();
    let drawn = world.said("newcomer");
    assert!(drawn.contains('\u{2588}') && drawn.contains("21 sat for joining"), "{drawn}");
    payer.pay(&invoice).await;
    let joined = async |w: &World| {
        let _ = w.mine(1).await;
        Ok(w.said("newcomer").contains("the joining fee is paid").then_some(()))
    };
    world.until("the miner joins", 60, joined).await.unwrap();
    assert_eq!(world.client.run(run).await.unwrap().miners, 2);

    // Both fees are booked, and in the record.
    let books = coordinator(&world, &["--json", "wallet", "balance"]).await;
    assert!(!books.is_empty());
    recorded(&world, "2 joining fees").await;
    payer.stop().await;
    stranger.stop().await;
    tokio::time::timeout(LIMIT, async { world.stop().unwrap() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_pays_to_join_from_what_it_has_earned() {
    let dir = tempfile::tempdir().unwrap();
    let miners = vec![MinerKind::honest("miner", "cpu")];
    let options = Options { miners, reward: 20_000, ..options(dir.path()) };
    let mut world = World::start(options, &|_| {}).await.unwrap();
    world.follow(5 * LIMIT, &mut |_| {}).await.unwrap();
    world.end("miner", "TERM").unwrap();
    let earned = world.summary(0).await.unwrap().paid_msat;
    assert!(earned > 20_000_000);

    let run = another_run(&world, "with-a-fee", &[("joining_fee", 21_000)]).await;
    world.work_for("miner", run, &["--joining-fee", "wallet"]).unwrap();
    let joined = async |w: &World| Ok((w.client.run(run).await?.miners == 1).then_some(()));
    world.until("the miner joins", 60, joined).await.unwrap();
    phase(&world, run, "ended").await;
    recorded(&world, "1 joining fee").await;
    let data = dir.path().join("miner").to_string_lossy().into_owned();
    let home = ["earnings", "--json", "--data", &data];
    let all = async |w: &World| {
        let total = w.programs.json("watershed-miner", &home).await?["total"].as_u64();
        Ok((total > Some(earned)).then_some(()))
    };
    world.until("it is paid for the second run too", 30, all).await.unwrap();
    world.stop().unwrap();
}
