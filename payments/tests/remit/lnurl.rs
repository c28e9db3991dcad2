//! A server of Lightning addresses: one that does what it should with a real wallet, and others that do not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Json, Redirect, Response};
use axum::routing::get;
use serde_json::{Value, json};
use watershed_payments::ledger::Account;
use watershed_payments::wallet::LightningAddress;
use watershed_protocol::Msat;

use crate::common::Money;

/// Running for as long as it is kept.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    pub(crate) async fn start(app: impl FnOnce(SocketAddr) -> Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = app(at);
        let running = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { at, running }
    }

    pub(crate) fn address(&self, name: &str) -> LightningAddress {
        format!("{name}@{}", self.at).parse().unwrap()
    }
}

pub(crate) fn terms(callback: &str, least: u64, most: u64) -> Json<Value> {
    Json(json!({
        "tag": "payRequest", "callback": callback, "minSendable": least, "maxSendable": most,
        "metadata": "[[\"text/plain\",\"refunds\"]]",
    }))
}

async fn invoice(State(money): State<Money>, Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    let amount = Msat::new(asked["amount"].parse().unwrap());
    let made = money.request(amount, "refund".into(), Duration::from_secs(600), Account::Operator).await;
    Json(json!({ "pr": made.unwrap().invoice.to_string(), "routes": [] }))
}

/// With a wallet behind it.
pub(crate) async fn honest(money: Money) -> Server {
    Server::start(|at| {
        let callback = format!("http://{at}/callback?for=bo");
        let offered = get(async move || terms(&callback, 1000, 1_000_000_000));
        Router::new()
            .route("/.well-known/lnurlp/bo", offered)
            .route("/callback", get(invoice))
            .with_state(money)
    })
    .await
}

/// With every trick that a server can try; `paid` is an invoice of 5000 msat.
pub(crate) async fn hostile(paid: String) -> Server {
    Server::start(|at| {
        let here = move |path: &str| format!("http://{at}/{path}");
        let user = |name: &str| format!("/.well-known/lnurlp/{name}");
        let fixed = {
            let paid = paid.clone();
            move || {
                let paid = paid.clone();
                async move { Json(json!({ "pr": paid })) }
            }
        };
        let to = |callback: String| get(async move || terms(&callback, 1, 1_000_000_000));
        let answer = |value: Value| get(async move || Json(value));
        let redirect =
            |to: String| get(async move || -> Response { Redirect::temporary(&to).into_response() });
        let endless = async || {
            let chunks = futures(0);
            axum::body::Body::from_stream(chunks).into_response()
        };
        Router::new()
            .route(&user("good"), to(here("fixed")))
            .route("/fixed", get(fixed))
            .route(&user("private"), to("https://10.0.0.1/".to_owned()))
            .route(&user("plain"), to("http://example.org/".to_owned()))
            .route(&user("file"), to("file:///etc/passwd".to_owned()))
            .route(&user("inside"), redirect("http://192.168.0.1/".to_owned()))
            .route(&user("loop"), redirect(here(".well-known/lnurlp/loop")))
            .route(&user("moved"), redirect(here(".well-known/lnurlp/good")))
            .route(&user("endless"), get(endless))
            .route(&user("text"), get(async || "hello"))
            .route(&user("error"), answer(json!({ "status": "ERROR", "reason": "closed\u{7}" })))
            .route(
                &user("withdraw"),
                answer(json!({
                    "tag": "withdrawRequest", "callback": here("fixed"), "minSendable": 1, "maxSendable": 9,
                })),
            )
            .route(&user("junk"), to(here("junk")))
            .route("/junk", answer(json!({ "pr": "lnbcrt1junk" })))
            .route(&user("small"), get(async move || terms(&here("fixed"), 1, 4_999)))
            .route(&user("large"), get(async move || terms(&here("fixed"), 5_001, 9_000)))
    })
    .await
}

/// Bytes without end.
fn futures(n: u64) -> impl futures_util::Stream<Item = Result<Vec<u8>, std::io::Error>> + Send {
    futures_util::stream::unfold(n, async |n| Some((Ok(vec![b' '; 1 << 14]), n + 1)))
}
