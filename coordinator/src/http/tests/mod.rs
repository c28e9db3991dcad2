//! The API over real sockets: a market with a journal, blobs in a folder, and no money at all.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod api;
mod blobs;
mod document;
mod downloads;
mod events;
mod large;
mod list;
mod s3;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use watershed_commons::client::{Client, ClientError};
use watershed_engine::device;
use watershed_protocol::market::view::{PledgeMade, PledgeView};
use watershed_protocol::market::{DataSpec, Join, Message, RunSpec, Stepped, TextSource};
use watershed_protocol::{
    AssignmentId, Digest, Domain, Envelope, Msat, PaymentHash, Preimage, PublicKey, RoundNumber, RunId,
    SecretKey, ShardSetId, SnapshotId, TokenizerId,
};
use watershed_shards::library::Store;

use super::{Limits, Shared, router};
use crate::blobs::Blobs;
use crate::machine::{Event, Work};
use crate::market::Market;
use crate::office::{Campaign, Computer, Funds, Money, MoneyError, Office, Refunded, Unpaid};

/// Nothing is paid here.
pub(super) struct NoMoney;

fn nobody<T>() -> Result<T, MoneyError> {
    Err(MoneyError::Other("there is no money here".to_owned()))
}

impl Money for NoMoney {
    async fn campaign(&self, _: RunId, _: &RunSpec) -> Result<Campaign, MoneyError> {
        nobody()
    }
    async fn cancel_campaign(&self, _: RunId, _: &str) -> Result<(), MoneyError> {
        nobody()
    }
    async fn pledge(
        &self,
        _: RunId,
        _: &str,
        amount: Msat,
        _: Option<&str>,
    ) -> Result<PledgeMade, MoneyError> {
        let (invoice, hash, state) = ("lnbcrt1".to_owned(), "00".repeat(32), "invoiced".to_owned());
        let (left, refunded, refund) = (Msat::ZERO, Msat::ZERO, "none".to_owned());
        let pledge = PledgeView { invoice, hash, state, amount, left, refunded, refund };
        Ok(PledgeMade { pledge, claim: "a token".to_owned() })
    }
    fn pledge_state(&self, _: RunId, _: &str) -> Result<PledgeView, MoneyError> {
        nobody()
    }
    fn raised(&self, _: RunId) -> Result<(Msat, Msat), MoneyError> {
        Ok((Msat::new(5), Msat::new(7)))
    }
    async fn channel(&self, _: &str, _: Msat, _: usize) -> Result<(), MoneyError> {
        nobody()
    }
    async fn part(&self, _: &str) -> Result<(), MoneyError> {
        nobody()
    }
    async fn funds(&self) -> Result<Funds, MoneyError> {
        nobody()
    }
    async fn offer(
        &self,
        _: RunId,
        _: &RunSpec,
        _: AssignmentId,
        _: &Work,
        _: &str,
    ) -> Result<(), MoneyError> {
        nobody()
    }
    async fn lock(&self, _: AssignmentId, _: &[String]) -> Result<(), MoneyError> {
        nobody()
    }
    async fn confirm(&self, _: AssignmentId, _: &[(PaymentHash, u32)]) -> Result<(), MoneyError> {
        nobody()
    }
    async fn withdraw(&self, _: AssignmentId) -> Result<(), MoneyError> {
        nobody()
    }
    async fn ended(
        &self,
        _: AssignmentId,
        _: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(Msat, Msat), MoneyError> {
        nobody()
    }
    async fn fee(&self, _: RunId, _: &RunSpec, _: AssignmentId, _: PublicKey) -> Result<(), MoneyError> {
        nobody()
    }
    async fn finish(
        &self,
        _: RunId,
        _: &RunSpec,
        _: Msat,
        _: &[(PublicKey, Msat)],
    ) -> Result<Msat, MoneyError> {
        nobody()
    }
    async fn refund(&self, _: RunId, _: &str, _: &str) -> Result<Refunded, MoneyError> {
        nobody()
    }
    async fn pay_refunds(&self, _: RunId) -> Result<bool, MoneyError> {
        nobody()
    }
    fn refunds(&self, _: RunId) -> Result<Vec<Refunded>, MoneyError> {
        nobody()
    }
    async fn joining_fee(
        &self,
        _: RunId,
        _: &RunSpec,
        _: PublicKey,
        _: &axum::http::HeaderMap,
    ) -> Result<Result<PaymentHash, Unpaid>, MoneyError> {
        nobody()
    }
    fn book_joining_fee(&self, _: RunId, _: &RunSpec, _: PublicKey) -> Result<(), MoneyError> {
        nobody()
    }
    async fn pay_out(&self, _: PublicKey, _: &str) -> Result<Msat, MoneyError> {
        nobody()
    }
}

pub(super) fn key(n: u8) -> SecretKey {
    SecretKey::from_entropy([n; 32]).unwrap()
}

pub(super) fn digest(what: &str) -> Digest {
    Domain::Text.hash(what.as_bytes())
}

pub(super) const COORDINATOR: u8 = 1;
pub(super) const MINER: u8 = 2;
pub(super) const VALIDATOR: u8 = 3;

pub(super) fn spec() -> RunSpec {
    let mut spec = RunSpec::smallest([key(VALIDATOR).public()]);
    spec.title = "a run to ask about".to_owned();
    spec.model.max_seq = 32;
    spec.data = DataSpec {
        shards: ShardSetId::of(b"a set"),
        snapshot: SnapshotId::of(b"snapshot"),
        tokenizer: TokenizerId::of(b"tokenizer"),
        sequence_length: 32,
        max_epochs: 4,
        ..spec.data
    };
    (spec.inner.steps, spec.inner.batch) = (3, 2);
    (spec.rounds.count, spec.rounds.max_miners) = (2, 4);
    let rounds = &mut spec.rounds;
    (rounds.lock_seconds, rounds.train_seconds) = (600, 600);
    (rounds.reveal_seconds, rounds.verdict_seconds) = (600, 600);
    spec.checks.score_sequences = 2;
    (spec.reward.per_assignment, spec.reward.tiers) = (Msat::new(14_000), 3);
    spec
}

/// Readers of events at once.
pub(super) const STREAMS: usize = 3;

/// A coordinator that is asked.
pub(super) struct Place {
    pub(super) shared: Arc<Shared<NoMoney>>,
    pub(super) client: Client,
    pub(super) http: reqwest::Client,
    pub(super) run: RunId,
    pub(super) base: String,
    pub(super) folder: tempfile::TempDir,
}

/// Serves on a port of its own.
pub(super) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    at
}

