//! What a running wallet serves over HTTP: campaigns, and one route that costs something.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use watershed_protocol::Msat;

use super::args::RunArgs;
use crate::control::{Reply, Request, execute};
use crate::l402::{L402Layer, Paid, Price, PriceTable, RootSecret, Settings, Uses};
use crate::ledger::{Account, Name};
use crate::store::Store;
use crate::treasury::{Till, Treasury, TreasuryError};
use crate::wallet::ldk::write_private;
use crate::wallet::{Wallet, cannot_listen};

type Failed = Box<dyn Error + Send + Sync>;

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address).await.map_err(|e| format!("--http: {}", cannot_listen(&address, &e)).into())
}

/// The secret that tokens are derived from; made once.
fn secret(folder: &Path) -> Result<RootSecret, Failed> {
    let path = folder.join("l402.key");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|e| format!("no random bytes: {e}"))?;
            write_private(&path, hex::encode(bytes).as_bytes())?;
            hex::encode(bytes)
        }
        Err(e) => return Err(format!("{}: {e}", path.display()).into()),
    };
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| format!("{} is no key", path.display()))?;
    Ok(RootSecret::from_entropy(bytes))
}

pub(super) async fn serve<W: Wallet, S: Store>(
    listener: TcpListener,
    treasury: Treasury<W, S>,
    folder: &Path,
    args: &RunArgs,
) -> Result<(), Failed> {
    let prices = PriceTable::new(vec![Price {
        method: None,
        path: "/paid".into(),
        amount: args.price,
        service: "watershed".into(),
        tier: 0,
        capability: "paid".into(),
        uses: args.uses.map_or(Uses::Unlimited, Uses::Times),
        valid_s: 3600,
        description: match args.uses {
            None => "The route /paid, for an hour".into(),
            Some(times) => format!("The route /paid, {times} times within an hour"),
        },
    }])?;
    let settings = Settings::new(format!("http://{}", listener.local_addr()?))?;
    let till = Till::new(treasury.clone(), Account::Commons);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let layer = L402Layer::new(prices, settings, secret(folder)?, till.clone(), till, now);
    let app = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/paid", get(paid))
        .route("/campaigns/{name}", get(campaign::<W, S>))
        .route("/campaigns/{name}/pledges", post(pledge::<W, S>))
        .layer(layer)
        .layer(DefaultBodyLimit::max(4096))
        .with_state(treasury);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn paid(Extension(paid): Extension<Paid>) -> Json<Value> {
    Json(json!({ "paid": hex::encode(paid.payment_hash) }))
}

fn answer(reply: Reply, pick: impl FnOnce(Value) -> Value) -> Response {
    match reply {
        Reply::Ok { value, .. } => Json(pick(value)).into_response(),
        Reply::Error { message } => refuse(message),
    }
}

fn refuse(message: String) -> Response {
    let body = json!({ "error": { "code": "refused", "message": message } });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

async fn campaign<W: Wallet, S: Store>(
    State(treasury): State<Treasury<W, S>>,
    Segment(name): Segment<String>,
) -> Response {
    let name = match name.parse::<Name>() {
        Ok(name) => name,
        Err(e) => return refuse(e.to_string()),
    };
    // Who pledged is the sponsors' own matter.
    let public = |value: Value| {
        json!({
            "name": value["name"], "goal": value["goal"], "raised": value["raised"], "state": value["state"],
            "ends": value["ends"],
        })
    };
    answer(execute(&treasury, Request::Campaign { name }).await, public)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pledge {
    sponsor: Name,
    amount_sat: u64,
}

async fn pledge<W: Wallet, S: Store>(
    State(treasury): State<Treasury<W, S>>,
    Segment(name): Segment<String>,
    Json(pledge): Json<Pledge>,
) -> Response {
    let name = match name.parse::<Name>() {
        Ok(name) => name,
        Err(e) => return refuse(e.to_string()),
    };
    let Some(amount) = Msat::from_sat(pledge.amount_sat) else {
        return refuse("this is more than there is".to_owned());
    };
    match treasury.pledge_with_random_secret(&name, pledge.sponsor, amount).await {
        Ok(made) => Json(json!({ "invoice": made.invoice, "hash": made.hash })).into_response(),
        Err(e @ TreasuryError::TooManyPledges { .. }) => {
            let body = json!({ "error": { "code": "too_many_pledges", "message": e.to_string() } });
            (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response()
        }
        Err(e) => refuse(e.to_string()),
    }
}
