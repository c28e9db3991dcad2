//! The layer on a router, from a client's side: what is sold, what is let through and what is refused.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

#[path = "l402/shop.rs"]
mod shop;
#[path = "l402/till.rs"]
mod till;

use std::time::Duration;

use axum::http::StatusCode;
use lightning_invoice::Bolt11Invoice;
use proptest::prelude::*;
use shop::{START, narrowed, settings, settings_at, shop, shop_with};
use watershed_payments::l402::MemorySpent;
use watershed_protocol::Preimage;

#[tokio::test]
async fn a_free_route_is_free_whatever_is_presented() {
    let shop = shop();
    for authorization in [None, Some(&b"L402 rubbish"[..]), Some(b"Bearer x")] {
        let answer = shop.ask("GET", "/", authorization).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "free"));
    }
    assert_eq!(shop.ask("POST", "/read/7", None).await.body, "free post");
    assert_eq!(shop.ask("GET", "/nowhere", None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(shop.till.asked(), 0);
}

#[tokio::test]
async fn the_challenge_offers_a_real_invoice_of_the_price_and_tells_no_secret() {
    let shop = shop();
    let answer = shop.ask("GET", "/read/7", None).await;
    answer.refuses(402, "l402_payment_required");
    let offer = answer.offer();
    let invoice: Bolt11Invoice = offer.invoice.parse().unwrap();
    assert_eq!(invoice.amount_milli_satoshis(), Some(21_000));
    assert_eq!(invoice.expiry_time(), Duration::from_secs(3600));
    assert_eq!(invoice.description().to_string(), "one read");
    let price = &answer.json()["price"];
    assert_eq!((price["amount_msat"].as_u64(), price["service"].as_str()), (Some(21_000), Some("shop")));
    assert_eq!(price["payment_hash"].as_str(), Some(invoice.payment_hash().to_string().as_str()));
    assert_eq!(price["pay_before"].as_u64(), Some(START + 3600));
    assert_eq!(price["valid_until"].as_u64(), Some(START + 3600 + 600));
    assert!(price["uses"].is_null());
    assert!(!answer.body.contains(&offer.macaroon));
    assert!(
        !format!("{:?}", answer.headers).contains(&offer.macaroon),
        "the header must be marked as sensitive"
    );
    // older clients do not read the URL-safe alphabet
    assert!(!offer.macaroon.contains(['-', '_']));
}

#[tokio::test]
async fn a_paid_token_opens_its_routes_again_and_again_until_it_expires() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    for path in ["/read/7", "/read/8"] {
        shop.present("GET", path, &macaroon, &preimage).await.bought("read");
    }
    assert_eq!(shop.present("HEAD", "/read/7", &macaroon, &preimage).await.status, StatusCode::OK);
    let legacy = format!("LSAT {macaroon}:{}", preimage.to_uppercase());
    shop.ask("GET", "/read/7", Some(legacy.as_bytes())).await.bought("read");

    shop.pass(3600 + 599);
    shop.present("GET", "/read/7", &macaroon, &preimage).await.bought("read");
    shop.pass(1);
    shop.present("GET", "/read/7", &macaroon, &preimage).await.refuses(402, "l402_token_expired");
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    shop.present("GET", "/read/7", &macaroon, &preimage).await.bought("read");
}

#[tokio::test]
async fn head_is_no_way_around_the_price_of_get() {
    let shop = shop();
    assert_eq!(shop.ask("HEAD", "/read/7", None).await.status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(shop.till.asked(), 1);
}

#[tokio::test]
async fn a_payment_buys_so_many_uses_and_a_replay_costs_again() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("POST", "/join").await;
    shop.present("POST", "/join", &macaroon, &preimage).await.bought("join");
    let replay = shop.present("POST", "/join", &macaroon, &preimage).await;
    replay.refuses(402, "l402_token_used_up");
    let again = shop.till.pay(&replay.offer().invoice).unwrap().reveal();
    shop.present("POST", "/join", &replay.offer().macaroon, &again).await.bought("join");

    let (macaroon, preimage) = shop.buy("GET", "/thrice").await;
    for _ in 0..3 {
        shop.present("GET", "/thrice", &macaroon, &preimage).await.bought("thrice");
    }
    // a narrowed token is the same token, and a shorter one is not forgotten sooner
    for token in [macaroon.clone(), narrowed(&macaroon, &[&format!("shop_valid_until={}", START + 9)])] {
        shop.present("GET", "/thrice", &token, &preimage).await.refuses(402, "l402_token_used_up");
    }
}

