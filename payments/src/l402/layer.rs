//! The tower layer: finds the price of a request, and either hands the request on or writes the answer that refuses it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response};
use axum::response::IntoResponse;
use serde_json::json;
use tower::{Layer, Service};

use super::cashier::Cashier;
use super::gate::{Gate, Paid};
use super::price::{Price, PriceTable};
use super::refusal::Refusal;
use super::secret::RootSecret;
use super::settings::Settings;
use super::spent::Spent;

/// Sells access to the routes of a price table; all other routes pass through untouched.
///
/// `C` makes the invoices, `S` counts the uses, `N` gives the time in Unix seconds. On a router use
/// [`Router::layer`](axum::Router::layer), so that prices are found by the pattern of the route that was chosen. Around any
/// other service paths are compared as they were sent: a service that decodes or tidies paths would open priced routes
/// under other spellings.
///
/// Requests that are let through carry a [`Paid`] in their extensions and no `Authorization` header any more, so that no
/// handler can log it. They wait for nothing but their own call of the cashier.
pub struct L402Layer<C, S, N>(Arc<Gate<C, S, N>>);

impl<C: Cashier, S: Spent, N: Fn() -> u64 + Send + Sync + 'static> L402Layer<C, S, N> {
    /// A layer with these prices.
    pub fn new(
        prices: PriceTable,
        settings: Settings,
        secret: RootSecret,
        cashier: C,
        spent: S,
        now: N,
    ) -> Self {
        Self(Arc::new(Gate { prices, settings, secret, cashier, spent, now }))
    }
}

impl<C, S, N> Clone for L402Layer<C, S, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, S, N> fmt::Debug for L402Layer<C, S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L402Layer").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl<I, C, S, N> Layer<I> for L402Layer<C, S, N> {
    type Service = L402Service<I, C, S, N>;

    fn layer(&self, inner: I) -> Self::Service {
        L402Service { inner, gate: Arc::clone(&self.0) }
    }
}

/// What [`L402Layer`] makes of a service.
pub struct L402Service<I, C, S, N> {
    inner: I,
    gate: Arc<Gate<C, S, N>>,
}

impl<I: Clone, C, S, N> Clone for L402Service<I, C, S, N> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: Arc::clone(&self.gate) }
    }
}

impl<I, C, S, N> fmt::Debug for L402Service<I, C, S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L402Service").field("settings", &self.gate.settings).finish_non_exhaustive()
    }
}

impl<I, B, C, S, N> Service<Request<B>> for L402Service<I, C, S, N>
where
    I: Service<Request<B>, Error = Infallible> + Clone + Send + 'static,
    I::Response: IntoResponse,
    I::Future: Send,
    B: Send + 'static,
    C: Cashier,
    S: Spent,
    N: Fn() -> u64 + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gate = Arc::clone(&self.gate);
        // the one that was polled ready is called; a clone of it may not be ready
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            let matched = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
            match gate.decide(&parts.method, matched, parts.uri.path(), &parts.headers).await {
                Ok(Decision::Free) => {}
                Ok(Decision::Paid(paid)) => {
                    parts.headers.remove(AUTHORIZATION);
                    parts.extensions.insert(paid);
                }
                Err(answer) => return Ok(*answer),
            }
            Ok(inner.call(Request::from_parts(parts, body)).await?.into_response())
        })
    }
}

/// How a request is let through.
enum Decision {
    Free,
    Paid(Paid),
}

impl<C: Cashier, S: Spent, N: Fn() -> u64> Gate<C, S, N> {
    async fn decide(
        &self,
        method: &Method,
        matched: Option<&str>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Decision, Box<Response<Body>>> {
        let Some(price) = self.prices.find(method, matched, path) else { return Ok(Decision::Free) };
        self.sell(price, headers).await.map(Decision::Paid)
    }

    /// What was paid, or the answer that refuses it.
    pub(super) async fn sell(&self, price: &Price, headers: &HeaderMap) -> Result<Paid, Box<Response<Body>>> {
        let refusal = match self.admit(price, headers).await {
            Ok(paid) => return Ok(paid),
            Err(refusal) => refusal,
        };
        let offered = match refusal.status() {
            axum::http::StatusCode::PAYMENT_REQUIRED => self.challenge(price).await.map(Some),
            _ => Ok(None),
        };
        Err(Box::new(match offered {
            Ok(None) => answer(refusal, json!({}), None),
            Ok(Some(challenge)) => {
                answer(refusal, json!({ "price": challenge.offer }), Some(challenge.into_header()))
            }
            Err(trouble) => answer(trouble, json!({}), None),
        }))
    }
}

/// The answer to a request that is refused.
fn answer(refusal: Refusal, mut body: serde_json::Value, challenge: Option<HeaderValue>) -> Response<Body> {
    body["error"] = json!({ "code": refusal.code(), "message": refusal.message() });
    let mut response = (refusal.status(), axum::Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Refusal::CashierBusy { seconds } = refusal {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response.extensions_mut().insert(refusal);
    response
}
