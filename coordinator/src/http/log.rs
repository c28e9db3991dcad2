//! The public log's files, as C2SP tlog-tiles has them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::answer::Refuse;
use crate::office::Money;

pub(super) async fn file<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(path): Path<String>,
) -> Result<Response, Refuse> {
    // `checkpoint`, `tile/...`: lowercase words and digits, nothing that climbs or is hidden.
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
    };
    if path.len() > 200 || !path.split('/').all(plain) {
        return Err(Refuse::missing("the log has no such file"));
    }
    let is_checkpoint = path == "checkpoint";
    match tokio::fs::read(shared.log_folder.join(&path)).await {
        Ok(bytes) => {
            let cache = if is_checkpoint { "no-cache" } else { "public, max-age=31536000, immutable" };
            let kind = if is_checkpoint { "text/plain; charset=utf-8" } else { "application/octet-stream" };
            Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], bytes).into_response())
        }
        Err(_) => Err(Refuse::missing("the log has no such file")),
    }
}
