//! Selling one thing at a time, for a price that is made for the request: for handlers that know only from a request's
//! content what it costs. Checks, answers and codes are those of [`L402Layer`](super::L402Layer).

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};

use super::cashier::Cashier;
use super::gate::{Gate, Paid};
use super::price::{Price, PriceTable};
use super::secret::RootSecret;
use super::settings::Settings;
use super::spent::Spent;

/// Sells what no route sells.
#[derive(Clone)]
pub struct Desk {
    settings: Settings,
    secret: RootSecret,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Desk {
    /// At a location, with the secret that tokens come from.
    pub fn new(settings: Settings, secret: RootSecret) -> Self {
        Self { settings, secret }
    }

    /// What was paid for, by the credential among the headers; otherwise the answer that says why not, most often a 402
    /// with a challenge. Two prices with other terms must have other capabilities, since a token is good for its
    /// capability.
    ///
    /// # Errors
    /// The answer to be given.
    pub async fn sell<C: Cashier, S: Spent>(
        &self,
        price: Price,
        (cashier, spent): (C, S),
        now: u64,
        headers: &HeaderMap,
    ) -> Result<Paid, Box<Response<Body>>> {
        let Ok(prices) = PriceTable::new(vec![price.clone()]) else {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(Box::new(answer));
        };
        let (settings, secret) = (self.settings.clone(), self.secret.clone());
        Gate { prices, settings, secret, cashier, spent, now: move || now }.sell(&price, headers).await
    }
}
