//! The office and the API, over money that fails when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::net::TcpListener;
use watershed_commons::client::{Client, ClientError, to_text};
use watershed_coordinator::blobs::Blobs;
use watershed_coordinator::http::{Limits, Shared, router, serve};
use watershed_coordinator::machine::{Event, Run, Work};
use watershed_coordinator::market::{Market, now};
use watershed_coordinator::office::{Campaign, Computer, Funds, Money, MoneyError, Office, Refunded, Unpaid};
use watershed_engine::device;
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::market::{Command, Message, Present, RunSpec};
use watershed_protocol::{AssignmentId, Envelope, Msat, PaymentHash, PublicKey, RunId, SecretKey};
use watershed_shards::library::Store;

use crate::journal::{join, opened, say};
use crate::setup::cast;

/// What was asked of the money, and whether it fails.
#[derive(Default)]
struct Till {
    fails: AtomicBool,
    blind: AtomicBool,
    opening: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicUsize,
    parted: AtomicUsize,
}

#[derive(Clone, Default)]
struct Sham(Arc<Till>);

impl Sham {
    fn answer<T>(&self, value: T) -> Result<T, MoneyError> {
        if self.0.fails.load(SeqCst) { Err(MoneyError::Other("not now".to_owned())) } else { Ok(value) }
    }
}

/// What these tests do not ask for.
async fn never<T>() -> Result<T, MoneyError> {
    std::future::pending().await
}

