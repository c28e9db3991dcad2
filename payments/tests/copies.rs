//! An old copy of a wallet's folder, put back in its own place: only the peer can tell, and it does.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::time::{Duration, Instant};

use program::Program;
use serde_json::Value;
use watershed_payments::control::Request;
use watershed_payments::ledger::Account;
use watershed_payments::regtest::Bitcoind;
use watershed_protocol::Msat;

const LIMIT: Duration = Duration::from_secs(60);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Asks until the answer is right.
async fn until(side: &Program, request: Request, right: impl Fn(&Value) -> bool) -> Value {
    let (start, mut last) = (Instant::now(), Err("not asked".to_owned()));
    while start.elapsed() < LIMIT {
        last = side.try_ask(request.clone()).await;
        if let Ok(value) = &last
            && right(value)
        {
            return value.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("{request:?}: {last:?}\n{}", side.log())
}

async fn ends(side: &mut Program) {
    let start = Instant::now();
    while side.is_running() {
        assert!(start.elapsed() < LIMIT, "{}", side.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn usable(channels: &Value, wanted: bool) -> bool {
    channels["open"].as_array().unwrap().iter().all(|c| c["usable"] == wanted)
        && channels["open"][0].is_object()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_old_copy_ends_when_its_peer_proves_it_and_is_never_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("bitcoind")).await.unwrap();
    let payer = Program::start(dir.path().join("payer"), &bitcoind, None, 1).await;
    let to = Some(payer.address.clone());
    let mut payee = Program::start(dir.path().join("payee"), &bitcoind, to, 2).await;
    let address = payer.try_ask(Request::Address).await.unwrap()["address"].as_str().unwrap().to_owned();
    bitcoind.rpc().fund(&address).await.unwrap();
    until(&payer, Request::Balance, |found| found["on_chain_spendable_sat"].as_u64() > Some(0)).await;
    let ensure = Request::Ensure { peer: payee.address.clone(), amount: Msat::new(20_000_000), htlcs: 2 };
    until(&payer, ensure, |_| true).await;
    bitcoind.rpc().mine(6).await.unwrap();

    payee.stop();
    let old = dir.path().join("old");
    copy(&payee.dir, &old);
    payee.run();
    let channels = Request::Channels { all: false };
    until(&payer, channels.clone(), |found| usable(found, true)).await;
    for _ in 0..2 {
        let ask = Request::Receive {
            amount: Msat::new(5_000_000),
            memo: String::new(),
            expiry: 600,
            to: Account::Operator,
        };
        let asked = until(&payee, ask, |_| true).await;
        let invoice = asked["invoice"].as_str().unwrap().parse().unwrap();
        let send = Request::Send { invoice, max_fee: Msat::new(10_000), from: Account::Operator };
        until(&payer, send, |sent| sent["state"] == "paid").await;
    }
    payee.stop();

    // A peer that is away cannot agree to anything: the refusal says what to do.
    until(&payer, channels, |found| usable(found, false)).await;
    let close = Request::Close { peer: payee.address.id, force: false };
    let refused = payer.try_ask(close).await.unwrap_err();
    assert!(refused.contains("is away") && refused.contains("--force"), "{refused}");

    std::fs::rename(&payee.dir, dir.path().join("newer")).unwrap();
    std::fs::rename(&old, &payee.dir).unwrap();
    payee.run();
    ends(&mut payee).await;
    let log = payee.log();
    assert!(log.contains("old copy of the wallet") && log.contains("never start this one again"), "{log}");
    assert!(!log.contains("backtrace") && !log.contains("Nothing is lost"), "{log}");
    // It is known from then on, before a peer is called.
    payee.run();
    ends(&mut payee).await;
    assert!(payee.log().contains("is an old copy of a wallet: a peer proved"), "{}", payee.log());
}
