//! Whether a coordinator can do its work: write its journal, ask its wallet, see the chain, keep blobs.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shared;
use crate::office::Money;

/// How long each of them may take.
const PATIENCE: Duration = Duration::from_secs(5);

async fn verdict<T, E: Display>(asked: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// A line for each part, and 503 if one of them does not work.
pub(super) async fn show<M: Money>(State(shared): State<Arc<Shared<M>>>) -> Response {
    let office = &shared.office;
    let (database, wallet, blobs) = tokio::join!(
        verdict(office.market.numbers()),
        verdict(office.money.funds()),
        verdict(office.blobs.check())
    );
    let chain = match &wallet {
        Ok(funds) => funds.chain_trouble.clone().map_or(Ok(()), Err),
        Err(e) => Err(e.clone()),
    };
    let parts =
        [("database", database.map(drop)), ("wallet", wallet.map(drop)), ("chain", chain), ("blobs", blobs)];
    let well = parts.iter().all(|(_, said)| said.is_ok());
    let line = |(name, said): &(&str, Result<(), String>)| match said {
        Ok(()) => format!("{name} ok\n"),
        // What is wrong in detail is for the operator, in the coordinator's own output.
        Err(e) => {
            eprintln!("health: {name}: {e}");
            format!("{name} failed\n")
        }
    };
    let text: String = parts.iter().map(line).collect();
    (if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}
