//! Either side, or both, killed at a random moment of an escrow. WATERSHED_TRIALS sets how often (12), WATERSHED_SEED makes
//! a run come out the same as far as the machine allows, WATERSHED_KILL=payment kills within 100 ms after lots are paid or
//! claimed instead of within 700 ms after the beginning, WATERSHED_KEEP names a new folder for the wallets, which is kept.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{preimage, terms};
use program::Program;
use sha2::{Digest as _, Sha256};
use watershed_payments::control::Request;
use watershed_payments::escrow::{HoldState, LotState, Terms};
use watershed_payments::ledger::Account;
use watershed_payments::regtest::Bitcoind;
use watershed_payments::treasury::{HoldStatus, LotStatus, Offer};
use watershed_protocol::{Msat, PaymentHash, Subject};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The last lot of every escrow is below the dust limit: if its channel is closed by force while it is being settled, it
/// goes to the miners of blocks (BOLT 3), and each side learns that for itself.
const DUST: u64 = 500_000;

/// What a kill follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Begin,
    Lock,
    Settle,
}

/// What is killed when, drawn from the seed.
struct Fate {
    payer: bool,
    payee: bool,
    moment: Moment,
    after: Duration,
    settle: u8,
}

impl Fate {
    fn drawn(seed: u64, trial: u32, at_payments: bool) -> Self {
        let hash = Sha256::digest([seed.to_le_bytes(), u64::from(trial).to_le_bytes()].concat());
        let who = hash[0] % 3;
        let (moment, within, least) = match (at_payments, hash[4] % 2) {
            (false, _) => (Moment::Begin, 700, 0),
            (true, 0) => (Moment::Lock, 100, 0),
            // so that there is something to claim
            (true, _) => (Moment::Settle, 100, 1),
        };
        let after = Duration::from_millis(u64::from(u16::from_le_bytes([hash[1], hash[2]])) % within);
        Self { payer: who != 0, payee: who != 1, moment, after, settle: (hash[3] % 16).max(least) }
    }
}

struct World {
    bitcoind: Bitcoind,
    payer: Program,
    payee: Program,
    // What the present escrow has come to, and when.
    came: Mutex<Vec<(Moment, Instant)>>,
}

impl World {
    /// Payer with 50 bitcoin and payee, running.
    async fn open(dir: &Path) -> Self {
        let bitcoind = Bitcoind::start(&dir.join("bitcoind")).await.unwrap();
        let payer = Program::start(dir.join("payer"), &bitcoind, None, 1).await;
        let to = Some(payer.address.clone());
        let payee = Program::start(dir.join("payee"), &bitcoind, to, 2).await;
        let address = payer.try_ask(Request::Address).await.unwrap()["address"].as_str().unwrap().to_owned();
        bitcoind.rpc().fund(&address).await.unwrap();
        Self { bitcoind, payer, payee, came: Mutex::default() }
    }

    fn comes_to(&self, moment: Moment) {
        self.came.lock().unwrap().push((moment, Instant::now()));
    }

