//! Pages for people: the runs, and one run with a form for pledges.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Shared;
use crate::office::Money;

const PAGE: &str = include_str!("page.html");

/// The page's own script and nothing else may run; it talks to this server only.
const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page() -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE).into_response()
}

pub(super) async fn index<M: Money>(State(_): State<Arc<Shared<M>>>) -> Response {
    page()
}

pub(super) async fn run<M: Money>(State(shared): State<Arc<Shared<M>>>, Path(run): Path<String>) -> Response {
    let known = run.parse().is_ok_and(|id| shared.office.market.with(id, |_| ()).is_ok());
    let status = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, page()).into_response()
}
