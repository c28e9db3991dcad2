//! Runs: looking at them, and telling them something.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use watershed_protocol::market::view::{
    FileView, InfoView, MinerView, RoundWorkView, RunView, Signed, WorkView,
};
use watershed_protocol::market::{Command, Message, Present, RunSpec};
use watershed_protocol::{AssignmentId, PublicKey, RunId};

use super::answer::{Answer, Refuse, json, open};
use super::{Shared, views};
use crate::machine::{Event, Run, WorkStage};
use crate::market::{FRESH, now};
use crate::office::{Falsehood, Money};

/// How long an answer waits for news.
const WAIT: Duration = Duration::from_secs(20);

/// Between two events of a stream: each tells of all tasks.
const PAUSE: Duration = Duration::from_millis(200);

type Here<M> = State<Arc<Shared<M>>>;

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

fn run_id(text: &str) -> Result<RunId, Refuse> {
    text.parse().map_err(|e| Refuse::bad("bad-id", format!("the run: {e}")))
}

pub(super) async fn info<M: Money>(State(shared): Here<M>) -> Answer<InfoView> {
    json(InfoView {
        key: shared.key,
        node: shared.node.clone(),
        network: shared.network.clone(),
        log: shared.log.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: now(),
    })
}

pub(super) async fn list<M: Money>(State(shared): Here<M>) -> Answer<Vec<RunView>> {
    json(shared.office.market.runs().values().map(views::view).collect())
}

pub(super) async fn show<M: Money>(State(shared): Here<M>, Path(run): Path<String>) -> Answer<RunView> {
    json(shared.office.market.with(run_id(&run)?, views::view)?)
}

/// Waits with `changes` until `version` is not what the caller knows, or time is up.
async fn news<M: Money>(
    shared: &Shared<M>,
    run: RunId,
    mut changes: watch::Receiver<u64>,
    known: Option<u64>,
    version: impl Fn(&Run) -> u64,
) -> Result<(), Refuse> {
    changes.mark_unchanged();
    if Some(shared.office.market.with(run, &version)?) != known {
        return Ok(());
    }
    let _waits = shared.guard.waiting()?;
    let waiting = async {
        while changes.changed().await.is_ok() {
            changes.mark_unchanged();
            if Some(shared.office.market.with(run, &version)?) != known {
                break;
            }
        }
        Ok(())
    };
    tokio::time::timeout(WAIT, waiting).await.unwrap_or(Ok(()))
}

pub(super) async fn works<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
    Query(after): Query<After>,
) -> Answer<RoundWorkView> {
    let run = run_id(&run)?;
    news(&shared, run, shared.office.market.changes(), after.after, views::work_version).await?;
    json(shared.office.market.with(run, views::round_work)?)
}

pub(super) async fn work<M: Money>(
    State(shared): Here<M>,
    Path((run, assignment)): Path<(String, String)>,
) -> Answer<WorkView> {
    let run = run_id(&run)?;
    let id: AssignmentId =
        assignment.parse().map_err(|e| Refuse::bad("bad-id", format!("the assignment: {e}")))?;
    let found = shared.office.market.with(run, |r| r.works.get(&id).map(|w| views::work(id, w)))?;
    found.map(Json).ok_or_else(|| {
        Refuse::missing(format!("there is no assignment {id} in this run, or it is long over"))
    })
}

/// When the miner itself says that it is there, if it does.
fn present(headers: &HeaderMap, run: RunId, key: PublicKey) -> Result<Option<u64>, Refuse> {
    let Some(said) = headers.get("watershed-present").and_then(|h| h.to_str().ok()) else { return Ok(None) };
    let (present, _) = open::<Present>(&Signed { envelope: said.to_owned() })?;
    let Present { run: of, at } = *present.value();
    if present.signer() != key || of != run {
        return Err(Refuse::bad("bad-signature", "only a miner itself says that it is there"));
    }
    if now().abs_diff(at / 1000) > FRESH {
        return Err(Refuse::bad(
            "stale-presence",
            "this machine's clock and the coordinator's differ too much",
        ));
    }
    Ok(Some(at))
}

pub(super) async fn miner<M: Money>(
    State(shared): Here<M>,
    Path((run, miner)): Path<(String, String)>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Answer<MinerView> {
    let run = run_id(&run)?;
    let key: PublicKey = miner.parse().map_err(|e| Refuse::bad("bad-id", format!("the miner: {e}")))?;
    let market = &shared.office.market;
    let joined = market.with(run, |r| r.miners.contains_key(&key))?;
    let present = present(&headers, run, key)?.filter(|_| joined);
    // Whoever looks at somebody else's part does not make it look alive.
    let own = present.and_then(|at| market.present(run, key, at));
    let changes = own.unwrap_or_else(|| market.changes());
    news(&shared, run, changes, after.after, |r| views::miner_version(r, &key)).await?;
    let mut view = shared.office.market.with(run, |r| views::miner(r, &key))?;
    if shared.office.falsehood == Some(Falsehood::WithholdSecrets) {
        view.works.iter_mut().for_each(|w| w.verdicts.clear());
    }
    json(view)
}

pub(super) async fn files<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
) -> Answer<Vec<FileView>> {
    let run = run_id(&run)?;
    let spec = shared.office.market.with(run, |r| r.spec.clone())?;
    json(shared.office.computer.files(run, &spec, &shared.office.blobs).await?)
}

