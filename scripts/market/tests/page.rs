//! The page, in a real browser against a real coordinator, with invoices that are really paid.
#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "sponsors/wallets.rs"]
#[allow(dead_code)] // of the helpers its part
mod wallets;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use wallets::{Party, address_server, another_run, coordinator, phase, world};

const TITLE: &str = "A <img src=x onerror=alert(1)> & <b>run</b>";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and puppeteer-core: `scripts/interop page` runs it"]
async fn a_sponsor_pledges_and_claims_with_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let sponsor = Party::rich(&world, "sponsor", 21, false).await;
    coordinator(&world, &["wallet", "open", &sponsor.address.to_string(), "200000"]).await;
    sponsor.usable(&world, 2).await;
    let run = another_run(&world, TITLE, &[("goal", 12_000_000)]).await;
    let address = address_server(sponsor.money.clone()).await;

    let mut browser = tokio::process::Command::new("node")
        .arg(std::env::var("WATERSHED_PAGE").unwrap())
        .env("WATERSHED_URL", &world.url)
        .env("WATERSHED_TITLE", TITLE)
        .env("WATERSHED_ADDRESS", &address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = browser.stdin.take().unwrap();
    let mut lines = BufReader::new(browser.stdout.take().unwrap()).lines();
    let mut done = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        println!("{line}");
        let said: Value = serde_json::from_str(&line).unwrap();
        let answer = if let Some(invoice) = said["pay"].as_str() {
            sponsor.send(invoice).await;
            json!({})
        } else if said["end"] == true {
            phase(&world, run, "running").await;
            let run_name = run.to_string();
            coordinator(
                &world,
                &["run", "cancel", &run_name, "--reason", "seen", "--coordinator", &world.url],
            )
            .await;
            phase(&world, run, "ended").await;
            json!({ "claim": sponsor.invoice(5_000_000).await })
        } else {
            assert!(said["failed"].is_null(), "{line}");
            done = Some(said);
            break;
        };
        stdin.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
    assert!(done.unwrap()["done"].as_str().unwrap().contains("000"));
    assert!(browser.wait().await.unwrap().success());
    // 7000 by the address, 5000 by the token.
    assert_eq!(sponsor.received().await, 12_000_000);
    sponsor.stop().await;
    world.stop().unwrap();
}
