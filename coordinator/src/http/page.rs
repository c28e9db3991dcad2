//! Pages for people: the runs, and one run with a form for pledges.

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::Shared;
use crate::office::Money;

const PAGE: &str = include_str!("page.html");

/// What stands between two tags of the page.
fn between(open: &str, close: &str) -> &'static str {
    let rest = PAGE.split_once(open).map_or("", |(_, rest)| rest);
    rest.split_once(close).map_or("", |(inside, _)| inside)
}

/// The page's own script and style and nothing else may run, named by their hashes; it talks to this server only.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let (script, style) = (hash(between("<script>", "</script>")), hash(between("<style>", "</style>")));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; img-src 'self' \
         data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

fn page() -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_asks_nobody_else() {
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(between("<script>", "</script>").len() > 1000 && between("<style>", "</style>").len() > 1000);
        for foreign in
            ["<link rel=\"stylesheet", "src=\"http", "@import", "innerHTML", "onclick=", " style=\"", "eval("]
        {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert!(POLICY.contains("default-src 'none'") && !POLICY.contains("unsafe"));
    }
}