/// What a message needs to be there before it is taken.
async fn check_uploads<M: Money>(shared: &Shared<M>, message: &Message) -> Result<(), Refuse> {
    let needed = match message {
        Message::Reveal(reveal) => vec![reveal.blob],
        Message::Opened(opened) => vec![opened.state, opened.chunks],
        _ => Vec::new(),
    };
    for sha256 in needed {
        if shared.office.blobs.length(sha256).await?.is_none() {
            return Err(Refuse::bad("upload-first", format!("upload the blob {sha256} first")));
        }
    }
    Ok(())
}

pub(super) async fn message<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
    Json(signed): Json<Signed>,
) -> Answer<serde_json::Value> {
    let run = run_id(&run)?;
    let (message, envelope) = open::<Message>(&signed)?;
    match message.value() {
        Message::Join(join) if join.run != run => {
            return Err(Refuse::bad("other-run", "the message is for another run"));
        }
        Message::Leave { run: of } if *of != run => {
            return Err(Refuse::bad("other-run", "the message is for another run"));
        }
        Message::Receipts { assignment, receipts } => {
            check_receipts(&shared, run, *assignment, receipts)?;
        }
        _ => {}
    }
    check_uploads(&shared, message.value()).await?;
    let signer = message.signer();
    let joins = matches!(message.value(), Message::Join(_));
    shared.office.market.said(run, signer, message.into_value(), envelope).await?;
    if joins {
        shared.office.market.saw(run, signer);
    }
    json(serde_json::json!({}))
}

/// Receipts go into the record for ever: they must be the miner's node's, and for this task's lots; and the task must be
/// there already, which one that was never locked is not.
fn check_receipts<M: Money>(
    shared: &Shared<M>,
    run: RunId,
    id: AssignmentId,
    receipts: &[watershed_protocol::Envelope],
) -> Result<(), Refuse> {
    let (node, lots) = shared.office.market.with(run, |r| {
        let work = r.works.get(&id).filter(|w| w.stage == WorkStage::Revealed);
        let node = work.and_then(|w| r.miners.get(&w.assignment.miner)).map(|m| m.node.clone());
        (node.unwrap_or_default(), work.map(|w| w.lots.clone()).unwrap_or_default())
    })?;
    let node = node.parse::<watershed_payments::wallet::NodeAddress>().ok();
    let node = node.and_then(|n| PublicKey::from_bytes(n.id.x_only_public_key().0.serialize()).ok());
    for receipt in receipts {
        let receipt =
            receipt.open::<watershed_protocol::Receipt>().map_err(|e| Refuse::bad("bad-signature", e))?;
        let value = receipt.value();
        let of_lot = lots.iter().any(|l| l.hash == value.payment_hash && value.amount >= l.amount);
        if Some(receipt.signer()) != node || value.subject != id.subject() || !of_lot {
            return Err(Refuse::bad(
                "bad-receipt",
                "a receipt is not the miner's node's for a lot of this assignment",
            ));
        }
    }
    Ok(())
}

/// A command that was held back is not taken later. The run itself takes none that is older than another.
fn fresh(at: u64) -> Result<u64, Refuse> {
    if now().abs_diff(at / 1000) <= FRESH {
        return Ok(at);
    }
    Err(Refuse::bad("stale-command", "the command was not given just now; are both clocks right?"))
}

pub(super) async fn command<M: Money>(State(shared): Here<M>, Json(signed): Json<Signed>) -> Answer<RunView> {
    let (command, _) = open::<Command>(&signed)?;
    if command.signer() != shared.key {
        let message = "commands are signed with the coordinator's own key";
        return Err(Refuse::new(axum::http::StatusCode::FORBIDDEN, "not-allowed", message));
    }
    let (run, event) = match command.into_value() {
        Command::Open { spec } => {
            let opened = spec.open::<RunSpec>().map_err(|e| Refuse::bad("bad-specification", e))?;
            if opened.signer() != shared.key {
                return Err(Refuse::bad("bad-specification", "the specification is signed by somebody else"));
            }
            let value = opened.value();
            value.check().map_err(|e| Refuse::bad("bad-specification", e))?;
            let run = value.id().map_err(|e| Refuse::bad("bad-specification", e))?;
            shared.office.computer.check(run, value).await?;
            (run, Event::Open { spec })
        }
        Command::Pause { run, at } => (run, Event::Pause { at: fresh(at)? }),
        Command::Resume { run, at } => (run, Event::Resume { at: fresh(at)? }),
        Command::Cancel { run, reason, at } => {
            (run, Event::Cancel { reason: reason.chars().take(200).collect(), at: fresh(at)? })
        }
    };
    shared.office.market.happened(run, event).await?;
    json(shared.office.market.with(run, views::view)?)
}

/// Everything that changes about a run, as server-sent events.
pub(super) async fn events<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
) -> Result<Response, Refuse> {
    let run = run_id(&run)?;
    shared.office.market.with(run, |_| ())?;
    let changes = shared.office.market.changes();
    let watches = Arc::new(shared.guard.streaming()?);
    let next = move |(shared, mut changes, known): (Arc<Shared<M>>, watch::Receiver<u64>, u64)| {
        let watches = Arc::clone(&watches);
        async move {
            let _watches = watches;
            if known != 0 {
                tokio::time::sleep(PAUSE).await;
            }
            loop {
                changes.mark_unchanged();
                let state = shared.office.market.with(run, |r| (r.version, views::round_work(r))).ok()?;
                if state.0 != known {
                    let event = Sse::default().event("round").json_data(&state.1).ok()?;
                    return Some((Ok::<_, Infallible>(event), (shared, changes, state.0)));
                }
                changes.changed().await.ok()?;
            }
        }
    };
    let stream = stream::unfold((shared, changes, 0), next);
    Ok(axum::response::Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}
