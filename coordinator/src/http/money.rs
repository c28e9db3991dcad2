//! Pledges, refunds and payouts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fast_qr::convert::svg::SvgBuilder;
use fast_qr::qr::QRBuilder;
use serde::Deserialize;
use watershed_protocol::market::PayoutRequest;
use watershed_protocol::market::view::{PledgeMade, PledgeView, Signed};
use watershed_protocol::{Msat, RunId};

use super::Shared;
use super::answer::{Answer, Refuse, json, open};
use crate::machine::Phase;
use crate::office::Money;

fn run_id(text: &str) -> Result<RunId, Refuse> {
    text.parse().map_err(|e| Refuse::of("bad-id", format!("the run: {e}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pledge {
    sponsor: String,
    amount_sat: u64,
    refund_to: Option<String>,
}

pub(super) async fn pledge<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(run): Path<String>,
    Json(pledge): Json<Pledge>,
) -> Answer<PledgeMade> {
    let run = run_id(&run)?;
    let funding = shared.office.market.with(run, |r| r.phase == Phase::Funding)?;
    if !funding {
        return Err(Refuse::of("wrong-phase", "this run takes no pledges now"));
    }
    let amount = Msat::from_sat(pledge.amount_sat).filter(|a| *a > Msat::ZERO);
    let amount = amount.ok_or_else(|| Refuse::of("out-of-range", "the amount"))?;
    let refund_to = pledge.refund_to.as_deref().map(str::trim).filter(|to| !to.is_empty());
    json(shared.office.money.pledge(run, &pledge.sponsor, amount, refund_to).await?)
}

pub(super) async fn state<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path((run, hash)): Path<(String, String)>,
) -> Answer<PledgeView> {
    json(shared.office.money.pledge_state(run_id(&run)?, &hash)?)
}

/// The pledge's invoice as a QR code that wallets scan.
pub(super) async fn qr<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path((run, hash)): Path<(String, String)>,
) -> Result<Response, Refuse> {
    let pledge = shared.office.money.pledge_state(run_id(&run)?, &hash)?;
    // In capitals a QR code needs fewer modules.
    let code = QRBuilder::new(format!("LIGHTNING:{}", pledge.invoice.to_uppercase())).build();
    let code = code.map_err(|_| Refuse::of("too-long", "the invoice is too long for a QR code"))?;
    let svg = SvgBuilder::default().to_str(&code);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}

pub(super) async fn raised<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(run): Path<String>,
) -> Answer<serde_json::Value> {
    let (raised, goal) = shared.office.money.raised(run_id(&run)?)?;
    json(serde_json::json!({ "raised": raised, "goal": goal }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refund {
    claim: String,
    to: String,
}

pub(super) async fn refund<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Path(run): Path<String>,
    Json(refund): Json<Refund>,
) -> Answer<serde_json::Value> {
    let run = run_id(&run)?;
    let paid = shared.office.money.refund(run, refund.claim.trim(), refund.to.trim()).await;
    // Also what was paid while the answer was about something else.
    shared.office.note_refunds(run).await?;
    let paid = paid?;
    json(serde_json::json!({ "paid": paid.amount, "payment": paid.payment }))
}

pub(super) async fn payout<M: Money>(
    State(shared): State<Arc<Shared<M>>>,
    Json(signed): Json<Signed>,
) -> Answer<serde_json::Value> {
    let (request, _) = open::<PayoutRequest>(&signed)?;
    let paid = shared.office.money.pay_out(request.signer(), &request.value().invoice).await?;
    json(serde_json::json!({ "paid": paid }))
}