#[tokio::test]
async fn a_short_copy_of_a_token_does_not_bring_its_uses_back() {
    let shop = shop_with([7; 32], settings(), MemorySpent::new(1));
    let (macaroon, preimage) = shop.buy("POST", "/join").await;
    let short = narrowed(&macaroon, &[&format!("shop_valid_until={}", START + 10)]);
    shop.present("POST", "/join", &short, &preimage).await.bought("join");
    shop.pass(20);
    // another buyer makes the full store look for what it may forget
    let (other, of_other) = shop.buy("POST", "/join").await;
    shop.present("POST", "/join", &other, &of_other).await.refuses(503, "l402_store_unavailable");
    shop.present("POST", "/join", &macaroon, &preimage).await.refuses(402, "l402_token_used_up");
}

#[tokio::test]
async fn of_simultaneous_replays_one_is_let_through() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("POST", "/join").await;
    let one = || shop.present("POST", "/join", &macaroon, &preimage);
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    let mut statuses = [a, b, c, d].map(|answer| answer.status.as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 402, 402, 402]);
}

#[tokio::test]
async fn a_header_that_is_no_credential_is_malformed_and_a_long_one_is_not_looked_into() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    for bad in [
        "L402".to_owned(),
        "LSAT x".to_owned(),
        format!("L402 {macaroon}"),
        format!("L402 {macaroon}:"),
        format!("L402 {macaroon}:{}", &preimage[1..]),
        format!("L402 :{preimage}"),
        format!("L402 {macaroon}:{macaroon}:{preimage}"),
    ] {
        shop.ask("GET", "/read/7", Some(bad.as_bytes())).await.refuses(400, "l402_header_malformed");
    }
    shop.ask("GET", "/read/7", Some(b"L402 \xff:\xfe")).await.refuses(400, "l402_header_malformed");
    let long = format!("L402 {}", "A".repeat(4092));
    shop.ask("GET", "/read/7", Some(long.as_bytes())).await.refuses(400, "l402_header_too_long");
    let other = format!("Bearer {}", "A".repeat(9000));
    shop.ask("GET", "/read/7", Some(other.as_bytes())).await.refuses(402, "l402_payment_required");
}

#[tokio::test]
async fn what_is_no_macaroon_is_undecodable() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    for bad in
        ["AgEL", "!!!!", "{\"v\"", "MDAxY2xvY2F0aW9u", &macaroon[..40], &format!("{macaroon},{macaroon}")]
    {
        // a colon within is malformed, not undecodable
        shop.present("GET", "/read/7", bad, &preimage).await.refuses(400, "l402_macaroon_undecodable");
    }
    let third = {
        let mut macaroon = libmacaroon::Macaroon::deserialize(&macaroon).unwrap();
        macaroon
            .add_third_party_caveat("elsewhere", &libmacaroon::MacaroonKey::generate(b"k"), "id")
            .unwrap();
        macaroon.serialize(libmacaroon::Format::V2).unwrap()
    };
    shop.present("GET", "/read/7", &third, &preimage).await.refuses(400, "l402_macaroon_undecodable");
}

#[tokio::test]
async fn a_token_of_another_secret_location_or_service_is_no_token() {
    let shop = shop();
    let forger = shop_with([8; 32], settings(), MemorySpent::new(9));
    let (macaroon, preimage) = forger.buy("GET", "/read/7").await;
    shop.present("GET", "/read/7", &macaroon, &preimage).await.refuses(403, "l402_signature_forged");

    let elsewhere = shop_with([7; 32], settings_at("https://elsewhere.example"), MemorySpent::new(9));
    let (macaroon, preimage) = elsewhere.buy("GET", "/read/7").await;
    shop.present("GET", "/read/7", &macaroon, &preimage).await.refuses(403, "l402_token_foreign");

    let (macaroon, preimage) = shop.buy("GET", "/other").await;
    shop.present("GET", "/other", &macaroon, &preimage).await.bought("read");
    shop.present("GET", "/read/7", &macaroon, &preimage).await.refuses(403, "l402_token_foreign");
}

