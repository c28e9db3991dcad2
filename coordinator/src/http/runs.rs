//! Runs: looking at them, and telling them something.

use std::cmp::Reverse;
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
use tokio::sync::{OwnedSemaphorePermit, watch};
use watershed_commons::client::to_text;
use watershed_protocol::market::view::{
    FileView, InfoView, MinerView, RevealView, RoundWorkView, RunView, Signed, TakenView, WorkView,
};
use watershed_protocol::market::{Command, Message, Present, Promise, RunSpec};
use watershed_protocol::{AssignmentId, Envelope, PublicKey, RunId};

use super::answer::{Answer, Refuse, json, open};
use super::{Shared, fee, views};
use crate::machine::{Event, Run, WorkStage};
use crate::market::{FRESH, now};
use crate::office::{Falsehood, Money};

/// How long an answer waits for news.
const WAIT: Duration = Duration::from_secs(20);

/// Between two events of a stream.
const PAUSE: Duration = Duration::from_millis(200);

type Here<M> = State<Arc<Shared<M>>>;

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

fn run_id(text: &str) -> Result<RunId, Refuse> {
    text.parse().map_err(|e| Refuse::of("bad-id", format!("the run: {e}")))
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

#[derive(Deserialize)]
pub(super) struct Page {
    before: Option<String>,
    limit: Option<usize>,
}

/// Runs of an answer: as many as are asked for without a word, and at most.
const PAGE: [usize; 2] = [100, 1_000];

/// The newest first; of several that were opened in the same second, in the order of their names.
pub(super) async fn list<M: Money>(State(shared): Here<M>, Query(page): Query<Page>) -> Answer<Vec<RunView>> {
    let [usual, most] = PAGE;
    let limit = page.limit.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(Refuse::of("bad-request", format!("`limit` is 1 to {most}")));
    }
    let market = &shared.office.market;
    let runs = market.runs();
    let place = |run: &Run| (Reverse(run.opened), run.id);
    let before = match &page.before {
        Some(name) => {
            let id = run_id(name)?;
            let known = runs.get(&id).map(place);
            Some(known.ok_or_else(|| Refuse::missing(format!("there is no run {id} here")))?)
        }
        None => None,
    };
    let mut found: Vec<&Run> = runs.values().filter(|run| before.is_none_or(|b| place(run) > b)).collect();
    found.sort_by_key(|run| place(run));
    let now = now();
    json(found.into_iter().take(limit).map(|run| views::view(run, now, &market.live(run.id))).collect())
}

/// A run as it is shown.
fn view<M: Money>(shared: &Shared<M>, run: RunId) -> Answer<RunView> {
    let market = &shared.office.market;
    let live = market.live(run);
    json(market.with(run, |run| views::view(run, now(), &live))?)
}

pub(super) async fn show<M: Money>(State(shared): Here<M>, Path(run): Path<String>) -> Answer<RunView> {
    view(&shared, run_id(&run)?)
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
        assignment.parse().map_err(|e| Refuse::of("bad-id", format!("the assignment: {e}")))?;
    let found = shared.office.market.with(run, |r| r.works.get(&id).map(|w| views::work(r, id, w)))?;
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
        return Err(Refuse::of("bad-signature", "only a miner itself says that it is there"));
    }
    if now().abs_diff(at / 1000) > FRESH {
        return Err(Refuse::of(
            "stale-presence",
            "this machine's clock and the coordinator's differ too much",
        ));
    }
    Ok(Some(at))
}

/// What was shown of a task, with the digests of all steps.
pub(super) async fn reveal<M: Money>(
    State(shared): Here<M>,
    Path((run, assignment)): Path<(String, String)>,
) -> Answer<RevealView> {
    let run = run_id(&run)?;
    let id: AssignmentId =
        assignment.parse().map_err(|e| Refuse::of("bad-id", format!("the assignment: {e}")))?;
    let found = shared.office.market.with(run, |r| r.works.get(&id).and_then(|w| w.reveal.clone()))?;
    found
        .map(|r| Json(r.into()))
        .ok_or_else(|| Refuse::missing(format!("nothing was shown of assignment {id}")))
}

