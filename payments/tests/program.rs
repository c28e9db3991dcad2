//! The program as a person runs it.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;
#[path = "common/program.rs"]
mod program;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use program::Program;
use serde_json::Value;
use watershed_payments::regtest::Bitcoind;
use watershed_payments::wallet::ldk::{ChainSource, WalletConfig};

fn pay(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watershed-payments"));
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn value(data: &Path, arguments: &[&str]) -> Value {
    let out = pay(data, &[&["--json"], arguments].concat());
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn refusal(data: &Path, arguments: &[&str]) -> String {
    let out = pay(data, arguments);
    assert!(!out.status.success(), "{arguments:?} was not refused");
    String::from_utf8(out.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wallet_is_made_used_and_restored_from_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    let chain = String::from(bitcoind.source().clone());
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    tokio::task::block_in_place(|| {
        assert!(refusal(&first, &["wallet", "balance"]).contains("init"), "says what to do");
        let made = value(&first, &["init", "--network", "regtest", "--chain", &chain]);
        let words = made["words"].as_str().unwrap();
        assert_eq!(words.split(' ').count(), 24);
        assert!(refusal(&first, &["init", "--network", "regtest", "--chain", &chain]).contains("already"));
        assert_eq!(value(&first, &["wallet", "backup"])["words"], *words);
        let address = value(&first, &["wallet", "address"])["address"].as_str().unwrap().to_owned();
        value(&first, &["regtest", "fund", &address, "--chain", &chain]);
        value(&first, &["wallet", "sync"]);
        assert_eq!(value(&first, &["wallet", "balance"])["on_chain_sat"], 5_000_000_000u64);
        assert_eq!(value(&first, &["ledger", "accounts"])["operator"], -5_000_000_000_000i64);

        // The machine is gone; the words are not.
        let mut restore = Command::new(env!("CARGO_BIN_EXE_watershed-payments"));
        restore.arg("--data").arg(&second).args(["restore", "--network", "regtest", "--chain", &chain]);
        let mut child = restore.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        value(&second, &["wallet", "sync"]);
        assert!(value(&second, &["ledger", "accounts"])["operator"].as_i64().unwrap() < 0);
        assert_eq!(value(&second, &["wallet", "show"])["node"], value(&first, &["wallet", "show"])["node"]);
        assert_eq!(value(&second, &["wallet", "balance"])["on_chain_sat"], 5_000_000_000u64);

        // Part of it leaves for an address outside; what is no address is refused.
        assert!(
            refusal(&second, &["wallet", "withdraw", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "--sats", "9"])
                .contains("regtest")
        );
        let outside = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        value(&second, &["wallet", "withdraw", outside, "--sats", "1000000"]);
        value(&second, &["regtest", "mine", "1", "--chain", &chain]);
        value(&second, &["wallet", "sync"]);
        let books = value(&second, &["ledger", "reconcile"]);
        assert_eq!(books["differences"], serde_json::json!([]));
        // Who withdraws pays the fee.
        let fee = 4_999_000_000_000 + books["balances"]["operator"].as_i64().unwrap();
        assert!(fee > 0 && fee < 1_000_000, "{fee}");
        assert!(books["balances"].get("on-chain-fees").is_none(), "{books}");
        for secret in [words, &chain] {
            for log in [first.join("node.log"), second.join("node.log")] {
                let text = std::fs::read_to_string(log).unwrap();
                let first_words = secret.split(' ').take(3).collect::<Vec<_>>().join(" ");
                assert!(!text.contains(&first_words), "a secret is in a log");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_ends_although_its_wallet_does_not_see_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Bitcoind::start(&dir.path().join("ours")).await.unwrap();
    let other = Bitcoind::start(&dir.path().join("other")).await.unwrap();
    let data = dir.path().join("wallet");
    tokio::task::block_in_place(|| {
        value(&data, &["init", "--network", "regtest", "--chain", &String::from(ours.source().clone())]);
        let address = value(&data, &["wallet", "address"])["address"].as_str().unwrap().to_owned();
        let (ours, other) = (String::from(ours.source().clone()), String::from(other.source().clone()));
        value(&data, &["regtest", "mine", "7", "--chain", &ours]);
        // Blocks that are made in the same second and pay the same are the same blocks.
        value(&data, &["regtest", "fund", &address, "--chain", &other]);
        value(&data, &["wallet", "sync"]);
        assert_eq!(value(&data, &["wallet", "show"])["tip"], 7);
    });
    let config = WalletConfig { chain: other.source().clone(), ..WalletConfig::load(&data).unwrap() };
    config.save(&data).unwrap();
    let begun = Instant::now();
    tokio::task::block_in_place(|| {
        let out = pay(&data, &["wallet", "show"]);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success() && error.contains("does not follow its bitcoind, which is at block 101"),
            "{out:?}"
        );
        other.stop().unwrap();
        assert!(refusal(&data, &["wallet", "sync"]).contains("has not answered"));
    });
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_network_of_ones_own_ends_with_its_parent_even_if_that_is_killed() {
    use std::io::BufRead as _;
    let dir = tempfile::tempdir().unwrap();
    let mut up = Command::new(env!("CARGO_BIN_EXE_watershed-payments"))
        .args(["regtest", "up", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut chain = String::new();
    std::io::BufReader::new(up.stdout.take().unwrap()).read_line(&mut chain).unwrap();
    assert!(chain.starts_with("bitcoind://"), "{chain}");
    // bitcoind writes it when it is ready
    let pid = std::fs::read_to_string(dir.path().join("regtest/bitcoind.pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(std::fs::read_to_string(process.join("comm")).unwrap().starts_with("bitcoind"));
    up.kill().unwrap();
    up.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while process.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!process.exists(), "bitcoind outlived its parent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_init_takes_can_start_and_each_refusal_names_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    let chain = String::from(bitcoind.source().clone());
    let wrong = chain.replace("watershed:", "watershed:wrong");
    let nobody = format!("bitcoind://u:p@127.0.0.1:{}", watershed_payments::regtest::free_port().unwrap());
    tokio::task::block_in_place(|| {
        let data = dir.path().join("wallet");
        for (network, chain, listen, cause) in [
            ("regtest", &chain, "localhost", "no port"),
            ("regtest", &chain, ":9812", "no host"),
            ("regtest", &chain, "http://127.0.0.1:9812", "leave out"),
            ("regtest", &chain, "127.0.0.1:99999", "no port"),
            ("regtest", &chain, "192.0.2.7:9735", "--announce"),
            ("signet", &chain, "127.0.0.1:9812", "has the chain of regtest"),
            ("bitcoin", &chain, "127.0.0.1:9812", "has the chain of regtest"),
            ("regtest", &wrong, "127.0.0.1:9812", "refuses this user and password"),
            ("regtest", &nobody, "127.0.0.1:9812", "has not answered"),
        ] {
            let arguments = ["init", "--network", network, "--chain", chain, "--listen", listen];
            let said = refusal(&data, &arguments);
            assert!(said.contains(cause), "{network} {listen}: {said}");
            assert!(!data.join("seed.txt").exists(), "{network} {listen}: no words before it can start");
        }
        // Said to be so, it may be away; then the first start needs it.
        value(&data, &["init", "--network", "regtest", "--chain", &nobody, "--offline"]);
        assert!(refusal(&data, &["wallet", "balance"]).contains("has not answered"));
        assert!(!data.join("node").exists());
        // A port that is taken after `init` is not blamed on the chain.
        let second = dir.path().join("second");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        drop(listener);
        value(&second, &["init", "--network", "regtest", "--chain", &chain, "--listen", &at]);
        let listener = std::net::TcpListener::bind(&at).unwrap();
        let said = refusal(&second, &["run"]);
        assert!(said.contains("another program listens there") && !said.contains("chain source"), "{said}");
        drop(listener);
        value(&second, &["wallet", "balance"]);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_chain_that_is_started_again_is_found_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let chain = dir.path().join("chain");
    let first = Bitcoind::start(&chain).await.unwrap();
    let source = first.source().clone();
    let second = Bitcoind::start(&chain).await.map(|_| ()).unwrap_err().to_string();
    assert!(second.contains("runs in") && second.contains(&String::from(source.clone())), "{second}");
    first.rpc().mine(3).await.unwrap();
    first.stop().unwrap();
    let again = Bitcoind::start(&chain).await.unwrap();
    assert_eq!((again.source(), again.rpc().height().await.unwrap()), (&source, 3));
    again.stop().unwrap();
    // Unless its port is somebody else's by now.
    let ChainSource::Bitcoind { port, .. } = source else { unreachable!() };
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let moved = Bitcoind::start(&chain).await.unwrap();
    assert_eq!(moved.rpc().height().await.unwrap(), 3);
    drop(taken);
}

#[test]
fn limits_of_escrows_are_told_before_anything_is_allocated() {
    let nowhere = tempfile::tempdir().unwrap();
    let split = |holders: &str, tiers: &str| {
        let reward = ["escrow", "split", "--reward", "1000000 sat", "--holders", holders, "--tiers", tiers];
        pay(nowhere.path(), &reward)
    };
    assert!(split("60", "8").status.success());
    for (holders, tiers) in [("61", "8"), ("484", "1"), ("65536", "1"), ("99999999999", "6"), ("0", "1")] {
        let out = split(holders, tiers);
        assert!(!out.status.success(), "{holders} {tiers}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("483"), "{holders} {tiers}: {out:?}");
    }
    let node = format!("{}@127.0.0.1:9735", "02".repeat(33));
    let lots = ["escrow", "prepare", &node, "1000 sat", "--lots", "484"];
    assert!(refusal(nowhere.path(), &lots).contains("483"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_use_the_process_that_has_the_wallet_and_a_signal_ends_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    let mut running = Program::start(dir.path().join("wallet"), &bitcoind, None, 9).await;
    tokio::task::block_in_place(|| {
        let data = running.dir.clone();
        assert_eq!(value(&data, &["wallet", "show"])["node"], running.address.id.to_string());
        assert!(refusal(&data, &["run"]).contains("in use"));
        let none = "02".repeat(33);
        assert!(refusal(&data, &["wallet", "close", &none]).contains("no channel"));
        assert!(refusal(&data, &["wallet", "close", "02"]).contains("invalid"));
        let itself = format!("{}@127.0.0.1:1", running.address.id);
        for command in [&["wallet", "open", &itself, "100000"][..], &["wallet", "connect", &itself]] {
            assert!(refusal(&data, command).contains("this node itself"));
        }
        // The key of the generator's point: nobody's.
        let nobody =
            "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:1".to_owned();
        assert!(!refusal(&data, &["wallet", "open", &nobody, "100000"]).is_empty());
        assert!(refusal(&data, &["wallet", "connect", &nobody]).contains("no connection"));
        let error = refusal(&data, &["--json", "campaign", "show", "none"]);
        let error: Value = serde_json::from_str(&error).unwrap();
        assert!(error["error"].as_str().unwrap().contains("no campaign"));
        assert!(refusal(&data, &["escrow", "status", &"00".repeat(32)]).contains("no escrow"));
        running.stop();
        assert!(running.log().ends_with("stopping\n"), "{}", running.log());
        // a command starts the wallet by itself, and leaves it stopped
        assert_eq!(value(&data, &["wallet", "show"])["node"], running.address.id.to_string());
        running.run();
        let end = Instant::now() + Duration::from_secs(30);
        while running.log().matches("running as").count() < 2 {
            assert!(Instant::now() < end, "{}", running.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        running.hang_up();
        assert!(
            running.log().ends_with("stopping\n"),
            "a terminal that is closed ends it in order: {}",
            running.log()
        );
    });
}
