//! Either side, or both, killed at a random moment of an escrow. WATERSHED_TRIALS sets how often (12), WATERSHED_SEED makes
//! a run come out the same as far as the
//! machine allows, WATERSHED_KEEP names a new folder for the wallets, which is kept.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;
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

/// What is killed when, drawn from the seed.
struct Fate {
    payer: bool,
    payee: bool,
    after: Duration,
    settle: u8,
}

impl Fate {
    fn drawn(seed: u64, trial: u32) -> Self {
        let hash = Sha256::digest([seed.to_le_bytes(), u64::from(trial).to_le_bytes()].concat());
        let who = hash[0] % 3;
        let after = Duration::from_millis(u64::from(u16::from_le_bytes([hash[1], hash[2]])) % 700);
        Self { payer: who != 0, payee: who != 1, after, settle: hash[3] % 16 }
    }
}

struct World {
    bitcoind: Bitcoind,
    payer: Program,
    payee: Program,
}

impl World {
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

    /// Does whatever is next in the escrow, as somebody who knows only what the two sides say. Whether it has ended.
    async fn advance(&self, terms: &Terms, settle: u8) -> bool {
        let subject = terms.subject;
        let holds: Vec<HoldStatus> = match self.payee.ask(Request::Accept(terms.clone())).await {
            Some(holds) => holds,
            None => return false,
        };
        let offer = Offer {
            terms: terms.clone(),
            payee: self.payee.address.id,
            budget: Account::Operator,
            earner: Account::Miner("payee".parse().unwrap()),
        };
        let Some(mut lots) = self.payer.ask::<Vec<LotStatus>>(Request::Offer(offer)).await else {
            return false;
        };
        if lots.iter().all(|lot| lot.state == LotState::Offered) {
            let amount = Msat::new(terms.lots.iter().map(|l| l.amount.msat()).sum());
            let htlcs = terms.lots.len();
            let room = Request::Ensure { peer: self.payee.address.clone(), amount, htlcs };
            if self.payer.ask::<serde_json::Value>(room).await.is_none() {
                return false;
            }
            let invoices = holds.iter().map(|h| h.invoice.clone()).collect();
            match self.payer.ask(Request::Lock { subject, invoices }).await {
                Some(locked) => lots = locked,
                None => return false,
            }
        }
        let held: Vec<(PaymentHash, u32)> = holds
            .iter()
            .filter_map(|h| match h.state {
                HoldState::Held { deadline, .. } => Some((h.hash, deadline)),
                _ => None,
            })
            .collect();
        let _: Option<Vec<LotStatus>> =
            self.payer.ask(Request::Confirm { subject, lots: held.clone() }).await;
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
    let bitcoind = Bitcoind::start(&dir.join("bitcoind")).await.unwrap();
    let payer = Program::start(dir.join("payer"), &bitcoind, None, 1).await;
    let to = Some(payer.address.clone());
    let payee = Program::start(dir.join("payee"), &bitcoind, to, 2).await;
    let address = payer.try_ask(Request::Address).await.unwrap()["address"].as_str().unwrap().to_owned();
    bitcoind.rpc().fund(&address).await.unwrap();
    let mut world = World { bitcoind, payer, payee };

    let (mut settled_msat, mut paid_msat, mut relaunched, mut lost) = (0u64, 0u64, 0u32, 0u32);
    for trial in 0..trials {
        let fate = Fate::drawn(seed, trial);
        let terms = terms(trial * 10, &[3_000_003, 4_000_000, 6_000_000, DUST], 144);
        let forced = world.closed_by_force().await;
        let (start, mut killed) = (Instant::now(), false);
        let mut ended = false;
        while !ended {
            if !killed && start.elapsed() >= fate.after {
                killed = true;
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
            // The kill must be able to fall into any step, so the step is raced against it.
            let left = fate.after.saturating_sub(start.elapsed());
            ended = if killed {
                world.advance(&terms, fate.settle).await
            } else {
                tokio::time::timeout(left, world.advance(&terms, fate.settle)).await.unwrap_or(false)
            };
            // A trial that ended before the kill is killed at rest.
            ended &= killed;
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
            "trial {trial}: killed {} after {:?}; {}; {:.1} s",
            ["", "payer", "payee", "both"][usize::from(fate.payer) + 2 * usize::from(fate.payee)],
            fate.after,
            lots.iter().map(|l| l.state.word()).collect::<Vec<_>>().join(", "),
            start.elapsed().as_secs_f64(),
        );
    }

    // Whatever went to the chain comes home, and then both ledgers agree with their nodes to the msat.
    let (mut agreed, mut last) = (false, Vec::new());
    for _ in 0..400 {
        last = vec![
            world.payer.try_ask(Request::Reconcile).await.unwrap(),
            world.payee.try_ask(Request::Reconcile).await.unwrap(),
        ];
        let empty = |books: &serde_json::Value| {
            books["differences"].as_array().unwrap().is_empty()
                && books["exact"] == true
                && books["balances"].get("closing").is_none_or(|msat| msat == 0)
        };
        agreed = last.iter().all(empty);
        if agreed {
            break;
        }
        world.mine(3).await;
    }
    assert!(agreed, "{last:#?}");
    let account =
        |side: usize, name: &str| last[side]["balances"].get(name).and_then(|v| v.as_i64()).unwrap_or(0);
    let operator = account(1, "operator");
    assert_eq!(operator, -i64::try_from(settled_msat).unwrap(), "the payee has what it settled");
    let deposited = 5_000_000_000_000;
    let left = deposited - i64::try_from(paid_msat).unwrap();
    assert_eq!(account(0, "operator"), -left, "the payer has what it did not pay");
    let forced = world.closed_by_force().await;
    let cost = account(0, "on-chain-fees") + account(1, "on-chain-fees");
    eprintln!(
        "{trials} trials, {relaunched} processes killed: {} settled, {forced} channels closed by force, {} on chain, \
         {lost} lots of {} lost to that",
        Msat::new(settled_msat),
        Msat::new(cost.unsigned_abs()),
        Msat::new(DUST)
    );
    world.payer.stop();
    world.payee.stop();
}
