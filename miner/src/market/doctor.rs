//! `doctor`: everything that mining needs, and what to do about what is missing.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use watershed_commons::client::Client;
use watershed_engine::device::{self, DeviceChoice};
use watershed_engine::selftest;
use watershed_payments::cli::Session;
use watershed_payments::control::{Reply, Request};
use watershed_payments::wallet::ldk::{ChainSource, WalletConfig};
use watershed_payments::wallet::{ChainTrouble, ChainView, WalletError};
use watershed_protocol::market::view::{InfoView, RunView, WaitView};
use watershed_protocol::{Msat, PublicKey, told};

use super::choice::{Knows, choose, untrainable};
use super::home::Home;
use crate::disk;

/// Free disk below which a run of any size is likely to fail.
const LITTLE: u64 = 4 << 30;

/// How often the wallet is asked how far it is, twice a second: LDK Node asks its bitcoind every two seconds.
const CHAIN_LOOKS: u32 = 20;

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

/// Disk that a run takes besides the states between steps: checkpoints, what is carried, the newest state, the text's shards.
fn needed(run: &RunView) -> u64 {
    run.spec.model.parameters().unwrap_or_default().saturating_mul(40).saturating_add(LITTLE)
}

fn look_at_disk(home: &Home, run: Option<&RunView>) -> Finding {
    let wanted = run.map_or(LITTLE, needed);
    match disk::free(home.folder()) {
        Some(bytes) if bytes >= wanted => good("disk", format!("{:.0} GB free", bytes as f64 / 1e9)),
        Some(bytes) => bad(
            "disk",
            format!("{:.1} GB free; this run wants {:.1}", bytes as f64 / 1e9, wanted as f64 / 1e9),
            "make room, or keep the miner elsewhere with --data",
        ),
        None => bad("disk", "cannot be measured", "see that the folder of --data can be written"),
    }
}

/// The run that would be worked for, unless one that closes waits for this miner.
fn look_at_work(runs: &[RunView], chosen: Option<&RunView>, key: Option<PublicKey>) -> Finding {
    let waits = |r: &&RunView| {
        key.is_some_and(|key| r.phase == "closing" && r.waits_for.iter().any(|w| w.keys.contains(&key)))
    };
    if let Some(run) = runs.iter().find(waits) {
        return bad(
            "work",
            format!(
                "{} ({}) closes and waits for this miner: a reward of it is still locked",
                run.title, run.run
            ),
            "run `watershed-miner run`: it first takes there what is earned, and gives back the rest",
        );
    }
    let left_out: Vec<String> = untrainable(runs)
        .map(|(run, fault)| format!("; {run} is left out, nobody can train it: {fault}"))
        .collect();
    let left_out = left_out.concat();
    match chosen {
        Some(run) => {
            let waits = match WaitView::sentence(&run.waits_for) {
                none if none.is_empty() => String::new(),
                waits => format!(", waits for {waits}"),
            };
            good("work", format!("{} ({}), {}{waits}{left_out}", run.title, run.run, run.phase))
        }
        None => good("work", format!("no run at the moment; `run` waits for one{left_out}")),
    }
}

/// What the coordinator says of itself, and the run that would be worked for.
async fn look_at_coordinator(
    url: Option<&str>,
    key: Option<PublicKey>,
) -> (Vec<Finding>, Option<InfoView>, Option<RunView>) {
    let Some(url) = url else {
        let none = bad("coordinator", "none is known", "run `watershed-miner init --coordinator URL`");
        return (vec![none], None, None);
    };
    let answered = match Client::new(url) {
        Ok(client) => match client.info().await {
            Ok(info) => client.runs().await.map(|runs| (info, runs)),
            Err(e) => Err(e),
        },
        Err(e) => Err(e),
    };
    match answered {
        Err(e) => {
            let away = bad(
                "coordinator",
                e.to_string(),
                "check the address and your network; it may also be down for a while",
            );
            (vec![away], None, None)
        }
        Ok((info, runs)) => {
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
            let knows = Knows {
                named: None,
                min_price: Msat::ZERO,
                unfinished: &|_| false,
                passed: &BTreeSet::new(),
            };
            let run = choose(&runs, &knows).map(|(run, _)| run.clone());
            let work = look_at_work(&runs, run.as_ref(), key);
            let found = vec![good("coordinator", format!("{url} on {}", info.network)), clock, work];
            (found, Some(info), run)
        }
    }
}

/// Whether others can reach an address, as far as that can be told from here.
fn look_at_address(listen: Option<&String>, local: bool) -> Finding {
    let advice = "run `watershed-miner init --listen HOST:PORT` in a new folder, or change `listen` in wallet.toml: an \
                  address that the coordinator reaches, with the port forwarded to this machine";
    let Some(listen) = listen else { return bad("address", "the wallet listens nowhere", advice) };
    let found: Vec<IpAddr> = match listen.to_socket_addrs() {
        Ok(found) => found.map(|a| a.ip()).collect(),
        Err(e) => return bad("address", format!("{listen}: {e}"), advice),
    };
    let private = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local(),
    };
    if !local && found.iter().all(private) {
        return bad("address", format!("{listen} is reachable from this machine or network only"), advice);
    }
    good("address", format!("{listen}, where the coordinator calls this node"))
}