pub(super) async fn miner<M: Money>(
    State(shared): Here<M>,
    Path((run, miner)): Path<(String, String)>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Answer<MinerView> {
    let run = run_id(&run)?;
    let key: PublicKey = miner.parse().map_err(|e| Refuse::of("bad-id", format!("the miner: {e}")))?;
    let market = &shared.office.market;
    let joined = market.with(run, |r| r.miners.contains_key(&key))?;
    let present = present(&headers, run, key)?.filter(|_| joined);
    // Whoever looks at somebody else's part does not make it look alive.
    let own = present.and_then(|at| market.present(run, key, at));
    let changes = own.unwrap_or_else(|| market.changes());
    news(&shared, run, changes, after.after, |r| views::miner_version(r, &key)).await?;
    let mut view = shared.office.market.with(run, |r| views::miner(r, &key))?;
    match shared.office.falsehood {
        Some(Falsehood::WithholdSecrets) => view.works.iter_mut().for_each(|w| w.verdicts.clear()),
        Some(Falsehood::EarlyJudged) => {
            for work in view.works.iter_mut().filter(|w| w.stage == "revealed") {
                work.verdicts.clear();
                work.judged = true;
            }
        }
        _ => {}
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
        Message::Opened(opened) => opened.state.into_iter().chain([opened.chunks]).collect(),
        _ => Vec::new(),
    };
    for sha256 in needed {
        if shared.office.blobs.length(sha256).await?.is_none() {
            return Err(Refuse::of("upload-first", format!("upload the blob {sha256} first")));
        }
    }
    Ok(())
}

pub(super) async fn message<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
    headers: HeaderMap,
    Json(signed): Json<Signed>,
) -> Result<Response, Refuse> {
    let run = run_id(&run)?;
    let (message, envelope) = open::<Message>(&signed)?;
    match message.value() {
        Message::Join(join) if join.run != run => {
            return Err(Refuse::of("other-run", "the message is for another run"));
        }
        Message::Leave { run: of } if *of != run => {
            return Err(Refuse::of("other-run", "the message is for another run"));
        }
        Message::Receipts { assignment, receipts } => {
            check_receipts(&shared, run, *assignment, receipts)?;
        }
        _ => {}
    }
    check_uploads(&shared, message.value()).await?;
    let signer = message.signer();
    let joins = matches!(message.value(), Message::Join(_));
    if joins && let Some(unpaid) = fee::ask(&shared, run, signer, &headers).await? {
        return Ok(unpaid);
    }
    // Whoever is told that it was taken can prove it, should it not be in the record.
    let kept = matches!(message.value(), Message::Commit(_) | Message::Reveal(_));
    let promise = kept.then(|| Promise { run, signer, message: message.digest(), at: now() });
    let forgets = match shared.office.falsehood {
        Some(falsehood) => shared.office.market.with(run, |r| falsehood.forgets(message.value(), r))?,
        None => false,
    };
    if !forgets {
        shared.office.market.said(run, signer, message.into_value(), envelope).await?;
    }
    if joins {
        shared.office.market.saw(run, signer);
    }
    let promise = promise.map(|p| Envelope::sign(&p, &shared.secret).and_then(|e| to_text(&e))).transpose();
    let promise = promise.map_err(|e| Refuse::of("unavailable", e))?;
    Ok(Json(TakenView { promise }).into_response())
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
            receipt.open::<watershed_protocol::Receipt>().map_err(|e| Refuse::of("bad-signature", e))?;
        let value = receipt.value();
        let of_lot = lots.iter().any(|l| l.hash == value.payment_hash && value.amount >= l.amount);
        if Some(receipt.signer()) != node || value.subject != id.subject() || !of_lot {
            return Err(Refuse::of(
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
    Err(Refuse::of("stale-command", "the command was not given just now; are both clocks right?"))
}

pub(super) async fn command<M: Money>(State(shared): Here<M>, Json(signed): Json<Signed>) -> Answer<RunView> {
    let (command, _) = open::<Command>(&signed)?;
    if command.signer() != shared.key {
        let message = "commands are signed with the coordinator's own key";
        return Err(Refuse::of("not-allowed", message));
    }
    let (run, event) = match command.into_value() {
        Command::Open { spec } => {
            let opened = spec.open::<RunSpec>().map_err(|e| Refuse::of("bad-specification", e))?;
            if opened.signer() != shared.key {
                return Err(Refuse::of("bad-specification", "the specification is signed by somebody else"));
            }
            let value = opened.value();
            let run = value.id().map_err(|e| Refuse::of("bad-specification", e))?;
            let faults: Vec<String> =
                shared.office.computer.faults(value).await?.iter().map(ToString::to_string).collect();
            if !faults.is_empty() {
                let faults = faults.join("\n");
                return Err(Refuse::of("bad-specification", format!("nobody can train this:\n{faults}")));
            }
            (run, Event::Open { spec })
        }
        Command::Pause { run, at } => (run, Event::Pause { at: fresh(at)? }),
        Command::Resume { run, at } => (run, Event::Resume { at: fresh(at)? }),
        Command::Cancel { run, reason, at } => {
            (run, Event::Cancel { reason: reason.chars().take(200).collect(), at: fresh(at)? })
        }
    };
    shared.office.market.happened(run, event).await?;
    view(&shared, run)
}

/// The version that a reader of the stream saw last.
fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

/// What changes about a run, as server-sent events: where it stands and how much there is of everything. Whoever was cut off
/// and says which event came last is told nothing again.
pub(super) async fn events<M: Money>(
    State(shared): Here<M>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refuse> {
    let run = run_id(&run)?;
    shared.office.market.with(run, |_| ())?;
    let permit = shared.guard.streaming()?;
    let (changes, known) = (shared.office.market.changes(), last_seen(&headers));
    // The permit goes with the stream: it is given back when the reader leaves.
    let state = (shared, changes, known, false, permit);
    let next = move |(shared, mut changes, known, paced, permit): (
        Arc<Shared<M>>,
        watch::Receiver<u64>,
        Option<u64>,
        bool,
        OwnedSemaphorePermit,
    )| async move {
        if paced {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            changes.mark_unchanged();
            let news = shared.office.market.with(run, views::news).ok()?;
            if Some(news.version) != known {
                let event =
                    Sse::default().event("news").id(news.version.to_string()).json_data(&news).ok()?;
                return Some((
                    Ok::<_, Infallible>(event),
                    (shared, changes, Some(news.version), true, permit),
                ));
            }
            changes.changed().await.ok()?;
        }
    };
    let stream = stream::unfold(state, next);
    Ok(axum::response::Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}
