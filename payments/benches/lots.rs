//! Locking and settling lots beside bare LDK Node calls, in one run over channels of the same kind.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Market, ended, preimage, terms};
use ldk_node::config::Config;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::{Builder, Event, Node};
use watershed_payments::regtest::{Bitcoind, free_port};
use watershed_payments::wallet::Network;
use watershed_payments::wallet::ldk::ChainSource;
use watershed_protocol::Preimage;

const MSAT: u64 = 3_000_000;
/// Lots at once, and rounds. LDK takes an HTLC in after a random delay, so few rounds say little about one lot.
const COUNTS: [(u32, u32); 3] = [(1, 200), (6, 60), (50, 12)];

/// A payer and a payee of LDK Node alone.
struct Bare {
    payer: Arc<Node>,
    payee: Arc<Node>,
}

fn node(
    bitcoind: &Bitcoind,
    dir: &std::path::Path,
    seed: u8,
    payer: Option<(&Node, u16)>,
    port: u16,
) -> Arc<Node> {
    let config = Config {
        network: Network::Regtest,
        storage_dir_path: dir.to_string_lossy().into_owned(),
        listening_addresses: Some(vec![format!("127.0.0.1:{port}").parse().unwrap()]),
        trusted_peers_0conf: payer.iter().map(|(p, _)| p.node_id()).collect(),
        ..Config::default()
    };
    let mut builder = Builder::from_config(config);
    builder.set_entropy_seed_bytes([seed; 64]);
    let ChainSource::Bitcoind { host, port, user, password } = bitcoind.source().clone() else {
        unreachable!()
    };
    builder.set_chain_source_bitcoind_rpc(host, port, user, password);
    if let Some((payer, port)) = payer {
        let address: SocketAddress = format!("127.0.0.1:{port}").parse().unwrap();
        builder.set_liquidity_source_lsps2(payer.node_id(), address, None);
    }
    let node = builder.build().unwrap();
    node.start().unwrap();
    Arc::new(node)
}

fn wait(node: &Node, mut done: impl FnMut(&Event) -> bool) {
    loop {
        let event = node.wait_next_event();
        let over = done(&event);
        node.event_handled().unwrap();
        if over {
            return;
        }
    }
}

impl Bare {
    fn lock(&self, secrets: &[Preimage]) -> Duration {
        let description = Bolt11InvoiceDescription::Direct(Description::new("lot".into()).unwrap());
        let start = Instant::now();
        for secret in secrets {
            let hash = PaymentHash(secret.hash().to_bytes());
            let invoice =
                self.payee.bolt11_payment().receive_for_hash(MSAT, &description, 3600, hash).unwrap();
            self.payer.bolt11_payment().send(&invoice, None).unwrap();
        }
        let mut left = secrets.len();
        wait(&self.payee, |event| {
            left -= usize::from(matches!(event, Event::PaymentClaimable { .. }));
            left == 0
        });
        start.elapsed()
    }