#[tokio::test]
async fn a_token_of_another_tier_is_not_good_any_more() {
    use watershed_payments::l402::{L402Layer, Price, PriceTable, RootSecret, Uses};
    let till = till::Till::new();
    let at_tier = |tier| {
        let price = Price { tier, ..shop::price("/a", "read", Uses::Unlimited) };
        let (prices, secret) = (PriceTable::new(vec![price]).unwrap(), RootSecret::from_entropy([1; 32]));
        let layer = L402Layer::new(prices, settings(), secret, till.clone(), MemorySpent::new(1), || START);
        axum::Router::new().route("/a", axum::routing::get(async || "open")).layer(layer)
    };
    let ask = async |tier, authorization: String| {
        let request = axum::http::Request::get("/a").header("authorization", authorization);
        let request = request.body(axum::body::Body::empty()).unwrap();
        shop::read(tower::ServiceExt::oneshot(at_tier(tier), request).await.unwrap()).await
    };
    let offer = ask(0, String::new()).await.offer();
    let credential = format!("L402 {}:{}", offer.macaroon, till.pay(&offer.invoice).unwrap().reveal());
    assert_eq!(ask(0, credential.clone()).await.body, "open");
    ask(1, credential).await.refuses(403, "l402_token_foreign");
}

#[tokio::test]
async fn a_token_of_another_capability_is_offered_the_right_one() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    let answer = shop.present("POST", "/join", &macaroon, &preimage).await;
    answer.refuses(402, "l402_capability_missing");
    assert_eq!(answer.json()["price"]["capability"], "join");
}

#[tokio::test]
async fn without_the_preimage_or_the_payment_nothing_opens_and_nothing_is_charged_twice() {
    let shop = shop();
    let offer = shop.offer("GET", "/read/7").await;
    let guess = Preimage::from_bytes([9; 32]).reveal();
    shop.present("GET", "/read/7", &offer.macaroon, &guess).await.refuses(403, "l402_preimage_wrong");
    let known = shop.till.preimage(&offer.invoice).unwrap().reveal();
    let asked = shop.till.asked();
    shop.present("GET", "/read/7", &offer.macaroon, &known).await.refuses(403, "l402_invoice_unsettled");
    assert_eq!(shop.till.asked(), asked, "no new invoice for a client that may have paid");
    shop.till.pay(&offer.invoice).unwrap();
    shop.present("GET", "/read/7", &offer.macaroon, &known).await.bought("read");
    // a preimage of another payment is worth nothing here
    let (_, other) = shop.buy("GET", "/read/7").await;
    shop.present("GET", "/read/7", &offer.macaroon, &other).await.refuses(403, "l402_preimage_wrong");
}

#[tokio::test]
async fn a_payment_that_settles_a_moment_later_is_waited_for() {
    let mut patient = settings();
    patient.settle_pause = Duration::from_millis(50);
    let shop = shop_with([7; 32], patient, MemorySpent::new(9));
    let offer = shop.offer("POST", "/join").await;
    let known = shop.till.preimage(&offer.invoice).unwrap().reveal();
    let later = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        shop.till.pay(&offer.invoice).unwrap();
    };
    let (answer, ()) = tokio::join!(shop.present("POST", "/join", &offer.macaroon, &known), later);
    answer.bought("join");
}

#[tokio::test]
async fn holders_narrow_tokens_and_cannot_widen_them() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    let until = |seconds: u64| format!("shop_valid_until={}", START + seconds);
    for good in [
        &["shop_capabilities=read"][..],
        &["services=shop:0"],
        &[&until(100)],
        &["mail_capabilities=send", "mail_valid_until=1", "colour=red"],
    ] {
        shop.present("GET", "/read/7", &narrowed(&macaroon, good), &preimage).await.bought("read");
    }
    for bad in [
        &["shop_capabilities=read,join"][..],
        &["services=shop:0,mail:0"],
        &[&until(3600 + 601)],
        &[&until(50), &until(51)],
        &["shop_colour=red"],
        &["read_monthly_bytes=5"],
        &["no key"],
    ] {
        let token = narrowed(&macaroon, bad);
        shop.present("GET", "/read/7", &token, &preimage).await.refuses(403, "l402_caveat_refused");
    }
    let short = narrowed(&macaroon, &[&until(50)]);
    shop.pass(50);
    shop.present("GET", "/read/7", &short, &preimage).await.refuses(402, "l402_token_expired");
    shop.present("GET", "/read/7", &macaroon, &preimage).await.bought("read");
}

