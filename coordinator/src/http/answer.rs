//! Answers and refusals.

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watershed_commons::client::from_text;
use watershed_payments::treasury::TreasuryError;
use watershed_protocol::market::view::{Refused, Signed};
use watershed_protocol::{Envelope, Verified, Wire};

use super::codes;
use crate::blobs::BlobError;
use crate::market::MarketError;
use crate::office::MoneyError;

/// A refusal with its status and code.
#[derive(Debug)]
pub(super) struct Refuse(pub(super) StatusCode, pub(super) Refused);

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Refuse>;

impl Refuse {
    /// With a code of [`codes::CODES`], which says the status too.
    pub(super) fn of(code: &str, message: impl std::fmt::Display) -> Self {
        let status = codes::status(code);
        Self(status, Refused { code: code.to_owned(), message: message.to_string() })
    }

    pub(super) fn missing(message: impl std::fmt::Display) -> Self {
        Self::of("not-found", message)
    }
}

/// What the framework itself refuses (no JSON, too long, no such path) gets the form of all other refusals.
pub(super) async fn in_form(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let of_api = path.starts_with("/v1/") || path.starts_with("/log/");
    let answer = next.run(request).await;
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|k| k.to_str().ok()).unwrap_or_default();
    let refused = status.is_client_error() || status.is_server_error();
    if !of_api || !refused || kind.starts_with("application/json") {
        return answer;
    }
    let said = axum::body::to_bytes(answer.into_body(), 1 << 12).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let (code, otherwise) = match status {
        StatusCode::NOT_FOUND => ("not-found", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => ("bad-method", "this is not done with this method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too-long", "the request is too long"),
        StatusCode::REQUEST_TIMEOUT => ("too-slow", "the request took too long"),
        StatusCode::TOO_MANY_REQUESTS => ("too-many", "too many requests; ask again later"),
        s if s.is_server_error() => ("unavailable", "the coordinator cannot answer now"),
        _ => ("bad-request", "the request cannot be read"),
    };
    Refuse::of(code, if said.is_empty() { otherwise.to_owned() } else { said }).into_response()
}

impl IntoResponse for Refuse {
    fn into_response(self) -> Response {
        let passing = matches!(self.0, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        let mut answer = (self.0, Json(self.1)).into_response();
        if passing {
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
        }
        answer
    }
}

impl From<MarketError> for Refuse {
    fn from(error: MarketError) -> Self {
        match &error {
            MarketError::Refused(refusal) => Self::of(refusal.code(), refusal),
            MarketError::NoRun(_) => Self::missing(&error),
            MarketError::NotASpecification => Self::of("bad-specification", &error),
            MarketError::Journal(_) | MarketError::Stopping => Self::of("unavailable", &error),
        }
    }
}

impl From<BlobError> for Refuse {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Missing(_) => Self::missing(&error),
            BlobError::Hash { .. } | BlobError::Length(_) | BlobError::Upload(_) => {
                Self::of("bad-upload", &error)
            }
            _ => Self::of("unavailable", &error),
        }
    }
}

impl From<MoneyError> for Refuse {
    fn from(error: MoneyError) -> Self {
        match error {
            MoneyError::Blob(e) => e.into(),
            MoneyError::Market(e) => e.into(),
            MoneyError::Treasury(e @ TreasuryError::TooManyPledges { .. }) => Self::of("too-many-pledges", e),
            MoneyError::Treasury(e) => Self::of("refused", e),
            MoneyError::Destination(e) => Self::of(e.code(), e),
            MoneyError::NoClaim => Self::of("no-claim", error),
            MoneyError::NothingLeft => Self::of("nothing-left", error),
            MoneyError::NotPaid(_) => Self::of("not-paid", error),
            MoneyError::UnderWay => Self::of("under-way", error),
            MoneyError::Other(e) => Self::of("refused", e),
        }
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: T) -> Answer<T> {
    Ok(Json(value))
}

/// Opens a signed message.
pub(super) fn open<T: Wire>(signed: &Signed) -> Result<(Verified<T>, Envelope), Refuse> {
    let envelope = from_text(&signed.envelope)
        .ok_or_else(|| Refuse::of("bad-envelope", "`envelope` is not the base64 of an envelope"))?;
    let verified = envelope.open::<T>().map_err(|e| Refuse::of("bad-signature", e))?;
    Ok((verified, envelope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_on_pledges_is_told_as_one_that_passes() {
        let refuse = Refuse::from(MoneyError::Treasury(TreasuryError::TooManyPledges { most: 100 }));
        assert_eq!((refuse.0.as_u16(), refuse.1.code.as_str()), (429, "too-many-pledges"));
        assert!(refuse.into_response().headers().contains_key(header::RETRY_AFTER));
    }
}
