//! Escrows one after the other, a block after each: nothing is lost, nothing grows. WATERSHED_CYCLES sets how many (10).
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/heap.rs"]
mod heap;

use std::path::Path;
use std::time::Instant;

use common::{LIMIT, Market, ended, preimage, terms};
use watershed_payments::escrow::{LotState, earned, split};
use watershed_payments::ledger::Account;
use watershed_payments::store::Store as _;
use watershed_payments::wallet::Wallet as _;
use watershed_protocol::Msat;

// The allocator of the programs: with the system's, what is freed is not given back.
#[global_allocator]
static ALLOCATOR: heap::Counted = heap::Counted;

/// Resident memory of this process, which has both nodes, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap());
    files
        .filter(|f| f.file_name().to_string_lossy().contains("sqlite"))
        .map(|f| f.metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_escrows_of_six_lots_add_up() {
    let cycles: u32 = std::env::var("WATERSHED_CYCLES").ok().and_then(|c| c.parse().ok()).unwrap_or(10);
    const TIERS: u32 = 6;
    let reward = Msat::new(630_000);
    let market = Market::with_channel(u64::from(cycles) * reward.msat() + 20_000_000, 6).await;
    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let amounts: Vec<u64> = split(reward, 1, TIERS).unwrap()[0].iter().map(|m| m.msat()).collect();
    let (start, mut paid) = (Instant::now(), 0u64);
    let sizes = || {
        let of = |dir: &Path| (bytes(dir), bytes(&dir.join("node")));
        (of(&market.payer.dir), of(&market.payee.dir))
    };
    let (mut before, mut sizes_before, mut live_before) = (memory(), sizes(), 0);
    // From here on caches are full, and what ends is forgotten as fast as it comes.
    let settled_down = cycles / 5 * 3;
    for cycle in 0..cycles {
        // After the first tenth everything that is made once has been made.
        if cycle == cycles / 10 {
            (before, sizes_before) = (memory(), sizes());
        }
        if cycle == settled_down {
            live_before = heap::live();
        }
        let terms = terms(cycle * TIERS, &amounts, 144);
        market.lock(&terms).await.unwrap();
        let share = earned(TIERS, cycle % 64).unwrap();
        let secrets: Vec<_> = (0..TIERS)
            .filter(|tier| share[*tier as usize])
            .map(|tier| preimage(cycle * TIERS + tier))
            .collect();
        payee.settle(&secrets).await.unwrap();
        payee.give_back(terms.subject, None, "not earned").await.unwrap();
        let lots = ended(payer, terms.subject).await;
        let settled = lots.iter().filter(|lot| matches!(lot.state, LotState::Settled { .. }));
        let settled: u64 = settled.map(|lot| lot.amount.msat()).sum();
        assert_eq!(settled, u64::from(cycle % 64) * reward.msat() / 63, "cycle {cycle}");
        paid += settled;
        // In life there is one in ten minutes. What ended 144 blocks ago is forgotten by the nodes.
        market.bitcoind.rpc().mine(1).await.unwrap();
        if (cycle + 1) % 100 == 0 {
            eprintln!(
                "{} cycles, {:.0} s, {:.1} MiB allocated, {} MiB resident",
                cycle + 1,
                start.elapsed().as_secs_f64(),
                heap::live() as f64 / f64::from(1 << 20),
                memory() / 1024
            );
        }
    }
    let received = async || {
        let balance = payee.store().balances()?.get(&Account::Operator).copied().unwrap_or(0);
        Ok((balance == -i64::try_from(paid).unwrap()).then_some(()))
    };
    payee.wait("receiving everything", LIMIT, received).await.unwrap();
    // Comparing the books reads what is remembered: it is looked at afterwards.
    let (after, sizes_after, live) = (memory(), sizes(), heap::live());
    market.seen().await;
    market.agree().await;
    assert_eq!(payer.wallet().channels().await.unwrap().len(), 1, "the channel lives");
    let lots = u64::from((cycles - cycles / 10) * TIERS);
    let grown = |before: u64, after: u64| (after.saturating_sub(before)) / lots;
    let (payer_before, payee_before) = sizes_before;
    let (payer_after, payee_after) = sizes_after;
    let late = u64::from((cycles - settled_down) * TIERS);
    let each = live.saturating_sub(live_before) / late;
    eprintln!(
        "{cycles} cycles in {:.0} s: {} paid. Memory of both nodes {} MiB, {} KiB more than after a tenth; {each} bytes \
         allocated for each lot of the last two fifths.\n\
         Database for each lot: payer {} bytes here and {} of the node's, payee {} and {}",
        start.elapsed().as_secs_f64(),
        Msat::new(paid),
        after / 1024,
        after.saturating_sub(before),
        grown(payer_before.0, payer_after.0),
        grown(payer_before.1, payer_after.1),
        grown(payee_before.0, payee_after.0),
        grown(payee_before.1, payee_after.1),
    );
    // What must grow are the channel monitors, which keep every state of a channel so as to punish an old one. What is
    // resident comes and goes by 20 MiB besides. A few cycles say nothing.
    let resident = after.saturating_sub(before) / lots;
    assert!(cycles < 500 || resident < 6, "{resident} KiB for each lot");
    assert!(cycles < 500 || each < 1500, "{each} bytes for each lot");
}