#[tokio::test]
async fn a_broken_cashier_is_503_without_details_and_free_routes_go_on() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    shop.till.break_down();
    for answer in
        [shop.ask("GET", "/read/7", None).await, shop.present("GET", "/read/7", &macaroon, &preimage).await]
    {
        answer.refuses(503, "l402_cashier_unavailable");
        assert!(!answer.body.contains("secret-peer"));
        assert!(answer.refusal.unwrap().to_string().contains("secret-peer"), "the operator may see why");
    }
    assert_eq!(shop.ask("GET", "/", None).await.body, "free");
}

#[tokio::test]
async fn a_busy_cashier_says_when_to_come_back_and_what_was_bought_stays_good() {
    let shop = shop();
    let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
    shop.till.get_busy();
    let answer = shop.ask("GET", "/read/7", None).await;
    answer.refuses(503, "l402_cashier_busy");
    assert_eq!(answer.headers["retry-after"], "7");
    shop.present("GET", "/read/7", &macaroon, &preimage).await.bought("read");
}

#[tokio::test]
async fn a_stuck_cashier_delays_nobody_else_and_is_given_up() {
    let shop = shop();
    shop.till.get_stuck();
    let stuck = async {
        let answer = shop.ask("GET", "/read/7", None).await;
        (answer, std::time::Instant::now())
    };
    let free = async {
        let answer = shop.ask("GET", "/", None).await;
        (answer, std::time::Instant::now())
    };
    let ((stuck, gave_up), (free, answered)) = tokio::join!(stuck, free);
    assert_eq!(free.body, "free");
    assert!(answered < gave_up);
    stuck.refuses(503, "l402_cashier_unavailable");
}

#[tokio::test]
async fn nested_routes_and_services_cost_what_their_whole_path_says() {
    use axum::body::Body;
    use axum::http::Request;
    use axum::{Router, routing::get};
    use watershed_payments::l402::{L402Layer, PriceTable, RootSecret, Uses};
    let prices = PriceTable::new(vec![
        shop::price("/v1/read/{id}", "read", Uses::Unlimited),
        shop::price("/files/{*path}", "file", Uses::Unlimited),
    ]);
    let secret = RootSecret::from_entropy([1; 32]);
    let till = till::Till::new();
    let layer = L402Layer::new(prices.unwrap(), settings(), secret, till, MemorySpent::new(1), || START);
    let open = || Router::new().route("/read/{id}", get(async || "open")).fallback(async || "open");
    for (router, paths) in [
        (Router::new().nest("/v1", open()).layer(layer.clone()), &["/v1/read/7"][..]),
        (Router::new().nest("/v1", open().layer(layer.clone())), &["/v1/read/7"]),
        (
            Router::new().nest_service("/files", open()).layer(layer.clone()),
            &["/files/read/7", "/files/a/b/c"],
        ),
        (Router::new().fallback_service(open()).layer(layer), &["/v1/read/7", "/files/x"]),
    ] {
        for path in paths {
            let request = Request::get(*path).body(Body::empty()).unwrap();
            let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
            shop::read(answer).await.refuses(402, "l402_payment_required");
        }
        let request = Request::get("/else/read/7").body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
        assert!(matches!(answer.status().as_u16(), 200 | 404));
    }
}

