//! The API under `/v1`, the public log, and the pages.

mod answer;
mod blobs;
mod guard;
mod health;
mod listen;
mod log;
mod metrics;
mod money;
mod openapi;
mod page;
mod runs;
mod views;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use watershed_protocol::PublicKey;

use crate::office::{Money, Office};
use metrics::Metrics;

pub use guard::{Guard, Limits};
pub use listen::serve;

/// Largest JSON request.
const MAX_JSON: usize = 1 << 20;

/// What handlers need.
pub struct Shared<M> {
    /// Runs, money, blobs, models.
    pub office: Arc<Office<M>>,
    /// The coordinator's key, which signs specifications and commands.
    pub key: PublicKey,
    /// Its node, `<66 hex digits>@host:port`.
    pub node: String,
    /// The Bitcoin network.
    pub network: String,
    /// The log's verifier.
    pub log: String,
    /// The log's folder.
    pub log_folder: PathBuf,
    /// Largest upload.
    pub max_upload: u64,
    /// Counts what is under way.
    pub guard: Arc<Guard>,
    metrics: Metrics,
}

impl<M> std::fmt::Debug for Shared<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.key)
    }
}

impl<M: Money> Shared<M> {
    /// For [`router`].
    pub fn new(
        office: Arc<Office<M>>,
        key: PublicKey,
        (node, network): (String, String),
        (log, log_folder): (String, PathBuf),
        max_upload: u64,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            office,
            key,
            node,
            network,
            log,
            log_folder,
            max_upload,
            guard: Guard::new(limits),
            metrics: Metrics::default(),
        })
    }
}

/// All routes.
pub fn router<M: Money>(shared: Arc<Shared<M>>) -> Router {
    let transfers = Router::new()
        .route("/v1/blobs/{sha256}", get(blobs::get::<M>).put(blobs::put::<M>))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/", get(page::index::<M>))
        .route("/runs/{run}", get(page::run::<M>))
        .route("/healthz", get(health::show::<M>))
        .route("/metrics", get(metrics::show::<M>))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/v1/info", get(runs::info::<M>))
        .route("/v1/runs", get(runs::list::<M>))
        .route("/v1/runs/{run}", get(runs::show::<M>))
        .route("/v1/runs/{run}/works", get(runs::works::<M>))
        .route("/v1/runs/{run}/works/{assignment}", get(runs::work::<M>))
        .route("/v1/runs/{run}/miners/{miner}", get(runs::miner::<M>))
        .route("/v1/runs/{run}/files", get(runs::files::<M>))
        .route("/v1/runs/{run}/messages", post(runs::message::<M>))
        .route("/v1/runs/{run}/events", get(runs::events::<M>))
        .route("/v1/commands", post(runs::command::<M>))
        .route("/v1/runs/{run}/pledges", get(money::raised::<M>).post(money::pledge::<M>))
        .route("/v1/runs/{run}/pledges/{hash}", get(money::state::<M>))
        .route("/v1/runs/{run}/pledges/{hash}/qr", get(money::qr::<M>))
        .route("/v1/runs/{run}/refunds", post(money::refund::<M>))
        .route("/v1/payouts", post(money::payout::<M>))
        .route("/log/{*path}", get(log::file::<M>))
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(axum::middleware::from_fn(guard::patience))
        .merge(transfers)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared.guard), guard::rate))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), metrics::count::<M>))
        .with_state(shared)
}