/// Whether the wallet sees what its bitcoind has. One that was away takes a moment to read the blocks.
async fn look_at_chain(session: &Session, config: &WalletConfig) -> Finding {
    let (network, asked) = (config.network, matches!(config.chain, ChainSource::Bitcoind { .. }));
    let mut first = None;
    let mut trouble = ChainTrouble::Silent { seconds: u64::from(CHAIN_LOOKS / 2) };
    for _ in 0..CHAIN_LOOKS {
        let Reply::Ok { value, .. } = session.ask(&Request::Show).await else { break };
        let Ok(ChainView { tip, source, .. }) = serde_json::from_value(value) else { break };
        match source {
            None if asked => {}
            Some(bitcoind) if bitcoind != tip => {
                if tip > *first.get_or_insert(tip) {
                    return good(
                        "chain",
                        format!("the wallet catches up with {network}: block {tip} of {bitcoind}"),
                    );
                }
                trouble = ChainTrouble::Lost { tip, bitcoind };
            }
            _ => return good("chain", format!("the wallet follows {network}, at block {tip}")),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    bad("chain", trouble.to_string(), trouble.advice())
}

/// Why the wallet does not start, under the name of what is wrong.
fn wallet_trouble(e: &(dyn Error + Send + Sync + 'static)) -> Finding {
    let source = "see that the bitcoind, Esplora or Electrum server of wallet.toml answers, and is of the wallet's network";
    let (what, advice) = match e.downcast_ref::<WalletError>() {
        Some(WalletError::Source(_) | WalletError::Chain(_) | WalletError::Start { .. }) => ("chain", source),
        Some(WalletError::Listen { .. }) => {
            ("address", "change `listen` and `announce` in the wallet's wallet.toml")
        }
        _ => ("wallet", "do what it says, and look again"),
    };
    bad(what, told(e), advice)
}

async fn look_at_wallet(home: &Home, info: Option<&InfoView>) -> Vec<Finding> {
    let config = match WalletConfig::load(&home.wallet()) {
        Ok(config) => config,
        Err(e) => return vec![bad("wallet", e.to_string(), "run `watershed-miner init`")],
    };
    let network = config.network.to_string();
    let mut findings = Vec::new();
    if let Some(other) = info.map(|i| i.network.as_str()).filter(|n| *n != network) {
        findings.push(bad(
            "network",
            format!("this wallet is on {network}, the coordinator on {other}"),
            "make a wallet for that network: `watershed-miner init` with another --data",
        ));
    }
    findings.push(look_at_address(config.reached_at(), network == "regtest"));
    let session = match Session::open(&home.wallet()).await {
        Ok(session) => session,
        Err(e) => {
            findings.push(wallet_trouble(&*e));
            return findings;
        }
    };
    findings.push(look_at_chain(&session, &config).await);
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
    let (coordinator, info, run) = look_at_coordinator(url.as_deref(), home.known_by()).await;
    findings.push(look_at_disk(home, run.as_ref()));
    findings.extend(coordinator);
    findings.extend(look_at_wallet(home, info.as_ref()).await);
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

#[cfg(test)]
mod tests {
    use watershed_protocol::SecretKey;

    use super::*;
    use crate::market::tests::view;

    #[test]
    fn a_miner_that_a_closing_run_waits_for_is_told_so() {
        let key = |byte| SecretKey::from_entropy([byte; 32]).unwrap().public();
        let wait = WaitView { what: "rewards".to_owned(), text: String::new(), keys: vec![key(1)] };
        let (closing, running) =
            (RunView { waits_for: vec![wait], ..view(1, "closing") }, view(2, "running"));
        let runs = [closing, running.clone()];
        let told = look_at_work(&runs, Some(&running), Some(key(1)));
        assert!(!told.ok && told.found.contains(&runs[0].run.to_string()), "{}", told.found);
        for other in [Some(key(2)), None] {
            let told = look_at_work(&runs, Some(&running), other);
            assert!(told.ok && told.found.contains(&running.run.to_string()), "{}", told.found);
        }
    }

    #[test]
    fn what_keeps_a_wallet_from_starting_is_found_under_its_own_name() {
        use watershed_payments::wallet::ListenTrouble;
        let listen = WalletError::Listen { address: "h:1".to_owned(), why: ListenTrouble::InUse };
        let chain = WalletError::Chain(ChainTrouble::Silent { seconds: 20 });
        let copy = WalletError::OldCopy { folder: "x".into(), why: "y".to_owned() };
        for (e, what) in [(listen, "address"), (chain, "chain"), (copy, "wallet")] {
            let found = wallet_trouble(&e);
            assert!(!found.ok && found.what == what, "{}: {}", found.what, found.found);
        }
    }

    #[test]
    fn an_address_that_nobody_else_reaches_is_found() {
        let look = |listen: &str, local| look_at_address(Some(&listen.to_owned()), local).ok;
        assert!(look("127.0.0.1:9736", true));
        assert!(!look("127.0.0.1:9736", false));
        assert!(!look("192.168.1.20:9736", false));
        assert!(!look("[::1]:9736", false));
        assert!(look("203.0.113.7:9736", false));
        assert!(!look("no port", true));
        assert!(!look_at_address(None, true).ok);
    }
}
