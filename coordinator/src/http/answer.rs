//! Answers and refusals.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use watershed_commons::client::from_text;
use watershed_protocol::market::view::{Refused, Signed};
use watershed_protocol::{Envelope, Verified, Wire};

use crate::blobs::BlobError;
use crate::market::MarketError;
use crate::office::MoneyError;

/// A refusal with its status and code.
#[derive(Debug)]
pub(super) struct Refuse(pub(super) StatusCode, pub(super) Refused);

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Refuse>;

impl Refuse {
    pub(super) fn new(status: StatusCode, code: &str, message: impl std::fmt::Display) -> Self {
        Self(status, Refused { code: code.to_owned(), message: message.to_string() })
    }

    pub(super) fn bad(code: &str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn missing(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }
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
            MarketError::Refused(refusal) => {
                let status = match refusal.code() {
                    "not-allowed" | "not-joined" => StatusCode::FORBIDDEN,
                    "no-assignment" => StatusCode::NOT_FOUND,
                    "wrong-stage" | "wrong-phase" | "changed" => StatusCode::CONFLICT,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, refusal.code(), refusal)
            }
            MarketError::NoRun(_) => Self::missing(&error),
            MarketError::NotASpecification => Self::bad("bad-specification", &error),
            MarketError::Journal(_) | MarketError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error)
            }
        }
    }
}

impl From<BlobError> for Refuse {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Missing(_) => Self::missing(&error),
            BlobError::Hash { .. } | BlobError::Length(_) | BlobError::Upload(_) => {
                Self::bad("bad-upload", &error)
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &error),
        }
    }
}

impl From<MoneyError> for Refuse {
    fn from(error: MoneyError) -> Self {
        match error {
            MoneyError::Blob(e) => e.into(),
            MoneyError::Market(e) => e.into(),
            MoneyError::Treasury(e) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", e),
            MoneyError::Other(e) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", e),
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
        .ok_or_else(|| Refuse::bad("bad-envelope", "`envelope` is not the base64 of an envelope"))?;
    let verified = envelope.open::<T>().map_err(|e| Refuse::bad("bad-signature", e))?;
    Ok((verified, envelope))
}
