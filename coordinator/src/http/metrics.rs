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
use crate::machine::Run;
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

/// A number of the whole coordinator.
fn single(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// What is shown of a run.
fn of_run(run: &Run) -> [(&'static str, &'static str, f64); 12] {
    let sat = |msat: watershed_protocol::Msat| msat.msat() as f64 / 1000.0;
    let loss = run.checkpoint().map_or(f64::NAN, |c| f64::from(f32::from_bits(c.loss)));
    let open = run.works.values().filter(|w| w.escrow_open).map(|w| sat(w.assignment.reward));
    [
        ("rounds_done", "Rounds that are done", f64::from(run.next_round)),
        ("rounds_failed", "Attempts at the next round that did not count", f64::from(run.failed)),
        ("miners", "Miners that want work", run.miners.values().filter(|m| m.active).count() as f64),
        ("locked_sat", "Locked at any time", sat(run.totals.locked)),
        ("open_sat", "Locked now", open.sum()),
        ("paid_sat", "Paid to miners", sat(run.totals.paid)),
        ("fees_sat", "Paid for verdicts", sat(run.totals.fees)),
        ("accepted", "Submissions accepted", f64::from(run.totals.accepted)),
        ("rejected", "Submissions rejected", f64::from(run.totals.rejected)),
        ("loss", "Loss of the newest checkpoint on held-out text", loss),
        ("trouble", "1 if the operator has to look", f64::from(u8::from(run.trouble.is_some()))),
        ("paused", "1 if no round is begun", f64::from(u8::from(run.paused))),
    ]
}

/// All numbers, from what is so now: what is no more so leaves nothing behind.
fn registry<'a>(metrics: &Metrics, runs: impl Iterator<Item = &'a Run>) -> Registry {
    let mut registry = Registry::with_prefix("watershed");
    registry.register("http_requests", "Requests by route and status", metrics.requests.clone());
    registry.register("http_seconds", "Seconds until answers begin", metrics.seconds.clone());
    let mut gauges: Vec<(&str, &str, PerRun)> = Vec::new();
    let phases = PerRun::default();
    for run in runs {
        let labels = vec![("run".to_owned(), run.id.to_string())];
        for (at, (name, help, value)) in of_run(run).into_iter().enumerate() {
            if gauges.len() <= at {
                gauges.push((name, help, PerRun::default()));
            }
            if let Some((_, _, family)) = gauges.get(at) {
                family.get_or_create(&labels).set(value);
            }
        }
        // Each phase has a series of its own from the beginning to the end: the phase as a label of other numbers would
        // begin new ones with every change.
        for phase in views::PHASES {
            let labels = [labels.clone(), vec![("phase".to_owned(), phase.to_owned())]].concat();
            let now = views::phase(run) == phase;
            phases.get_or_create(&labels).set(f64::from(u8::from(now)));
        }
    }
    for (name, help, family) in gauges {
        registry.register(name, help, family);
    }
    registry.register("phase", "1 for the phase that a run is in", phases);
    registry
}

pub(super) async fn show<M: Money>(State(shared): State<Arc<Shared<M>>>) -> Response {
    let (numbers, funds) = (shared.office.market.numbers().await, shared.office.money.funds().await);
    let mut registry = registry(&shared.metrics, shared.office.market.runs().values());
    let up = f64::from(u8::from(numbers.is_ok()));
    single(&mut registry, "database_up", "1 if the journal can be written", up);
    single(&mut registry, "wallet_up", "1 if the wallet answers", f64::from(u8::from(funds.is_ok())));
    if let Ok(numbers) = numbers {
        single(&mut registry, "journal_events", "Events that were taken", numbers.events as f64);
        single(&mut registry, "journal_bytes", "Bytes of the journal", numbers.bytes as f64);
        single(&mut registry, "effects_pending", "Effects that are not done", numbers.pending as f64);
    }
    if let Ok(funds) = funds {
        single(&mut registry, "channels", "Lightning channels", funds.channels as f64);
        single(&mut registry, "channels_usable", "Channels that can be used", funds.usable as f64);
        let spendable = funds.spendable.msat() as f64 / 1000.0;
        single(&mut registry, "spendable_sat", "What usable channels can send", spendable);
        let on_chain = funds.on_chain_sats as f64;
        single(&mut registry, "on_chain_sat", "What the on-chain wallet can spend", on_chain);
        let follows = f64::from(u8::from(funds.chain_trouble.is_none()));
        single(&mut registry, "chain_up", "1 if the wallet sees the chain", follows);
    }
    single(&mut registry, "connections", "Open connections", shared.guard.open() as f64);
    single(&mut registry, "waiting", "Requests that wait for news", shared.guard.waits() as f64);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}