#[tokio::test]
async fn an_invoice_that_would_break_the_header_is_not_sent() {
    use watershed_payments::l402::{Cashier, Issued, L402Layer, PriceTable, RootSecret, Uses};
    #[derive(Clone)]
    struct Hostile(&'static str);
    impl Cashier for Hostile {
        type Error = String;
        async fn invoice(&self, _: watershed_protocol::Msat, _: String, _: u32) -> Result<Issued, String> {
            Ok(Issued { bolt11: self.0.to_owned(), payment_hash: [1; 32] })
        }
        async fn is_paid(&self, _: [u8; 32]) -> Result<bool, String> {
            Ok(false)
        }
    }
    for bolt11 in ["", "lnbc1\", token=\"x", "lnbc1\r\nset-cookie: x", "LNBC1X", "bc1q", "ln\u{e9}"] {
        let prices = PriceTable::new(vec![shop::price("/a", "read", Uses::Unlimited)]).unwrap();
        let secret = RootSecret::from_entropy([1; 32]);
        let layer =
            L402Layer::new(prices, settings(), secret, Hostile(bolt11), MemorySpent::new(1), || START);
        let router = axum::Router::new().route("/a", axum::routing::get(async || "open")).layer(layer);
        let request = axum::http::Request::get("/a").body(axum::body::Body::empty()).unwrap();
        let answer = shop::read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await;
        answer.refuses(503, "l402_cashier_unavailable");
    }
}

/// Every bit of the macaroon's text and of its bytes, and every bit of the preimage.
#[test]
fn a_token_with_any_bit_flipped_is_refused() {
    use base64_of_tests::{decode, encode};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let shop = shop();
        let (macaroon, preimage) = shop.buy("GET", "/read/7").await;
        let bytes = decode(&macaroon);
        assert_eq!(encode(&bytes), macaroon);
        shop.present("GET", "/read/7", &encode(&bytes), &preimage).await.bought("read");
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let answer = shop.present("GET", "/read/7", &encode(&flipped), &preimage).await;
            assert!(matches!(answer.status.as_u16(), 400 | 403), "bit {bit} of byte {at}: {}", answer.body);
        }
        for (at, bit) in (0..macaroon.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut header = format!("L402 {macaroon}:{preimage}").into_bytes();
            header[5 + at] ^= 1 << bit;
            if axum::http::HeaderValue::from_bytes(&header).is_ok() {
                let answer = shop.ask("GET", "/read/7", Some(&header)).await;
                assert!(
                    matches!(answer.status.as_u16(), 400 | 403),
                    "bit {bit} of character {at}: {}",
                    answer.body
                );
            }
        }
        for (at, bit) in (0..32).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = Preimage::parse(&preimage).unwrap().to_bytes();
            flipped[at] ^= 1 << bit;
            let answer = shop.present("GET", "/read/7", &macaroon, &hex::encode(flipped)).await;
            answer.refuses(403, "l402_preimage_wrong");
        }
    });
}

/// Base64 as plainly as it can be written, so that the tests do not trust the library under test.
mod base64_of_tests {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let group =
                three.iter().chain([&0, &0]).take(3).fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
            for n in 0..4 {
                let sextet = (group >> (18 - 6 * n)) as usize & 63;
                text.push(if n <= three.len() { char::from(ALPHABET[sextet]) } else { '=' });
            }
        }
        text
    }

    pub fn decode(text: &str) -> Vec<u8> {
        let sextet = |b: u8| ALPHABET.iter().position(|&a| a == b).unwrap() as u32;
        let digits = text.trim_end_matches('=').as_bytes();
        digits
            .chunks(4)
            .flat_map(|four| {
                let group = four.iter().fold(0, |sum, &b| sum << 6 | sextet(b)) << (6 * (4 - four.len()));
                group.to_be_bytes()[1..four.len()].to_vec()
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_in_the_header_open_a_route_or_break_the_layer(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        shape in 0..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = base64_of_tests::encode(&bytes);
        let header = match shape {
            0 => bytes,
            1 => [b"L402 ", &bytes[..]].concat(),
            2 => format!("L402 {text}:{}", "ab".repeat(32)).into_bytes(),
            // begins like a version 2 macaroon with a location
            _ => format!("L402 {}:{}", base64_of_tests::encode(&[&[2, 1], &bytes[..]].concat()), "ab".repeat(32)).into(),
        };
        if axum::http::HeaderValue::from_bytes(&header).is_ok() {
            let status = runtime.block_on(async { shop().ask("GET", "/read/7", Some(&header)).await.status });
            prop_assert!(matches!(status.as_u16(), 400 | 402 | 403), "{}", status);
        }
    }
}
