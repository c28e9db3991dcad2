//! Talking to a coordinator: its API and its blobs.

mod fee;
mod log;
mod reach;
mod transfer;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;
use thiserror::Error;
use watershed_protocol::market::view::{
    FileView, InfoView, MinerView, PledgeMade, PledgeView, Refused, RevealView, RoundWorkView, RunView,
    Signed, TakenView, WorkView,
};
use watershed_protocol::market::{Command, Message, PayoutRequest, Present, Promise, Reveal, Upload};
use watershed_protocol::{AssignmentId, Digest, Envelope, PublicKey, RunId, SecretKey, decode, encode};

pub use log::{WebLog, watch};

/// How long an ordinary answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one upload or download may take.
const TRANSFER: Duration = Duration::from_secs(3600);

/// Runs that are asked for at once.
const PAGE: usize = 100;

/// Most runs of one coordinator that are looked at.
pub const MAX_RUNS: usize = 10_000;

/// Longest JSON answer.
const MAX_JSON: usize = 64 << 20;

/// Why a coordinator gave no answer that can be used.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not reachable.
    #[error("{url} does not answer: {}", reach::why(url, source))]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Not an address.
    #[error("{0:?} is no address of a server: give http://HOST:PORT or https://HOST")]
    Address(String),
    /// Refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("the answer of {url} cannot be read: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// A blob that is not what its name says.
    #[error(
        "the blob {wanted} arrived as {found}; ask again, and tell the coordinator's operator if it stays so"
    )]
    Hash {
        /// Asked for.
        wanted: Digest,
        /// Received.
        found: Digest,
    },
    /// More than was allowed.
    #[error("{url} sends more than {limit} bytes")]
    TooLong {
        /// What was asked.
        url: String,
        /// Most bytes.
        limit: usize,
    },
    /// The disk.
    #[error("{path}: {}", watershed_protocol::told(.source))]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A message that cannot be sent.
    #[error(transparent)]
    Encode(#[from] watershed_protocol::EncodeError),
}

impl ClientError {
    /// Whether asking again later may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

pub use fee::{Challenge, Joined};

/// An envelope as base64.
///
/// # Errors
/// Only for one that is too long.
pub fn to_text(envelope: &Envelope) -> Result<String, watershed_protocol::EncodeError> {
    Ok(STANDARD.encode(encode(envelope)?))
}

/// An envelope from base64; none if it is not one.
pub fn from_text(text: &str) -> Option<Envelope> {
    decode(&STANDARD.decode(text).ok()?).ok()
}

/// Chooses the cryptography for TLS, once for the process. Whoever makes a client of `reqwest` calls this first.
pub fn choose_tls() {
    // An error says that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A coordinator.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// The coordinator at `url`, such as `http://127.0.0.1:7700`.
    ///
    /// # Errors
    /// [`ClientError::Address`]; [`ClientError::Unreachable`] if the system has no usable certificates.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        choose_tls();
        let parsed = reqwest::Url::parse(url).ok();
        let fine = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
        if !parsed.as_ref().is_some_and(fine) {
            return Err(ClientError::Address(url.chars().take(120).collect()));
        }
        let base = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build();
        let http = http.map_err(|source| ClientError::Unreachable { url: base.clone(), source })?;
        Ok(Self { http, base })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.base
    }

