//! Numbers for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Shared, views};
use crate::office::Money;

/// A number for each run.
type PerRun = Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Route {
    path: String,
    status: u16,
}

impl EncodeLabelSet for Route {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeLabel as _;
        ("path", self.path.as_str()).encode(encoder.encode_label())?;
        ("status", u64::from(self.status)).encode(encoder.encode_label())
    }
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    requests: Family<Route, Counter>,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
        Self { requests: Family::default(), seconds: Histogram::new(buckets) }
    }
}

/// Counts a request.
pub(super) async fn count<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let answer = next.run(request).await;
    let path = path.map_or_else(|| "other".to_owned(), |p| p.as_str().to_owned());
    shared.metrics.requests.get_or_create(&Route { path, status: answer.status().as_u16() }).inc();
    shared.metrics.seconds.observe(began.elapsed().as_secs_f64());
    answer
}

pub(super) async fn show<M: Money>(State(shared): State<Arc<Shared<M>>>) -> Response {
    let mut registry = Registry::with_prefix("watershed");
    registry.register("http_requests", "Requests by route and status", shared.metrics.requests.clone());
    registry.register("http_seconds", "Seconds until answers begin", shared.metrics.seconds.clone());
    let gauges: [(&str, &str, PerRun); 6] = [
        ("rounds_done", "Rounds that are done", Family::default()),
        ("miners", "Miners that want work", Family::default()),
        ("locked_sat", "Locked at any time", Family::default()),
        ("paid_sat", "Paid to miners", Family::default()),
        ("accepted", "Submissions accepted", Family::default()),
        ("loss", "Loss of the newest checkpoint on held-out text", Family::default()),
    ];
    {
        let runs = shared.office.market.runs();
        for run in runs.values() {
            let labels = vec![
                ("run".to_owned(), run.id.to_string()),
                ("phase".to_owned(), views::phase(run).to_owned()),
            ];
            let sat = |msat: watershed_protocol::Msat| msat.msat() as f64 / 1000.0;
            let loss = run.checkpoint().map_or(f64::NAN, |c| f64::from(f32::from_bits(c.loss)));
            let values = [
                f64::from(run.next_round),
                run.miners.values().filter(|m| m.active).count() as f64,
                sat(run.totals.locked),
                sat(run.totals.paid),
                f64::from(run.totals.accepted),
                loss,
            ];
            for ((_, _, family), value) in gauges.iter().zip(values) {
                family.get_or_create(&labels).set(value);
            }
        }
    }
    for (name, help, family) in gauges {
        registry.register(name, help, family);
    }
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}