    fn settle(&self, secrets: &[Preimage]) -> Duration {
        let start = Instant::now();
        for secret in secrets {
            let hash = PaymentHash(secret.hash().to_bytes());
            let secret = PaymentPreimage(secret.to_bytes());
            self.payee.bolt11_payment().claim_for_hash(hash, MSAT, secret).unwrap();
        }
        let mut left: BTreeSet<_> = secrets.iter().map(|s| s.hash().to_bytes()).collect();
        wait(&self.payer, |event| {
            if let Event::PaymentSuccessful { payment_hash, .. } = event {
                left.remove(&payment_hash.0);
            }
            left.is_empty()
        });
        let elapsed = start.elapsed();
        let mut left = secrets.len();
        wait(&self.payee, |event| {
            left -= usize::from(matches!(event, Event::PaymentReceived { .. }));
            left == 0
        });
        elapsed
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Most that one lot may take beside the bare calls, and six lots beside one.
const MOST_BESIDE_BARE: f64 = 1.2;
const MOST_BESIDE_ONE: f64 = 2.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> ExitCode {
    let lots: u64 = COUNTS.iter().map(|(count, rounds)| u64::from(count * rounds)).sum();
    let market = Market::with_channel(lots * MSAT, 50).await;
    let dir = market.dir.path().to_owned();
    let ports = (free_port().unwrap(), free_port().unwrap());
    let bare = tokio::task::block_in_place(|| {
        let payer = node(&market.bitcoind, &dir.join("bare-payer"), 11, None, ports.0);
        let payee = node(&market.bitcoind, &dir.join("bare-payee"), 12, Some((&payer, ports.0)), ports.1);
        Bare { payer, payee }
    });
    let address = bare.payer.onchain_payment().new_address().unwrap().to_string();
    market.bitcoind.rpc().fund(&address).await.unwrap();
    market.seen().await;
    tokio::task::block_in_place(|| {
        while bare.payer.list_balances().spendable_onchain_balance_sats == 0 {
            let _ = bare.payer.sync_wallets();
            std::thread::sleep(Duration::from_millis(100));
        }
        let peer: SocketAddress = format!("127.0.0.1:{}", ports.1).parse().unwrap();
        let sats = lots * MSAT / 1000 * 5 / 4 + 20_000;
        bare.payer.open_channel(bare.payee.node_id(), peer, sats, None, None).unwrap();
        wait(&bare.payer, |event| matches!(event, Event::ChannelReady { .. }));
        wait(&bare.payee, |event| matches!(event, Event::ChannelReady { .. }));
    });
    market.mine(6).await;
    tokio::time::sleep(Duration::from_secs(4)).await;

    let (payer, payee) = (&market.payer.money, &market.payee.money);
    let mut next = 0;
    println!(
        "medians in ms of {} rounds; lots of {} sat",
        COUNTS.map(|(_, rounds)| rounds.to_string()).join(", "),
        MSAT / 1000
    );
    println!(
        "{:>5} {:>12} {:>12} {:>7} {:>12} {:>12} {:>7}",
        "lots", "lock, bare", "lock", "ratio", "settle, bare", "settle", "ratio"
    );
    let (mut lock_of_one, mut above) = (0.0, Vec::new());
    for (count, rounds) in COUNTS {
        let (mut bare_lock, mut bare_settle, mut lock, mut settle) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            let secrets: Vec<_> = (next..next + count).map(preimage).collect();
            tokio::task::block_in_place(|| {
                bare_lock.push(bare.lock(&secrets));
                bare_settle.push(bare.settle(&secrets));
            });
            let terms = terms(next, &vec![MSAT; count as usize], 144);
            let start = Instant::now();
            market.lock(&terms).await.unwrap();
            lock.push(start.elapsed());
            let start = Instant::now();
            payee.settle(&secrets).await.unwrap();
            ended(payer, terms.subject).await;
            settle.push(start.elapsed());
            next += count;
        }
        let (bare_lock, lock, bare_settle, settle) =
            (median(bare_lock), median(lock), median(bare_settle), median(settle));
        println!(
            "{count:>5} {bare_lock:>12.1} {lock:>12.1} {:>7.2} {bare_settle:>12.1} {settle:>12.1} {:>7.2}",
            lock / bare_lock,
            settle / bare_settle
        );
        if count == 1 {
            lock_of_one = lock;
            above.extend(
                (lock / bare_lock > MOST_BESIDE_BARE).then_some("locking one lot, beside the bare calls"),
            );
            above.extend(
                (settle / bare_settle > MOST_BESIDE_BARE)
                    .then_some("settling one lot, beside the bare calls"),
            );
        } else {
            println!("      {count} lots are locked in {:.2} times the time of one", lock / lock_of_one);
        }
        if count == 6 {
            above.extend((lock / lock_of_one > MOST_BESIDE_ONE).then_some("locking six lots, beside one"));
        }
    }
    market.agree().await;
    tokio::task::block_in_place(|| {
        bare.payer.stop().unwrap();
        bare.payee.stop().unwrap();
    });
    market.payer.stop().await;
    market.payee.stop().await;
    for what in &above {
        println!("above the limit: {what}");
    }
    if above.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
