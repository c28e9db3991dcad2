//! Networks and chain sources: a node starts with what a server tells it, or says what is wrong, also later.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use ldk_node::bitcoin::constants::genesis_block;
use watershed_payments::regtest::{Bitcoind, free_port};
use watershed_payments::wallet::ldk::{ChainSource, LdkWallet, SourceError, WalletConfig, init};
use watershed_payments::wallet::{ChannelPolicy, Network, Wallet as _, WalletError, Withdraw};
use watershed_protocol::Msat;

const NETWORKS: [(Network, &str); 4] = [
    (Network::Bitcoin, "lnbc"),
    (Network::Testnet, "lntb"),
    (Network::Signet, "lntbs"),
    (Network::Regtest, "lnbcrt"),
];

async fn start(dir: &Path, network: Network, chain: ChainSource) -> Result<LdkWallet, WalletError> {
    let channels = ChannelPolicy::default();
    let config =
        WalletConfig { network, chain, listen: Vec::new(), announce: Vec::new(), payer: None, channels };
    init(dir, &config, [1; 32]).unwrap();
    tokio::time::timeout(Duration::from_secs(60), LdkWallet::start(dir.to_owned())).await.unwrap()
}

/// An Esplora server that knows its first block and fees, and nothing else. It ends with the process.
fn esplora(network: Network) -> ChainSource {
    let first = genesis_block(network).block_hash().to_string();
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in server.incoming() {
            let (mut client, first) = (client.unwrap(), first.clone());
            std::thread::spawn(move || {
                let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
                while let Some(Ok(request)) = lines.next() {
                    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                    let (status, body) = if request.contains("/fee-estimates") {
                        ("200 OK", r#"{"1": 12.5, "6": 3.0, "144": 1.0, "1008": 1.0}"#)
                    } else if request.contains("/block-height/0 ") {
                        ("200 OK", first.as_str())
                    } else {
                        ("404 Not Found", "not here")
                    };
                    let length = body.len();
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
                    if client.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    ChainSource::Esplora(format!("http://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_starts_on_every_network_with_an_esplora_server() {
    for (network, prefix) in NETWORKS {
        let dir = tempfile::tempdir().unwrap();
        let wallet = start(dir.path(), network, esplora(network)).await.unwrap();
        assert_eq!(wallet.network(), network);
        let invoice = wallet.invoice(Msat::new(21_000), "x".into(), Duration::from_secs(60)).await.unwrap();
        let text = invoice.to_string();
        assert!(text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("210n")), "{network}: {text}");
        wallet.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_chain_source_that_does_not_answer_is_named_as_the_reason() {
    for (network, _) in NETWORKS.into_iter().filter(|(network, _)| *network != Network::Regtest) {
        let port = free_port().unwrap();
        let servers = [format!("esplora+http://127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}")];
        let bitcoind = Some(format!("bitcoind://u:secret@127.0.0.1:{port}"));
        for source in servers.into_iter().chain(bitcoind) {
            let dir = tempfile::tempdir().unwrap();
            let refused = start(dir.path(), network, source.parse().unwrap()).await.map(|_| ());
            let Err(WalletError::Source(SourceError::Silent { .. })) = &refused else {
                unreachable!("{network} {source}: {refused:?}")
            };
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("chain source") && !text.contains("secret"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wallet_starts_with_a_source_of_another_network() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    for (network, _) in NETWORKS {
        for (served, source) in
            [(Network::Regtest, bitcoind.source().clone()), (Network::Signet, esplora(Network::Signet))]
        {
            let data = dir.path().join(format!("{network}-{served}"));
            match start(&data, network, source).await {
                Ok(wallet) => {
                    assert_eq!(network, served);
                    wallet.stop().await.unwrap();
                }
                Err(WalletError::Source(SourceError::OtherNetwork { found, wanted, .. })) => {
                    assert!(network != served && wanted == network && found == served.to_string());
                    // And nothing was made that a later start would go on from.
                    assert!(!data.join("node").exists());
                }
                Err(e) => unreachable!("{network} with {served}: {e}"),
            }
        }
    }
    // A wallet that is there already is no exception.
    let data = dir.path().join("regtest-regtest");
    let config = WalletConfig { chain: esplora(Network::Bitcoin), ..WalletConfig::load(&data).unwrap() };
    config.save(&data).unwrap();
    let refused = LdkWallet::start(data).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, WalletError::Source(SourceError::OtherNetwork { .. })), "{refused}");
}

/// Asks for the wallet's birthday in the only way there is: blocks that were there before it was made are not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wallet_whose_bitcoind_was_away_at_first_still_begins_at_its_tip() {
    let dir = tempfile::tempdir().unwrap();
    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    bitcoind.rpc().mine(30).await.unwrap();
    let (source, data) = (bitcoind.source().clone(), dir.path().join("wallet"));
    bitcoind.stop().unwrap();
    let refused = start(&data, Network::Regtest, source).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, WalletError::Source(SourceError::Silent { .. })), "{refused}");
    assert!(!data.join("node").exists(), "a node was made before the chain answered");

    let bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    let wallet = move_to(&data, bitcoind.source()).await;
    assert_eq!(wallet.tip().await.unwrap(), 30, "from the first second on");
    wallet.stop().await.unwrap();
    drop(wallet);
    // A wrong password is told as such, also to a wallet that knows the chain.
    let ChainSource::Bitcoind { host, port, user, .. } = bitcoind.source().clone() else { unreachable!() };
    let wrong = ChainSource::Bitcoind { host, port, user, password: "wrong".into() };
    let config = WalletConfig { chain: wrong, ..WalletConfig::load(&data).unwrap() };
    config.save(&data).unwrap();
    let refused = LdkWallet::start(data).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, WalletError::Source(SourceError::Login { .. })), "{refused}");
}

/// Starts a wallet that is there already, with another chain source.
async fn move_to(dir: &Path, chain: &ChainSource) -> LdkWallet {
    let config = WalletConfig { chain: chain.clone(), ..WalletConfig::load(dir).unwrap() };
    config.save(dir).unwrap();
    LdkWallet::start(dir.to_owned()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_bitcoind_has_another_chain_is_seen_to_stand_still() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = Bitcoind::start(&dir.path().join("ours")).await.unwrap();
    let other = Bitcoind::start(&dir.path().join("other")).await.unwrap();
    ours.rpc().mine(20).await.unwrap();
    let data = dir.path().join("wallet");
    let wallet = start(&data, Network::Regtest, ours.source().clone()).await.unwrap();
    ours.rpc().seen_by(&wallet).await.unwrap();
    // Blocks that pay nobody and are made in the same second are the same blocks.
    other.rpc().fund(&wallet.address().await.unwrap()).await.unwrap();
    let view = wallet.chain().await.unwrap();
    assert_eq!((view.tip, view.source), (20, Some(20)));
    assert!(view.heard.is_some());
    wallet.stop().await.unwrap();
    drop(wallet);

    // LDK Node starts, and never says that it does not find its own blocks there.
    let wallet = move_to(&data, other.source()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let view = wallet.chain().await.unwrap();
    assert_eq!((view.tip, view.source), (20, Some(101)));
    other.stop().unwrap();
    assert_eq!(wallet.chain().await.unwrap().source, None);
    wallet.stop().await.unwrap();
    drop(wallet);

    // Back where it was, it goes on, also past a bitcoind that is killed.
    ours.rpc().mine(10).await.unwrap();
    let wallet = move_to(&data, ours.source()).await;
    ours.rpc().seen_by(&wallet).await.unwrap();
    ours.restart("KILL", Duration::from_millis(200)).await.unwrap();
    assert_eq!(ours.rpc().height().await.unwrap(), 30);
    ours.rpc().mine(1).await.unwrap();
    ours.rpc().seen_by(&wallet).await.unwrap();
    let view = wallet.chain().await.unwrap();
    assert_eq!((view.tip, view.source), (31, Some(31)));
    wallet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_for_a_block_outlives_a_bitcoind_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bitcoind = Bitcoind::start(&dir.path().join("chain")).await.unwrap();
    let wallet =
        start(&dir.path().join("wallet"), Network::Regtest, bitcoind.source().clone()).await.unwrap();
    bitcoind.rpc().fund(&wallet.address().await.unwrap()).await.unwrap();
    bitcoind.rpc().seen_by(&wallet).await.unwrap();
    // The second spends what the first leaves.
    let mut sent = BTreeSet::new();
    for _ in 0..2 {
        let to = wallet.address().await.unwrap();
        sent.insert(wallet.withdraw(to, Withdraw::Sats(100_000)).await.unwrap());
        wallet.sync().await.unwrap();
    }
    let waiting = async |bitcoind: &Bitcoind| -> BTreeSet<String> {
        let ids = bitcoind.rpc().call("getrawmempool", &[]).await.unwrap();
        serde_json::from_value(ids).unwrap()
    };
    let arrived = async {
        while waiting(&bitcoind).await != sent {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.unwrap();
    bitcoind.restart("KILL", Duration::from_millis(200)).await.unwrap();
    assert_eq!(waiting(&bitcoind).await, sent);
    wallet.stop().await.unwrap();
}
