//! Gives out verdicts, so that a miner gets its secrets even from a coordinator that keeps them to itself.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use watershed_commons::client::to_text;
use watershed_protocol::market::view::Signed;

use crate::home::Home;

/// All routes.
pub(crate) fn router(home: Home) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/verdicts/{assignment}", get(verdict))
        .with_state(home)
}

async fn verdict(
    State(home): State<Home>,
    Path(assignment): Path<String>,
) -> Result<Json<Signed>, StatusCode> {
    let id = assignment.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let found =
        home.verdict(id).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.ok_or(StatusCode::NOT_FOUND)?;
    let envelope = to_text(&found).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(Signed { envelope }))
}
