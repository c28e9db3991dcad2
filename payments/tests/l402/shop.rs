//! A small shop behind the layer, with a clock that is moved by hand, and the client's side of the protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use libmacaroon::{Format, Macaroon};
use tower::ServiceExt;
use watershed_payments::l402::{
    L402Layer, MemorySpent, Paid, Price, PriceTable, Refusal, RootSecret, Settings, Uses,
};
use watershed_protocol::Msat;

use super::till::Till;

pub const LOCATION: &str = "https://shop.example";
pub const START: u64 = 1_800_000_000;

pub struct Shop {
    pub router: Router,
    pub till: Till,
    pub clock: Arc<AtomicU64>,
}

/// An offer as a client reads it.
pub struct Offer {
    pub macaroon: String,
    pub invoice: String,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub refusal: Option<Refusal>,
}

pub fn price(path: &str, capability: &str, uses: Uses) -> Price {
    Price {
        method: None,
        path: path.into(),
        amount: Msat::new(21_000),
        service: "shop".into(),
        tier: 0,
        capability: capability.into(),
        uses,
        valid_s: 600,
        description: format!("one {capability}"),
    }
}

pub fn settings() -> Settings {
    settings_at(LOCATION)
}

pub fn settings_at(location: &str) -> Settings {
    let mut settings = Settings::new(location).unwrap();
    settings.cashier_timeout = Duration::from_millis(100);
    settings.settle_retries = 2;
    settings.settle_pause = Duration::from_millis(5);
    settings
}

/// Free: `/`. Sold: `GET /read/{id}` without limit, `POST /join` once, `/thrice` three times, and `/other` by another
/// service.
pub fn shop_with(secret: [u8; 32], settings: Settings, spent: MemorySpent) -> Shop {
    let prices = PriceTable::new(vec![
        Price { method: Some(Method::GET), ..price("/read/{id}", "read", Uses::Unlimited) },
        Price { method: Some(Method::POST), ..price("/join", "join", Uses::ONCE) },
        price("/thrice", "thrice", Uses::Times(3.try_into().unwrap())),
        Price { service: "mail".into(), ..price("/other", "read", Uses::Unlimited) },
    ])
    .unwrap();
    let (till, clock) = (Till::new(), Arc::new(AtomicU64::new(START)));
    let now = {
        let clock = clock.clone();
        move || clock.load(Ordering::SeqCst)
    };
    let layer = L402Layer::new(prices, settings, RootSecret::from_entropy(secret), till.clone(), spent, now);
    assert!(!format!("{layer:?}").contains(&format!("{}", secret[0])));
    let bought = |paid: Option<Extension<Paid>>, headers: HeaderMap| async move {
        assert!(!headers.contains_key(AUTHORIZATION), "handlers must not see credentials");
        format!("bought {}", paid.map(|Extension(paid)| paid.capability).unwrap_or_default())
    };
    let router = Router::new()
        .route("/", get(async || "free"))
        .route("/read/{id}", get(bought).post(async || "free post"))
        .route("/join", post(bought))
        .route("/thrice", get(bought))
        .route("/other", get(bought))
        .layer(layer);
    Shop { router, till, clock }
}

pub fn shop() -> Shop {
    shop_with([7; 32], settings(), MemorySpent::new(100))
}

pub async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 16).await.unwrap().to_vec()).unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
        refusal: parts.extensions.get::<Refusal>().cloned(),
    }
}

impl Shop {
    pub async fn ask(&self, method: &str, path: &str, authorization: Option<&[u8]>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        read(self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()).await
    }

    /// Asks with a macaroon and the preimage of an invoice, as hex.
    pub async fn present(&self, method: &str, path: &str, macaroon: &str, preimage: &str) -> Answer {
        self.ask(method, path, Some(format!("L402 {macaroon}:{preimage}").as_bytes())).await
    }

    pub async fn offer(&self, method: &str, path: &str) -> Offer {
        self.ask(method, path, None).await.offer()
    }

    /// Gets an offer and pays it: the macaroon and the preimage.
    pub async fn buy(&self, method: &str, path: &str) -> (String, String) {
        let offer = self.offer(method, path).await;
        let preimage = self.till.pay(&offer.invoice).unwrap();
        (offer.macaroon, preimage.reveal())
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Answer {
    pub fn offer(&self) -> Offer {
        assert_eq!(self.status, StatusCode::PAYMENT_REQUIRED, "{}", self.body);
        let mut challenges = self.headers.get_all(WWW_AUTHENTICATE).iter();
        let header = challenges.next().unwrap().to_str().unwrap();
        assert!(challenges.next().is_none());
        let parts: Vec<_> = header.split('"').collect();
        let [scheme, macaroon, comma, invoice, version, "0", token, again, ""] = parts[..] else {
            panic!("{header}")
        };
        assert_eq!((scheme, comma), ("L402 macaroon=", ", invoice="));
        assert_eq!((version, token), (", version=", ", token="));
        assert_eq!(macaroon, again);
        Offer { macaroon: macaroon.to_owned(), invoice: invoice.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// That the answer is this refusal in every respect that clients may rely on.
    pub fn refuses(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.json()["error"]["code"].as_str()), (status, Some(code)));
        assert!(self.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(self.refusal.as_ref().map(Refusal::code), Some(code));
        assert_eq!(self.headers["cache-control"], "no-store");
        if status == 402 {
            assert_eq!(self.json()["price"]["invoice"], self.offer().invoice);
        } else {
            assert!(!self.headers.contains_key(WWW_AUTHENTICATE), "a challenge makes some clients pay");
        }
    }

    pub fn bought(&self, capability: &str) {
        assert_eq!(
            (self.status, self.body.as_str()),
            (StatusCode::OK, format!("bought {capability}").as_str())
        );
    }
}

/// What a holder does who adds caveats.
pub fn narrowed(macaroon: &str, caveats: &[&str]) -> String {
    let mut macaroon = Macaroon::deserialize(macaroon).unwrap();
    for caveat in caveats {
        macaroon.add_first_party_caveat(caveat).unwrap();
    }
    macaroon.serialize(Format::V2).unwrap()
}