impl Money for Sham {
    async fn campaign(&self, _: RunId, _: &RunSpec) -> Result<Campaign, MoneyError> {
        never().await
    }
    async fn cancel_campaign(&self, _: RunId, _: &str) -> Result<(), MoneyError> {
        never().await
    }
    async fn pledge(&self, _: RunId, _: &str, _: Msat, _: Option<&str>) -> Result<PledgeMade, MoneyError> {
        never().await
    }
    fn pledge_state(&self, _: RunId, _: &str) -> Result<PledgeView, MoneyError> {
        Err(MoneyError::Other(String::new()))
    }
    fn raised(&self, _: RunId) -> Result<(Msat, Msat), MoneyError> {
        Err(MoneyError::Other(String::new()))
    }
    async fn channel(&self, _: &str, _: Msat, _: usize) -> Result<(), MoneyError> {
        let at_once = self.0.opening.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(at_once, SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.opening.fetch_sub(1, SeqCst);
        self.0.opened.fetch_add(1, SeqCst);
        self.answer(())
    }
    async fn part(&self, _: &str) -> Result<(), MoneyError> {
        self.answer(())?;
        self.0.parted.fetch_add(1, SeqCst);
        Ok(())
    }
    async fn funds(&self) -> Result<Funds, MoneyError> {
        let chain_trouble = self.0.blind.load(SeqCst).then(|| "bitcoind is silent".to_owned());
        let spendable = Msat::new(5_000);
        self.answer(Funds { channels: 3, usable: 2, spendable, on_chain_sats: 7, chain_trouble })
    }
    async fn offer(
        &self,
        _: RunId,
        _: &RunSpec,
        _: AssignmentId,
        _: &Work,
        _: &str,
    ) -> Result<(), MoneyError> {
        never().await
    }
    async fn lock(&self, _: AssignmentId, _: &[String]) -> Result<(), MoneyError> {
        never().await
    }
    async fn confirm(&self, _: AssignmentId, _: &[(PaymentHash, u32)]) -> Result<(), MoneyError> {
        never().await
    }
    async fn withdraw(&self, _: AssignmentId) -> Result<(), MoneyError> {
        never().await
    }
    async fn ended(
        &self,
        _: AssignmentId,
        _: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(Msat, Msat), MoneyError> {
        never().await
    }
    async fn fee(&self, _: RunId, _: &RunSpec, _: AssignmentId, _: PublicKey) -> Result<(), MoneyError> {
        never().await
    }
    async fn finish(
        &self,
        _: RunId,
        _: &RunSpec,
        _: Msat,
        _: &[(PublicKey, Msat)],
    ) -> Result<Msat, MoneyError> {
        never().await
    }
    async fn refund(&self, _: RunId, _: &str, _: &str) -> Result<Refunded, MoneyError> {
        never().await
    }
    async fn pay_refunds(&self, _: RunId) -> Result<bool, MoneyError> {
        never().await
    }
    fn refunds(&self, _: RunId) -> Result<Vec<Refunded>, MoneyError> {
        Ok(Vec::new())
    }
    async fn joining_fee(
        &self,
        _: RunId,
        _: &RunSpec,
        _: PublicKey,
        _: &axum::http::HeaderMap,
    ) -> Result<Result<PaymentHash, Unpaid>, MoneyError> {
        never().await
    }
    fn book_joining_fee(&self, _: RunId, _: &RunSpec, _: PublicKey) -> Result<(), MoneyError> {
        self.answer(())
    }
    async fn pay_out(&self, _: PublicKey, _: &str) -> Result<Msat, MoneyError> {
        never().await
    }
}

/// A coordinator with its API, and a run without a first checkpoint.
struct Place {
    market: Market,
    money: Sham,
    client: Client,
    run: RunId,
    folder: tempfile::TempDir,
    tasks: tokio::task::JoinSet<()>,
}

async fn place(limits: Limits) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (market, effects) = Market::open(&folder.path().join("journal")).unwrap();
    let run = opened(&market).await;
    let money = Sham::default();
    let blobs = Blobs::open(&folder.path().join("blobs").to_string_lossy()).unwrap();
    let computer = Computer::new(Store::new(folder.path()), device::cpu(), None);
    let office = Office::new(market.clone(), money.clone(), blobs, computer, None);
    let shared = Shared::new(
        Arc::clone(&office),
        cast().coordinator,
        (String::new(), "regtest".to_owned()),
        (String::new(), folder.path().join("log")),
        1 << 30,
        limits,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(office.run(effects));
    tasks.spawn(serve(listener, router(Arc::clone(&shared)), Arc::clone(&shared.guard)));
    Place { market, money, client, run, folder, tasks }
}

impl Place {
    fn run<T>(&self, look: impl FnOnce(&Run) -> T) -> T {
        self.market.with(self.run, look).unwrap()
    }

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(done(self), "it never came to pass that {what}");
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.client.url())).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

fn node(n: u8) -> String {
    format!("02{}@127.0.0.1:9735", key(n).public())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_join_at_once_have_channels_opened_a_few_at_a_time() {
    let place = place(Limits::default()).await;
    for n in 1..=40 {
        say(&place.market, place.run, &key(n), &join(place.run, &node(n))).await;
    }
    place
        .until("all have channels", |p| p.run(|r| r.miners.values().all(|m| m.channel == Some(Ok(())))))
        .await;
    let till = &place.money.0;
    assert_eq!(till.opened.load(SeqCst), 40);
    assert!((2..=8).contains(&till.most.load(SeqCst)), "{}", till.most.load(SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_channel_of_who_left_is_closed_as_soon_as_it_can_be_and_not_of_who_came_back() {
    let place = place(Limits::default()).await;
    let mut miners = Vec::new();
    for n in 1..=3 {
        miners.push(say(&place.market, place.run, &key(n), &join(place.run, &node(n))).await);
    }
    // Two keys with one node.
    miners.push(say(&place.market, place.run, &key(4), &join(place.run, &node(3))).await);
    place
        .until("all have channels", |p| p.run(|r| r.miners.values().all(|m| m.channel == Some(Ok(())))))
        .await;
    for n in 1..=3 {
        say(&place.market, place.run, &key(n), &Message::Leave { run: place.run }).await;
    }
    assert_eq!(place.run(|r| r.gone(now(), &[], 900, 86_400)), None, "they may only be started again");
    place.money.0.fails.store(true, SeqCst);
    while let Some(event) = place.run(|r| r.gone(now() + 900, &[], 900, 86_400)) {
        place.market.happened(place.run, event).await.unwrap();
    }
    assert_eq!(place.run(|r| r.miners[&miners[0]].channel.clone()), None);
    // One is back before it was closed.
    say(&place.market, place.run, &key(1), &join(place.run, &node(1))).await;
    place.money.0.fails.store(false, SeqCst);
    place.until("what was asked for is done", |p| p.run(|r| r.miners[&miners[0]].channel.is_some())).await;
    for _ in 0..1_500 {
        if place.market.numbers().await.unwrap().pending == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // To prepare the first checkpoint is left: there is no text here.
    assert_eq!(place.market.numbers().await.unwrap().pending, 1);
    assert_eq!(
        place.money.0.parted.load(SeqCst),
        1,
        "only the second is gone, and its node is nobody else's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cannot_have_channels_opened_without_end() {
    let place = place(Limits::default()).await;
    let mut refused = 0;
    for n in 0..30 {
        let message = join(place.run, &node(100 + n));
        let envelope = Envelope::sign(&message, &key(1)).unwrap();
        refused +=
            usize::from(place.market.said(place.run, key(1).public(), message, envelope).await.is_err());
    }
    assert_eq!(refused, 22);
    // With the node that it has it is taken as often as it likes.
    say(&place.market, place.run, &key(1), &join(place.run, &node(107))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_miner_itself_keeps_itself_alive() {
    let place = place(Limits::default()).await;
    let (run, me) = (place.run, key(1));
    say(&place.market, run, &me, &join(run, &node(1))).await;
    place.client.miner(run, me.public(), u64::MAX).await.unwrap();
    assert_eq!(place.market.live(run), []);
    let present = |at| to_text(&Envelope::sign(&Present { run, at }, &me).unwrap()).unwrap();
    let url = format!("{}/v1/runs/{run}/miners/{}", place.client.url(), me.public());
    let look = async |said: String| {
        reqwest::Client::new()
            .get(&url)
            .header("watershed-present", said)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(look(present(now() * 1000 - 3_600_000)).await, 400);
    let others = to_text(&Envelope::sign(&Present { run, at: now() * 1000 }, &key(2)).unwrap()).unwrap();
    assert_eq!(look(others).await, 400);
    assert_eq!(place.market.live(run), []);
    let said = present(now() * 1000);
    assert_eq!(look(said.clone()).await, 200);
    assert_eq!(place.market.live(run), [me.public()]);
    // Somebody who heard it cannot say it again.
    let at = now() * 1000 + 1;
    assert!(place.market.present(run, me.public(), at).is_some());
    assert!(place.market.present(run, me.public(), at).is_none());
    place.client.present(run, &me, u64::MAX).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_that_wait_than_may_are_told_so() {
    let place = place(Limits { waiting: 1, ..Limits::default() }).await;
    let version = place.client.works(place.run, u64::MAX).await.unwrap().version;
    let (client, run) = (place.client.clone(), place.run);
    let waits = tokio::spawn(async move { client.works(run, version).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    match place.client.works(place.run, version).await {
        Err(ClientError::Refused { status: 503, code, .. }) => assert_eq!(code, "busy"),
        other => panic!("{other:?}"),
    }
    // Whoever need not wait is answered.
    place.client.works(place.run, u64::MAX).await.unwrap();
    assert!(!waits.is_finished());
    waits.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_numbers_say_what_does_not_work() {
    let mut place = place(Limits::default()).await;
    assert_eq!(
        place.text("/healthz").await,
        (200, "database ok\nwallet ok\nchain ok\nblobs ok\n".to_owned())
    );
    let (status, before) = place.text("/metrics").await;
    assert_eq!(status, 200);
    let run = place.run.to_string();
    for line in [
        "watershed_wallet_up 1",
        "watershed_chain_up 1",
        "watershed_spendable_sat 5",
        "watershed_channels 3",
        "watershed_journal_events 1",
    ] {
        assert!(before.contains(line), "{line} is not in\n{before}");
    }
    assert!(before.contains(&format!("watershed_phase{{run=\"{run}\",phase=\"preparing\"}} 1")), "{before}");
    place.money.0.blind.store(true, SeqCst);
    let blind = "database ok\nwallet ok\nchain failed\nblobs ok\n".to_owned();
    assert_eq!(place.text("/healthz").await, (503, blind));
    assert!(place.text("/metrics").await.1.contains("watershed_chain_up 0"));
    let cancel = Event::Cancel { reason: "enough".to_owned(), at: 1 };
    place.market.happened(place.run, cancel).await.unwrap();
    place.money.0.fails.store(true, SeqCst);
    place.market.happened(place.run, crate::book::prepared(&place.run(Run::clone))).await.unwrap();
    assert_eq!(
        place.text("/healthz").await,
        (503, "database ok\nwallet failed\nchain failed\nblobs ok\n".to_owned())
    );
    let (_, after) = place.text("/metrics").await;
    assert!(after.contains("watershed_wallet_up 0") && !after.contains("watershed_spendable_sat"));
    // No series has gone, and none is there twice.
    let series = |text: &str| -> Vec<String> {
        let of_run = text.lines().filter(|l| l.contains(&run) && !l.contains("http_"));
        let mut series: Vec<_> = of_run.map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect();
        series.sort();
        series
    };
    assert_eq!(series(&before), series(&after));
    // The store of blobs is gone.
    let blobs = place.folder.path().join("blobs");
    std::fs::remove_dir_all(&blobs).unwrap();
    std::fs::write(&blobs, "").unwrap();
    assert_eq!(place.text("/healthz").await.1, "database ok\nwallet failed\nchain failed\nblobs failed\n");
    place.tasks.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_taken_when_it_is_given_and_never_again() {
    let place = place(Limits::default()).await;
    let (run, operator) = (place.run, &cast().coordinator);
    let said = async |command| place.client.command(&command, operator).await.map(|view| view.paused);
    let at = now() * 1000;
    let pause = Command::Pause { run, at };
    assert!(said(pause.clone()).await.unwrap());
    assert!(said(pause.clone()).await.unwrap(), "the answer may have been lost");
    assert!(!said(Command::Resume { run, at: at + 1 }).await.unwrap());
    assert_eq!(said(pause).await.unwrap_err().code(), Some("stale-command"));
    let old = Command::Cancel { run, reason: String::new(), at: at - 700_000 };
    assert_eq!(said(old).await.unwrap_err().code(), Some("stale-command"));
    assert!(place.client.command(&Command::Pause { run, at: at + 2 }, &key(1)).await.is_err());
    assert_eq!(place.run(|r| (r.paused, r.cancelled.clone())), (false, None));
}

/// Takes a miner's task to where it holds its reward.
async fn locked(place: &Place, me: &SecretKey) -> AssignmentId {
    let (market, run) = (&place.market, place.run);
    market.happened(run, crate::book::prepared(&place.run(Run::clone))).await.unwrap();
    say(market, run, me, &join(run, &node(1))).await;
    place.until("it has a channel", |p| p.run(|r| r.miners[&me.public()].channel == Some(Ok(())))).await;
    market.happened(run, Event::Begin { live: vec![me.public()] }).await.unwrap();
    let (assignment, tiers, members) = place
        .run(|r| (*r.works.keys().next().unwrap(), r.spec.reward.tiers as u8, r.spec.committee.len() as u8));
    for member in 0..members {
        let hashes = (0..tiers).map(|tier| PaymentHash::from_bytes([16 * member + tier; 32])).collect();
        say(market, run, &key(11 + member), &Message::Hashes { assignment, hashes }).await;
    }
    market.happened(run, Event::Offered { assignment, result: Ok(()) }).await.unwrap();
    let lots = place.run(|r| r.works[&assignment].lots.clone());
    let invoices = vec![String::new(); lots.len()];
    say(market, run, me, &Message::Accept { assignment, invoices }).await;
    market.happened(run, Event::LockTried { assignment, result: Ok(()) }).await.unwrap();
    let reports = lots.iter().map(|l| (l.hash, 9)).collect();
    say(market, run, me, &Message::Locked { assignment, reports }).await;
    market.happened(run, Event::Confirmed { assignment, result: Ok(()) }).await.unwrap();
    assignment
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_uploads_what_its_task_needs_and_no_more() {
    let place = place(Limits::default()).await;
    let me = key(1);
    let task = locked(&place, &me).await;
    let n = place.run(|r| r.spec.model.parameters().unwrap());
    let quota = usize::try_from(4 * n).unwrap() + (1 << 20);
    let put = async |bytes: Vec<u8>, key: &SecretKey| {
        let mut put = place.client.upload(task, bytes.clone(), key).await;
        if put.as_ref().is_err_and(ClientError::is_passing) {
            // Refused before its body was read, a request ends its connection, which the next may still take for whole.
            put = place.client.upload(task, bytes, key).await;
        }
        put.map(drop).map_err(|e| e.code().unwrap_or_default().to_owned())
    };
    let refused = |code: &str| Err(code.to_owned());
    assert_eq!(put(vec![0; quota + 1], &me).await, refused("too-long"));
    assert_eq!(put(vec![0; 10], &key(2)).await, refused("not-allowed"));
    // What breaks off, or is something else, does not count.
    let announced = watershed_protocol::market::Upload {
        assignment: task,
        sha256: watershed_rounds::sha256(b"announced"),
        bytes: quota as u64,
    };
    let url = format!("{}/v1/blobs/{}", place.client.url(), announced.sha256);
    let said = to_text(&Envelope::sign(&announced, &me).unwrap()).unwrap();
    let other = reqwest::Client::new().put(&url).header("watershed-upload", said).body(vec![7; quota]);
    assert_eq!(other.send().await.unwrap().status().as_u16(), 400);
    assert_eq!(put(vec![1; quota], &me).await, Ok(()));
    assert_eq!(put(vec![1; quota], &me).await, Ok(()), "what is there already costs nothing");
    assert_eq!(put(vec![2; 1], &me).await, refused("too-long"));
    // Nobody has asked for an opening, and the task is not over.
    place.run(|r| assert!(r.works[&task].openings.is_empty()));
}

#[tokio::test]
async fn a_blob_that_is_older_than_what_was_opened_is_not_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&folder.path().to_string_lossy()).unwrap();
    let blob = blobs.put(b"somebody's work".to_vec()).await.unwrap();
    blobs.discard(blob, now() + 10).await.unwrap();
    assert_eq!(blobs.length(blob).await.unwrap(), Some(15));
    for _ in 0..2 {
        blobs.discard(blob, now() - 10).await.unwrap();
        assert_eq!(blobs.length(blob).await.unwrap(), None);
    }
}
