//! The API under `/v1`, the public log, and the pages.

mod answer;
mod blobs;
mod codes;
mod fee;
mod guard;
mod health;
mod listen;
mod log;
mod metrics;
mod money;
mod openapi;
mod page;
mod routes;
mod runs;
mod schema;
#[cfg(test)]
mod tests;
mod views;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use watershed_protocol::{PublicKey, SecretKey};

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
    /// Signs promises.
    secret: SecretKey,
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
        secret: SecretKey,
        (node, network): (String, String),
        (log, log_folder): (String, PathBuf),
        max_upload: u64,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            office,
            key: secret.public(),
            secret,
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
    let pages = Router::new().route("/", get(page::index::<M>)).route("/runs/{run}", get(page::run::<M>));
    routes::operations::<M>()
        .into_iter()
        .fold(pages, |router, operation| router.route(operation.about.path, operation.handler))
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(axum::middleware::from_fn(guard::patience))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared.guard), guard::rate))
        .layer(axum::middleware::from_fn(answer::in_form))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), metrics::count::<M>))
        .with_state(shared)
}