    async fn body(&self, url: &str, mut answer: Response, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = answer.chunk().await;
            match chunk.map_err(|source| ClientError::Unreachable { url: url.to_owned(), source })? {
                None => return Ok(bytes),
                Some(chunk) if bytes.len() + chunk.len() > limit => {
                    return Err(ClientError::TooLong { url: url.to_owned(), limit });
                }
                Some(chunk) => bytes.extend_from_slice(&chunk),
            }
        }
    }

    async fn checked(&self, url: &str, answer: Response) -> Result<Response, ClientError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(url, answer, 1 << 16).await.unwrap_or_default();
        let refused = serde_json::from_slice::<Refused>(&body);
        let (code, message) = match refused {
            Ok(refused) => (refused.code, refused.message),
            Err(_) => ("http".to_owned(), format!("{url} answers {status}")),
        };
        Err(ClientError::Refused { status: status.as_u16(), code, message })
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
    ) -> Result<T, ClientError> {
        let sent = request.timeout(PATIENCE).send().await;
        let answer = sent.map_err(|source| ClientError::Unreachable { url: url.to_owned(), source })?;
        let answer = self.checked(url, answer).await?;
        let body = self.body(url, answer, MAX_JSON).await?;
        serde_json::from_slice(&body)
            .map_err(|e| ClientError::Answer { url: url.to_owned(), reason: e.to_string() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        self.send(self.http.get(&url), &url).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        self.send(self.http.post(&url).json(body), &url).await
    }

    /// Who it is.
    ///
    /// # Errors
    /// [`ClientError`], like every call.
    pub async fn info(&self) -> Result<InfoView, ClientError> {
        self.get("/v1/info").await
    }

    /// All runs, the newest first; of more than [`MAX_RUNS`] the newest.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&self) -> Result<Vec<RunView>, ClientError> {
        let mut runs: Vec<RunView> = Vec::new();
        loop {
            let before = runs.last().map(|r| format!("&before={}", r.run)).unwrap_or_default();
            let page: Vec<RunView> = self.get(&format!("/v1/runs?limit={PAGE}{before}")).await?;
            let last = page.len() < PAGE;
            runs.extend(page);
            if last || runs.len() >= MAX_RUNS {
                return Ok(runs);
            }
        }
    }

    /// A run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run(&self, run: RunId) -> Result<RunView, ClientError> {
        self.get(&format!("/v1/runs/{run}")).await
    }

    /// The round under way, as soon as its version is not `known`, or after some seconds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn works(&self, run: RunId, known: u64) -> Result<RoundWorkView, ClientError> {
        self.get(&format!("/v1/runs/{run}/works?after={known}")).await
    }

    /// One task.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn work(&self, run: RunId, assignment: AssignmentId) -> Result<WorkView, ClientError> {
        self.get(&format!("/v1/runs/{run}/works/{assignment}")).await
    }

    /// What the miner of a task showed, with the digests of all its steps.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reveal(&self, run: RunId, assignment: AssignmentId) -> Result<Reveal, ClientError> {
        let view: RevealView = self.get(&format!("/v1/runs/{run}/works/{assignment}/reveal")).await?;
        Ok(view.into())
    }

    /// What concerns a miner, as soon as its version is not `known`, or after some seconds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn miner(&self, run: RunId, miner: PublicKey, known: u64) -> Result<MinerView, ClientError> {
        self.get(&format!("/v1/runs/{run}/miners/{miner}?after={known}")).await
    }

    /// As [`Client::miner`], for the miner itself: its signature shows that it is there, and only then is it given work.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn present(&self, run: RunId, key: &SecretKey, known: u64) -> Result<MinerView, ClientError> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let present = Present { run, at: u64::try_from(at).unwrap_or(u64::MAX) };
        let url = format!("{}/v1/runs/{run}/miners/{}?after={known}", self.base, key.public());
        let envelope = to_text(&Envelope::sign(&present, key)?)?;
        self.send(self.http.get(&url).header("watershed-present", envelope), &url).await
    }

    /// Files of the run's shard set.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn files(&self, run: RunId) -> Result<Vec<FileView>, ClientError> {
        self.get(&format!("/v1/runs/{run}/files")).await
    }

    /// Signs and sends a message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn say(&self, run: RunId, message: &Message, key: &SecretKey) -> Result<(), ClientError> {
        self.forward(run, to_text(&Envelope::sign(message, key)?)?).await
    }

    /// As [`Client::say`]; gives the [`Promise`] that `coordinator` signed for this message, if it did.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn say_for_promise(
        &self,
        run: RunId,
        message: &Message,
        key: &SecretKey,
        coordinator: PublicKey,
    ) -> Result<Option<Envelope>, ClientError> {
        let envelope = Envelope::sign(message, key)?;
        let digest = envelope.open::<Message>().ok().map(|opened| opened.digest());
        let taken = self.hand_in(run, to_text(&envelope)?).await?;
        let promise: Option<Envelope> = taken.promise.as_deref().and_then(from_text);
        let is_for_this = |promise: &Envelope| {
            promise.open::<Promise>().is_ok_and(|opened| {
                let Promise { run: of, signer, message, at: _ } = *opened.value();
                opened.signer() == coordinator && (of, signer, Some(message)) == (run, key.public(), digest)
            })
        };
        Ok(promise.filter(is_for_this))
    }

    /// Sends a message that is signed already, in base64.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forward(&self, run: RunId, envelope: String) -> Result<(), ClientError> {
        self.hand_in(run, envelope).await.map(drop)
    }

    async fn hand_in(&self, run: RunId, envelope: String) -> Result<TakenView, ClientError> {
        self.post(&format!("/v1/runs/{run}/messages"), &Signed { envelope }).await
    }

    /// Signs and sends a command of the operator; the answer names the run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn command(&self, command: &Command, key: &SecretKey) -> Result<RunView, ClientError> {
        let envelope = to_text(&Envelope::sign(command, key)?)?;
        self.post("/v1/commands", &Signed { envelope }).await
    }

    /// Asks for a pledge's invoice.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pledge(
        &self,
        run: RunId,
        sponsor: &str,
        amount_sat: u64,
        refund_to: Option<&str>,
    ) -> Result<PledgeMade, ClientError> {
        let body =
            serde_json::json!({ "sponsor": sponsor, "amount_sat": amount_sat, "refund_to": refund_to });
        self.post(&format!("/v1/runs/{run}/pledges"), &body).await
    }

    /// How a pledge stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pledge_state(&self, run: RunId, hash: &str) -> Result<PledgeView, ClientError> {
        self.get(&format!("/v1/runs/{run}/pledges/{hash}")).await
    }

    /// Has what is left of a pledge paid to an invoice, an offer or an address; the answer says how much.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn refund(&self, run: RunId, claim: &str, to: &str) -> Result<serde_json::Value, ClientError> {
        let body = serde_json::json!({ "claim": claim, "to": to });
        self.post(&format!("/v1/runs/{run}/refunds"), &body).await
    }

    /// Has a validator's fees paid to its invoice; the sum paid.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn payout(&self, invoice: &str, key: &SecretKey) -> Result<serde_json::Value, ClientError> {
        let request = PayoutRequest { invoice: invoice.to_owned() };
        let envelope = to_text(&Envelope::sign(&request, key)?)?;
        self.post("/v1/payouts", &Signed { envelope }).await
    }

    /// Uploads a blob that belongs to a task; does nothing if it is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(
        &self,
        assignment: AssignmentId,
        bytes: Vec<u8>,
        key: &SecretKey,
    ) -> Result<Digest, ClientError> {
        let sha256 = Digest(sha2::Sha256::digest(&bytes).into());
        let upload = Upload { assignment, sha256, bytes: bytes.len() as u64 };
        let envelope = to_text(&Envelope::sign(&upload, key)?)?;
        let url = format!("{}/v1/blobs/{sha256}", self.base);
        let sent = self
            .http
            .put(&url)
            .header("watershed-upload", envelope)
            .body(bytes)
            .timeout(TRANSFER)
            .send()
            .await;
        let answer = sent.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
        self.checked(&url, answer).await?;
        Ok(sha256)
    }

    /// A file of the public log, if it is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let url = format!("{}/log/{path}", self.base);
        let sent = self.http.get(&url).timeout(PATIENCE).send().await;
        let answer = sent.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.checked(&url, answer).await?;
        self.body(&url, answer, limit).await.map(Some)
    }
}

/// A verdict as a validator gives it out itself, in base64; none if it has none.
///
/// # Errors
/// [`ClientError`].
pub async fn verdict_of(url: &str, assignment: AssignmentId) -> Result<Option<String>, ClientError> {
    let validator = Client::new(url)?;
    match validator.get::<Signed>(&format!("/verdicts/{assignment}")).await {
        Ok(signed) => Ok(Some(signed.envelope)),
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
