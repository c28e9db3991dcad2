//! `doctor`: everything that mining needs, and what to do about what is missing.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use watershed_commons::client::Client;
use watershed_engine::device::{self, DeviceChoice};
use watershed_engine::selftest;
use watershed_payments::cli::Session;
use watershed_payments::control::{Reply, Request};
use watershed_payments::wallet::ldk::WalletConfig;

use super::home::Home;

/// Free disk below which a run of any size is likely to fail.
const LITTLE: u64 = 4 << 30;

/// One finding.
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    advice: String,
}

fn good(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, ok: true, found: found.into(), advice: String::new() }
}

fn bad(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { what, ok: false, found: found.into(), advice: advice.into() }
}

fn look_at_device(choice: DeviceChoice) -> Vec<Finding> {
    let opened = match device::open(choice) {
        Ok(opened) => opened,
        Err(e) => {
            return vec![bad(
                "device",
                e.to_string(),
                "install the graphics driver with Vulkan, or use --device cpu",
            )];
        }
    };
    let mut findings = Vec::new();
    if opened.is_card {
        findings.push(good("device", opened.name.clone()));
    } else if device::list().iter().any(|d| d.is_card) {
        findings.push(bad("device", opened.name.clone(), "there is a graphics card; use --device gpu"));
    } else {
        findings.push(good(
            "device",
            format!("{} (no graphics card found; a CPU earns too, more slowly)", opened.name),
        ));
    }
    findings.push(match selftest::check(&opened.device) {
        Ok(found) => good("self-test", format!("all {} operations to the bit", found.len())),
        Err(e) => bad(
            "self-test",
            e.to_string(),
            "update the driver, or mine with --device cpu; please report this device",
        ),
    });
    findings
}

/// Free bytes where a folder is, or will be.
fn free(folder: &Path) -> Option<u64> {
    let folder = folder.ancestors().find(|f| f.exists())?;
    let output =
        std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().ok()?;
    String::from_utf8(output.stdout).ok()?.lines().nth(1)?.trim().parse().ok()
}

fn look_at_disk(home: &Home) -> Finding {
    match free(home.folder()) {
        Some(bytes) if bytes >= LITTLE => good("disk", format!("{:.0} GB free", bytes as f64 / 1e9)),
        Some(bytes) => bad(
            "disk",
            format!("{:.1} GB free", bytes as f64 / 1e9),
            "make room, or keep the miner elsewhere with --data",
        ),
        None => bad("disk", "cannot be measured", "see that the folder of --data can be written"),
    }
}

async fn look_at_coordinator(url: Option<&str>) -> Vec<Finding> {
    let Some(url) = url else {
        return vec![bad("coordinator", "none is known", "run `watershed-miner init --coordinator URL`")];
    };
    let info = match Client::new(url) {
        Ok(client) => client.info().await,
        Err(e) => Err(e),
    };
    match info {
        Err(e) => vec![bad(
            "coordinator",
            e.to_string(),
            "check the address and your network; it may also be down for a while",
        )],
        Ok(info) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let apart = now.abs_diff(info.now);
            let clock = if apart <= 5 {
                good("clock", "agrees with the coordinator")
            } else {
                bad(
                    "clock",
                    format!("{apart} seconds from the coordinator's"),
                    "turn on time synchronisation (timedatectl set-ntp true)",
                )
            };
            vec![good("coordinator", format!("{url} on {}", info.network)), clock]
        }
    }
}

async fn look_at_wallet(home: &Home) -> Vec<Finding> {
    if let Err(e) = WalletConfig::load(&home.wallet()) {
        return vec![bad("wallet", e.to_string(), "run `watershed-miner init`")];
    }
    let session = match Session::open(&home.wallet()).await {
        Ok(session) => session,
        Err(e) => {
            return vec![bad(
                "chain",
                e.to_string(),
                "see that the bitcoind, Esplora or Electrum server of wallet.toml answers",
            )];
        }
    };
    let mut findings = vec![good("chain", "the wallet follows it")];
    // A wallet that was just started takes a moment to see its peer.
    let mut channels = 0;
    for _ in 0..10 {
        if let Reply::Ok { value, .. } = session.ask(&Request::Channels { all: false }).await {
            channels =
                value["open"].as_array().map_or(0, |all| all.iter().filter(|c| c["usable"] == true).count());
        }
        if channels > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    findings.push(if channels > 0 {
        good("channel", format!("{channels} usable"))
    } else {
        good("channel", "none yet; the coordinator opens one when you run")
    });
    if let Err(e) = session.close().await {
        findings.push(bad(
            "wallet",
            e.to_string(),
            "try again; if it stays so, look at the files in the wallet's folder",
        ));
    }
    findings
}

/// Looks at everything; an error if something is wrong.
pub(super) async fn examine(home: &Home, url: Option<String>, choice: DeviceChoice) -> Result<(), String> {
    let device =
        tokio::task::spawn_blocking(move || look_at_device(choice)).await.map_err(|e| e.to_string())?;
    let mut findings = device;
    findings.push(look_at_disk(home));
    findings.extend(look_at_coordinator(url.as_deref()).await);
    findings.extend(look_at_wallet(home).await);
    let wrong = findings.iter().filter(|f| !f.ok).count();
    if home.json {
        let all: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "ok": f.ok, "found": f.found, "advice": f.advice }))
            .collect();
        println!("{}", json!({ "findings": all }));
    } else {
        for f in &findings {
            println!("{:<5} {:<12} {}", if f.ok { "ok" } else { "look" }, f.what, f.found);
            if !f.ok {
                println!("{:<18} what to do: {}", "", f.advice);
            }
        }
    }
    match wrong {
        0 => {
            if !home.json {
                println!("all is well: `watershed-miner run`");
            }
            Ok(())
        }
        1 => Err("one thing is missing".to_owned()),
        n => Err(format!("{n} things are missing")),
    }
}