    /// Waits until a fate is due.
    async fn due(&self, fate: &Fate) {
        loop {
            let came = self.came.lock().unwrap().iter().find(|(m, _)| *m == fate.moment).map(|(_, at)| *at);
            if let Some(at) = came {
                return tokio::time::sleep_until((at + fate.after).into()).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Goes on with an escrow until every lot has ended, mining when it takes long.
    async fn finish(&self, terms: &Terms, settle: u8) {
        let start = Instant::now();
        while !self.advance(terms, settle).await {
            if start.elapsed() > Duration::from_secs(5) {
                self.mine(3).await;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "{:#?}", self.lots(terms.subject).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Both ledgers agree with their nodes, and all that closed channels owe has come back.
    async fn agreed(&self) -> Vec<serde_json::Value> {
        let mut last = Vec::new();
        for _ in 0..400 {
            last = vec![
                self.payer.try_ask(Request::Reconcile).await.unwrap(),
                self.payee.try_ask(Request::Reconcile).await.unwrap(),
            ];
            let empty = |books: &serde_json::Value| {
                books["differences"].as_array().unwrap().is_empty()
                    && books["exact"] == true
                    && books["balances"].get("closing").is_none_or(|msat| msat == 0)
            };
            if last.iter().all(empty) {
                return last;
            }
            self.mine(3).await;
        }
        unreachable!("{last:#?}")
    }

    /// What closing channels cost both sides, in msat.
    async fn closing_cost(&self) -> i64 {
        let mut cost = 0;
        for side in [&self.payer, &self.payee] {
            let account = Some(Account::OnChainFees);
            let entries = Request::Entries { account, after: 0, limit: 1_000_000 };
            let entries = side.try_ask(entries).await.unwrap();
            let closed = entries
                .as_array()
                .unwrap()
                .iter()
                .filter(|e| e["key"].as_str().unwrap().starts_with("closed/"));
            let postings = closed.flat_map(|e| e["postings"].as_array().unwrap());
            let fees = postings.filter(|p| p["account"] == "on-chain-fees");
            cost += fees.map(|p| p["msat"].as_i64().unwrap()).sum::<i64>();
        }
        cost
    }

    async fn mine(&self, blocks: u32) {
        self.bitcoind.rpc().mine(blocks).await.unwrap();
        for side in [&self.payer, &self.payee] {
            let _ = side.try_ask(Request::Sync).await;
        }
        // LDK Node broadcasts ten transactions a second.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    async fn closed_by_force(&self) -> usize {
        let mut most = 0;
        for side in [&self.payer, &self.payee] {
            if let Ok(channels) = side.try_ask(Request::Channels { all: true }).await {
                let closed = channels["closed"].as_array().unwrap();
                most = most.max(closed.iter().filter(|c| c["cooperative"] == false).count());
            }
        }
        most
    }

    async fn lots(&self, subject: Subject) -> Vec<LotStatus> {
        self.payer.ask(Request::Escrow { subject }).await.unwrap_or_default()
    }

    async fn holds(&self, subject: Subject) -> Vec<HoldStatus> {
        self.payee.ask(Request::Held { subject }).await.unwrap_or_default()
    }

    /// Does whatever is next until the lots are locked: how they stand with both sides, and what the payee holds.
    async fn lock_and_confirm(&self, terms: &Terms) -> Option<(Vec<LotStatus>, Vec<(PaymentHash, u32)>)> {
        let subject = terms.subject;
        let holds: Vec<HoldStatus> = self.payee.ask(Request::Accept(terms.clone())).await?;
        let offer = Offer {
            terms: terms.clone(),
            payee: self.payee.address.id,
            budget: Account::Operator,
            earner: Account::Miner("payee".parse().unwrap()),
        };
        let mut lots: Vec<LotStatus> = self.payer.ask(Request::Offer(offer)).await?;
        if lots.iter().all(|lot| lot.state == LotState::Offered) {
            let amount = Msat::new(terms.lots.iter().map(|l| l.amount.msat()).sum());
            let htlcs = terms.lots.len();
            let room = Request::Ensure { peer: self.payee.address.clone(), amount, htlcs };
            let _: serde_json::Value = self.payer.ask(room).await?;
            let invoices = holds.iter().map(|h| h.invoice.clone()).collect();
            self.comes_to(Moment::Lock);
            lots = self.payer.ask(Request::Lock { subject, invoices }).await?;
        }
        let held = holds.iter().filter_map(|h| match h.state {
            HoldState::Held { deadline, .. } => Some((h.hash, deadline)),
            _ => None,
        });
        let held: Vec<_> = held.collect();
        let _: Option<Vec<LotStatus>> =
            self.payer.ask(Request::Confirm { subject, lots: held.clone() }).await;
        Some((lots, held))
    }

    /// Does whatever is next in the escrow, as somebody who knows only what the two sides say. Whether it has ended.
    async fn advance(&self, terms: &Terms, settle: u8) -> bool {
        let subject = terms.subject;
        let Some((lots, held)) = self.lock_and_confirm(terms).await else { return false };
        // A secret is given out only for what is held; what came back is not waited for.
        let waiting =
            |lot: &LotStatus| matches!(lot.state, LotState::Paying { .. } | LotState::Locked { .. });
        let coming = lots.iter().filter(|lot| waiting(lot)).count();
        if !held.is_empty() && held.len() >= coming {
            let wanted = |hash: &PaymentHash| {
                let place = terms.lots.iter().position(|l| l.hash == *hash).unwrap();
                settle >> place & 1 == 1
            };
            let first = terms.lots.iter().map(|l| l.hash).collect::<Vec<_>>();
            let number = |hash: &PaymentHash| first.iter().position(|h| h == hash).unwrap() as u32;
            let base = base_of(terms);
            let secrets = held.iter().filter(|(h, _)| wanted(h)).map(|(h, _)| preimage(base + number(h)));
            let settle = Request::Settle { preimages: secrets.collect() };
            self.comes_to(Moment::Settle);
            if self.payee.ask::<serde_json::Value>(settle).await.is_some() {
                let back: Vec<_> = held.iter().filter(|(h, _)| !wanted(h)).map(|(h, _)| *h).collect();
                if !back.is_empty() {
                    let reason = "not earned".to_owned();
                    let _: Option<Vec<HoldStatus>> =
                        self.payee.ask(Request::GiveBack { subject, hashes: back, reason }).await;
                }
            }
        }
        let (lots, holds) = (self.lots(subject).await, self.holds(subject).await);
        let over = |s: &LotState| matches!(s, LotState::Settled { .. } | LotState::CameBack { .. });
        // An invoice that nothing is on the way for stays unpaid.
        let rest = |s: &HoldState| {
            matches!(s, HoldState::Settled { .. } | HoldState::GivenBack { .. } | HoldState::Invoiced)
        };
        !lots.is_empty()
            && lots.iter().all(|lot| over(&lot.state))
            && holds.len() == lots.len()
            && holds.iter().all(|hold| rest(&hold.state))
    }
}

/// The number of the first secret of an escrow.
fn base_of(terms: &Terms) -> u32 {
    (0..u32::MAX).step_by(10).find(|n| preimage(*n).hash() == terms.lots[0].hash).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_lot_is_lost_whoever_is_killed_when() {
    let (trials, seed) = (number("WATERSHED_TRIALS", 12) as u32, number("WATERSHED_SEED", 1));
    let gone = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("WATERSHED_KEEP").map(std::path::PathBuf::from);
    let dir = kept.as_deref().unwrap_or(gone.path());
    let at_payments = std::env::var("WATERSHED_KILL").is_ok_and(|kill| kill == "payment");
    let mut world = World::open(dir).await;

    let (mut settled_msat, mut paid_msat, mut relaunched, mut lost) = (0u64, 0u64, 0u32, 0u32);
    for trial in 0..trials {
        let fate = Fate::drawn(seed, trial, at_payments);
        let terms = terms(trial * 10, &[3_000_003, 4_000_000, 6_000_000, DUST], 144);
        let forced = world.closed_by_force().await;
        let (start, mut killed) = (Instant::now(), false);
        let mut ended = false;
        world.came.lock().unwrap().clear();
        world.comes_to(Moment::Begin);
        while !ended {
            // The kill must be able to fall into any step, so the step is raced against it.
            if !killed {
                ended = tokio::select! {
                    () = world.due(&fate) => false,
                    ended = world.advance(&terms, fate.settle) => ended,
                };
                // A trial that ended before the kill is killed at rest.
                let came =
                    world.came.lock().unwrap().iter().find(|(m, _)| *m == fate.moment).map(|(_, at)| *at);
                killed = came.is_some_and(|at| at.elapsed() >= fate.after);
                if !killed {
                    // One that ended without coming so far is killed at rest.
                    if ended && came.is_none() {
                        world.comes_to(fate.moment);
                    }
                    ended = false;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
                if fate.payer {
                    world.payer.kill();
                }
                if fate.payee {
                    world.payee.kill();
                }
                if fate.payer {
                    world.payer.run();
                }
                if fate.payee {
                    world.payee.run();
                }
            }
            ended = world.advance(&terms, fate.settle).await;
            // What went to the chain needs blocks, but no faster than the nodes can act on them: a claim is lost if more
            // blocks than it has left come before its node has looked.
            if start.elapsed() > Duration::from_secs(3) {
                world.mine(3).await;
            }
            let stuck = (world.lots(terms.subject).await, world.holds(terms.subject).await);
            assert!(
                start.elapsed() < Duration::from_secs(240),
                "trial {trial} of seed {seed}: {stuck:#?}\n{}\n{}",
                world.payer.log(),
                world.payee.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        relaunched += u32::from(fate.payer) + u32::from(fate.payee);
        let (lots, holds) = (world.lots(terms.subject).await, world.holds(terms.subject).await);
        let holds: BTreeMap<_, _> = holds.into_iter().map(|h| (h.hash, h.state)).collect();
        for lot in &lots {
            let paid = matches!(lot.state, LotState::Settled { .. });
            let got = matches!(holds[&lot.hash], HoldState::Settled { .. });
            if lot.amount.msat() == DUST && got && !paid && world.closed_by_force().await > forced {
                lost += 1;
            } else {
                let held = &holds[&lot.hash];
                assert_eq!(paid, got, "trial {trial}: the payer says {:?}, the payee {held:?}", lot.state);
            }
            settled_msat += if got { lot.amount.msat() } else { 0 };
            paid_msat += if paid { lot.amount.msat() } else { 0 };
        }
        eprintln!(
            "trial {trial}: killed {} {:?} after {:?}; {}; {:.1} s",
            ["", "payer", "payee", "both"][usize::from(fate.payer) + 2 * usize::from(fate.payee)],
            fate.after,
            fate.moment,
            lots.iter().map(|l| l.state.word()).collect::<Vec<_>>().join(", "),
            start.elapsed().as_secs_f64(),
        );
    }

    // Whatever went to the chain comes home, and then both ledgers agree with their nodes to the msat.
    let last = world.agreed().await;
    let account =
        |side: usize, name: &str| last[side]["balances"].get(name).and_then(|v| v.as_i64()).unwrap_or(0);
    let operator = account(1, "operator");
    assert_eq!(operator, -i64::try_from(settled_msat).unwrap(), "the payee has what it settled");
    let deposited = 5_000_000_000_000;
    let left = deposited - i64::try_from(paid_msat).unwrap();
    assert_eq!(account(0, "operator"), -left, "the payer has what it did not pay");
    let forced = world.closed_by_force().await;
    let fees = account(0, "on-chain-fees") + account(1, "on-chain-fees");
    let closing = world.closing_cost().await;
    eprintln!(
        "{trials} trials, {relaunched} processes killed: {} settled; {forced} channels closed by force, which cost \
         {closing} msat; {fees} msat of on-chain fees in all; {lost} lots of {} lost to forced closes",
        Msat::new(settled_msat),
        Msat::new(DUST)
    );
    world.payer.stop();
    world.payee.stop();
}

/// The hex digits of the secrets of an escrow are in no log.
fn logs_tell_no_secret(world: &World, secrets: &[u32]) {
    let key = std::fs::read_to_string(world.payee.dir.join("l402.key")).unwrap();
    for side in [&world.payer, &world.payee] {
        for log in ["run.log", "node.log"] {
            let text = std::fs::read_to_string(side.dir.join(log)).unwrap().to_lowercase();
            assert!(!text.is_empty());
            assert!(!text.contains(key.trim()), "the key of tokens is in {log}");
            for secret in secrets {
                let hex = preimage(*secret).to_bytes().map(|b| format!("{b:02x}")).concat();
                assert!(!text.contains(&hex), "a preimage is in {log}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_killed_between_lock_and_claim_lots_end_as_they_were_decided() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path()).await;
    // The payee sells a route too, so that there is a key for tokens.
    let http = watershed_payments::regtest::free_port().unwrap();
    world.payee.stop();
    world.payee.more = vec!["--http".into(), format!("127.0.0.1:{http}")];
    world.payee.run();
    let lock = async |world: &World, first: u32| {
        let terms = terms(first, &[3_000_003, 4_000_000, 6_000_000], 144);
        let end = Instant::now() + Duration::from_secs(60);
        // Nothing is settled in the way of locking.
        let locked = |lots: &[LotStatus]| {
            lots.len() == 3 && lots.iter().all(|l| matches!(l.state, LotState::Locked { .. }))
        };
        while !locked(&world.lots(terms.subject).await) {
            world.lock_and_confirm(&terms).await;
            assert!(Instant::now() < end, "{:#?}", world.lots(terms.subject).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Both nodes have written down what they did.
        tokio::time::sleep(Duration::from_millis(500)).await;
        terms
    };
    let settled = |lots: &[LotStatus]| lots.iter().map(|l| l.state.word()).collect::<Vec<_>>();

    // The payer is away while the payee claims.
    let first = lock(&world, 0).await;
    world.payer.kill();
    let claim = Request::Settle { preimages: vec![preimage(0), preimage(2)] };
    world.payee.try_ask(claim).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let claimed = |holds: &[HoldStatus]| {
        holds.iter().filter(|h| matches!(h.state, HoldState::Settled { .. })).count() == 2
    };
    while !claimed(&world.holds(first.subject).await) {
        assert!(Instant::now() < end, "{:#?}", world.holds(first.subject).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.payer.run();
    world.finish(&first, 0b101).await;
    assert_eq!(settled(&world.lots(first.subject).await), ["settled", "back", "settled"]);

    // The payee is killed after the lock, and decides afterwards.
    let second = lock(&world, 10).await;
    world.payee.kill();
    world.payee.run();
    world.finish(&second, 0b011).await;
    assert_eq!(settled(&world.lots(second.subject).await), ["settled", "settled", "back"]);

    // Both are.
    let third = lock(&world, 20).await;
    world.payer.kill();
    world.payee.kill();
    world.payee.run();
    world.payer.run();
    world.finish(&third, 0b110).await;
    assert_eq!(settled(&world.lots(third.subject).await), ["back", "settled", "settled"]);

    // Somebody asks for the price of the route, and what it is sold with is in no log either.
    let mut shop = std::net::TcpStream::connect(("127.0.0.1", http)).unwrap();
    shop.write_all(b"GET /paid HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    shop.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 402"), "{answer}");
    let last = world.agreed().await;
    assert_eq!(last[1]["balances"]["operator"], -(9_000_003 + 7_000_003 + 10_000_000));
    assert_eq!(world.closed_by_force().await, 0);
    logs_tell_no_secret(&world, &[0, 1, 2, 10, 11, 12, 20, 21, 22]);
    world.payer.stop();
    world.payee.stop();
}