impl Place {
    /// With a run that is open and has its first checkpoint.
    pub(super) async fn open() -> Self {
        Self::with(&spec()).await
    }

    pub(super) async fn with(spec: &RunSpec) -> Self {
        Self::at(spec, None).await
    }

    /// With blobs at a place of their own.
    pub(super) async fn at(spec: &RunSpec, blobs: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (market, _) = Market::open(&folder.path().join("coordinator.sqlite")).unwrap();
        let local = folder.path().join("blobs").to_string_lossy().into_owned();
        let blobs = Blobs::open(blobs.unwrap_or(&local)).unwrap();
        let computer = Computer::new(Store::new(&folder.path().join("library")), device::cpu(), None);
        let office = Office::new(market, NoMoney, blobs, computer, None);
        let shared = Shared::new(
            office,
            key(COORDINATOR),
            (format!("02{}@127.0.0.1:9735", key(8).public()), "regtest".to_owned()),
            ("a key".to_owned(), folder.path().join("log")),
            32 << 20,
            Limits { streams: STREAMS, ..Limits::default() },
        );
        let base = format!("http://{}", serve(router(Arc::clone(&shared))).await);
        let (client, run) = (Client::new(&base).unwrap(), spec.id().unwrap());
        let place = Self { shared, client, http: reqwest::Client::new(), run, base, folder };
        place.happened(Event::Open { spec: Envelope::sign(spec, &key(COORDINATOR)).unwrap() }).await;
        if spec.funding.goal == Msat::ZERO {
            place.prepare(spec).await;
        }
        place
    }

