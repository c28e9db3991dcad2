//! Uploads and downloads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _, stream};
use object_store::GetRange;
use watershed_protocol::Digest;
use watershed_protocol::market::Upload;
use watershed_protocol::market::view::Signed;

use super::Shared;
use super::answer::{Answer, Refuse, open};
use crate::blobs::BlobError;
use crate::machine::{Run, Work, WorkStage};
use crate::office::Money;

/// How long an upload may pause.
const STALLED: Duration = Duration::from_secs(30);

/// Bytes that must come in a second, on the whole.
const SLOWEST: u64 = 16 << 10;

fn digest(text: &str) -> Result<Digest, Refuse> {
    text.parse().map_err(|e| Refuse::of("bad-id", format!("the blob: {e}")))
}

/// The bytes that are asked for, of `length`: `bytes=A-B`, `bytes=A-` or `bytes=-N`. None asks for everything; so do other
/// forms, and several ranges at once, as RFC 9110 allows. An empty range cannot be satisfied.
fn range(headers: &HeaderMap, length: u64) -> Option<Range<u64>> {
    let text = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (from, to) = text.split_once('-')?;
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => Some(from..to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => Some(from..length),
        (Err(_), Ok(last)) if from.is_empty() => Some(length.saturating_sub(last)..length),
        _ => None,
    }
}

/// Whether the caller has it already: a blob never changes.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|h| h.to_str().ok()).unwrap_or_default();
    known.split(',').map(|t| t.trim().trim_start_matches("W/")).any(|t| t == "*" || t == tag)
}

pub(super) async fn get<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refuse> {
    let sha256 = digest(&sha256)?;
    let Some(length) = shared.office.blobs.length(sha256).await? else {
        return Err(Refuse::missing(format!("there is no blob {sha256} here")));
    };
    let tag = format!("\"{sha256}\"");
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let asked = range(&headers, length);
    if asked.as_ref().is_some_and(|r| r.start >= r.end) {
        let refused = Refuse::of("bad-range", format!("the blob has {length} bytes"));
        let size = format!("bytes */{length}");
        return Ok(([(header::CONTENT_RANGE, size)], refused).into_response());
    }
    let part = asked.clone().unwrap_or(0..length);
    let range = asked.map(GetRange::Bounded);
    let partial = range.is_some();
    let found = shared.office.blobs.stream(sha256, range).await?;
    let body = Body::from_stream(found.into_stream());
    let mut answer = body.into_response();
    let headers = answer.headers_mut();
    let mut set = |name, value: String| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::ETAG, tag);
    set(header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned());
    set(header::CONTENT_LENGTH, (part.end - part.start).to_string());
    if partial {
        set(header::CONTENT_RANGE, format!("bytes {}-{}/{length}", part.start, part.end - 1));
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

/// What a miner may upload for a task: the submission, and a state with chunks for every validator that asked.
fn quota(run: &Run, work: &Work) -> u64 {
    let n = run.spec.model.parameters().unwrap_or(0);
    let submission = n.saturating_mul(4).saturating_add(1 << 20);
    let opening = n.saturating_mul(12).saturating_add(16 << 20);
    submission.saturating_add(opening.saturating_mul(work.openings.len() as u64))
}

/// Tasks that are over count no more.
fn forget_uploads<M: Money>(shared: &Shared<M>) {
    let runs = shared.office.market.runs();
    shared.guard.forget(|id| runs.values().all(|run| run.works.get(id).is_none_or(|w| w.judged)));
}

/// A body that breaks off when nothing comes for a while.
fn slowest(body: BodyDataStream) -> impl Stream<Item = Result<Bytes, String>> {
    stream::unfold(Some(body), async |body| {
        let mut body = body?;
        match tokio::time::timeout(STALLED, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(e))) => Some((Err(e.to_string()), None)),
            Ok(None) => None,
            Err(_) => Some((Err("nothing came for a while".to_owned()), None)),
        }
    })
}

pub(super) async fn put<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<serde_json::Value> {
    let sha256 = digest(&sha256)?;
    let announced = headers.get("watershed-upload").and_then(|h| h.to_str().ok());
    let announced =
        announced.ok_or_else(|| Refuse::of("no-upload", "the header `watershed-upload` is missing"))?;
    let (upload, _) = open::<Upload>(&Signed { envelope: announced.to_owned() })?;
    let signer = upload.signer();
    let upload = upload.into_value();
    if upload.sha256 != sha256 {
        return Err(Refuse::of("no-upload", "the header announces another blob"));
    }
    let quota = shared.office.market.runs().values().find_map(|run| {
        let work = run.works.get(&upload.assignment)?;
        let busy = matches!(work.stage, WorkStage::Locked | WorkStage::Committed | WorkStage::Revealed);
        (work.assignment.miner == signer && busy && !work.judged).then(|| quota(run, work))
    });
    let Some(quota) = quota else {
        let message = "only the miner of an assignment under way may upload for it";
        return Err(Refuse::of("not-allowed", message));
    };
    let too_long = |most| {
        let message = format!("{} bytes are too many; {most} are allowed", upload.bytes);
        Refuse::of("too-long", message)
    };
    if upload.bytes > shared.max_upload {
        return Err(too_long(shared.max_upload));
    }
    if shared.office.blobs.length(sha256).await? == Some(upload.bytes) {
        return Ok(Json(serde_json::json!({ "sha256": sha256 })));
    }
    let _turn = shared.guard.uploading().await?;
    forget_uploads(&shared);
    if !shared.guard.reserve(upload.assignment, upload.bytes, quota) {
        return Err(too_long(quota));
    }
    let stream = Box::pin(slowest(body.into_data_stream()));
    let whole = Duration::from_secs(upload.bytes / SLOWEST) + STALLED;
    let received = shared.office.blobs.receive(sha256, upload.bytes, stream);
    let received = match tokio::time::timeout(whole, received).await {
        Ok(received) => received,
        Err(_) => Err(BlobError::Upload("it is too slow".to_owned())),
    };
    if received.is_err() {
        shared.guard.give_back(upload.assignment, upload.bytes);
    }
    received?;
    Ok(Json(serde_json::json!({ "sha256": sha256 })))
}
