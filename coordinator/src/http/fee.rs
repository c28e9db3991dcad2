//! The joining fee: asked for when a miner joins that has not paid it, with an L402 challenge for this miner and run.

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use watershed_payments::l402::Refusal;
use watershed_protocol::market::view::Refused;
use watershed_protocol::{Msat, PublicKey, RunId};

use super::Shared;
use super::answer::Refuse;
use crate::machine::{Event, Phase, Run};
use crate::office::Money;

/// None if the miner may join; otherwise the answer that says how to pay. What was paid is remembered with the run.
pub(super) async fn ask<M: Money>(
    shared: &Shared<M>,
    run: RunId,
    miner: PublicKey,
    headers: &HeaderMap,
) -> Result<Option<Response>, Refuse> {
    let due = |r: &Run| {
        let over = matches!(r.phase, Phase::Closing { .. } | Phase::Ended { .. });
        (!over && !r.may_join(&miner)).then(|| r.spec.clone())
    };
    let Some(spec) = shared.office.market.with(run, due)? else { return Ok(None) };
    match shared.office.money.joining_fee(run, &spec, miner, headers).await? {
        Ok(payment) => {
            shared.office.market.happened(run, Event::FeePaid { miner, payment }).await?;
            Ok(None)
        }
        Err(unpaid) => Ok(Some(in_our_words(*unpaid, spec.funding.joining_fee))),
    }
}

/// The answer with its challenge, and a body as all refusals of this API have it.
fn in_our_words(unpaid: Response, fee: Msat) -> Response {
    let refused = match unpaid.extensions().get::<Refusal>() {
        Some(Refusal::PaymentRequired) | None => Refused {
            code: "joining-fee".to_owned(),
            message: format!("this run takes a fee of {fee} for joining: pay the invoice of the challenge"),
        },
        Some(refusal) => Refused { code: refusal.code().to_owned(), message: refusal.message() },
    };
    let status = unpaid.status();
    let challenge = unpaid.headers().get(header::WWW_AUTHENTICATE).cloned();
    let mut answer = (status, [(header::CACHE_CONTROL, "no-store")], Json(refused)).into_response();
    if let Some(challenge) = challenge {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}