    async fn prepare(&self, spec: &RunSpec) {
        let (run, shards) = (self.run, spec.data.shards);
        let text = TextSource {
            run,
            shards,
            set: digest("set"),
            snapshot: SnapshotId::of(b"snapshot"),
            tokenizer: TokenizerId::of(b"tokenizer"),
            index: digest("index"),
            consents: None,
        };
        let first = Stepped {
            run,
            round: RoundNumber(0),
            checkpoint: digest("checkpoint"),
            blob: digest("parameters"),
            velocity: None,
            accepted: Vec::new(),
            loss: 3.0f32.to_bits(),
        };
        self.happened(Event::Prepared { text, first }).await;
    }

    pub(super) async fn happened(&self, event: Event) {
        self.shared.office.market.happened(self.run, event).await.unwrap();
    }

    /// Something that changes the run and concerns nobody.
    pub(super) async fn nudge(&self) {
        let paused = self.shared.office.market.with(self.run, |r| (r.paused, r.commanded + 1)).unwrap();
        self.happened(match paused {
            (false, at) => Event::Pause { at },
            (true, at) => Event::Resume { at },
        })
        .await;
    }

    pub(super) async fn say(&self, message: &Message, signer: u8) -> Result<(), ClientError> {
        self.client.say(self.run, message, &key(signer)).await.map(drop)
    }

    pub(super) async fn join(&self) {
        let join = Join {
            run: self.run,
            node: format!("02{}@127.0.0.1:9735", key(9).public()),
            tokens_per_second: 1_000_000,
            min_per_million_tokens: Msat::ZERO,
            lost_state: false,
        };
        self.say(&Message::Join(join), MINER).await.unwrap();
    }

    /// A task of the miner, whose reward is locked.
    pub(super) async fn assigned(&self) -> AssignmentId {
        self.join().await;
        let miner = key(MINER).public();
        let version = self.shared.office.market.with(self.run, |r| r.miners[&miner].asked).unwrap();
        self.happened(Event::Channel { miner, version, result: Ok(()) }).await;
        self.happened(Event::Begin { live: vec![miner] }).await;
        let view = self.client.miner(self.run, miner, u64::MAX).await.unwrap();
        let assignment = view.works[0].id;
        let hash = |tier: u8| Preimage::from_bytes([tier; 32]).hash();
        let hashes: Vec<PaymentHash> = (1..=3).map(hash).collect();
        self.say(&Message::Hashes { assignment, hashes: hashes.clone() }, VALIDATOR).await.unwrap();
        self.happened(Event::Offered { assignment, result: Ok(()) }).await;
        let invoices = vec!["lnbcrt1".to_owned(); 3];
        self.say(&Message::Accept { assignment, invoices }, MINER).await.unwrap();
        self.happened(Event::LockTried { assignment, result: Ok(()) }).await;
        let reports = hashes.into_iter().map(|hash| (hash, 500)).collect();
        self.say(&Message::Locked { assignment, reports }, MINER).await.unwrap();
        self.happened(Event::Confirmed { assignment, result: Ok(()) }).await;
        assignment
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.http.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

/// Status and code of a refusal.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result.unwrap_err() {
        ClientError::Refused { status, code, .. } => (status, code),
        other => panic!("{other}"),
    }
}

/// Status and code of an answer that is a refusal.
pub(super) async fn refusal(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    super::schema::tests::check_refused(&value);
    (status, value["code"].as_str().unwrap().to_owned())
}
