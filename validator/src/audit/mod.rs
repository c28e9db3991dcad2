//! `audit`: computes everything in a record again. It takes nothing on trust but the key of the log, and even that only to
//! know whom to blame.

mod place;
mod recompute;
mod replay;
mod rulings;

use std::path::{Path, PathBuf};

use watershed_commons::client::Client;
use watershed_commons::log::{Folder, Log, LogError, LogVerifier, Source};
use watershed_commons::record::{RecordFault, Runs};
use watershed_engine::device::{self, DeviceChoice};
use watershed_protocol::market::Entry;
use watershed_protocol::{RunId, decode};
use watershed_shards::library::Store;

use place::{Place, Web};
use recompute::Recomputed;

/// What is audited, and how far.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// A coordinator's URL, or a copy of its folder (with `log` and `blobs`)
    target: String,
    /// Key of the log, as a C2SP verifier [default: what the coordinator says; then only its own word binds it]
    #[arg(long, value_name = "VKEY")]
    key: Option<LogVerifier>,
    /// Share of the miners whose whole work is done again, in percent
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    replay: u32,
    /// Library with the shard sets [default: they are downloaded]
    #[arg(long, env = "WATERSHED_LIBRARY", value_name = "DIR")]
    library: Option<PathBuf>,
    /// Signatures, order, receipts and sums only: nothing is computed again
    #[arg(long)]
    record_only: bool,
    /// The device: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Print one JSON value on standard output
    #[arg(long)]
    json: bool,
}

/// What ends an audit early.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("entry {index}{by}: {fault}")]
    Record { index: u64, by: String, fault: RecordFault },
}

/// Who signed what is wrong.
fn blame(bytes: &[u8]) -> String {
    match decode::<Entry>(bytes) {
        Ok(Entry::Message { envelope }) => format!(", signed by {}", envelope.claimed_signer()),
        Ok(_) => ", signed by the coordinator".to_owned(),
        Err(_) => String::new(),
    }
}

fn follow<S: Source>(log: &Log<S>) -> Result<Runs, Stopped> {
    let mut runs = Runs::default();
    let mut each = |index: u64, bytes: &[u8]| {
        runs.follow(bytes).map_err(|fault| Stopped::Record { index, by: blame(bytes), fault })
    };
    log.verify_entries::<Stopped>(&mut each)?;
    Ok(runs)
}

pub(crate) fn audit(args: &AuditArgs) -> Result<(), String> {
    let runtime = crate::runtime()?;
    let web = args.target.starts_with("http://") || args.target.starts_with("https://");
    let (runs, size, place) = if web {
        let client = Client::new(&args.target).map_err(|e| e.to_string())?;
        let verifier = match &args.key {
            Some(key) => key.clone(),
            None => {
                let info = runtime.block_on(client.info()).map_err(|e| e.to_string())?;
                info.log.parse().map_err(|e| format!("the log's key: {e}"))?
            }
        };
        let source = Web { client: client.clone(), runtime: runtime.handle().clone() };
        let log = Log::open(source, &verifier).map_err(|e| e.to_string())?;
        let runs = follow(&log).map_err(|e| e.to_string())?;
        (runs, log.size(), Place::Web(Web { client, runtime: runtime.handle().clone() }))
    } else {
        let folder = PathBuf::from(&args.target);
        let verifier = match &args.key {
            Some(key) => key.clone(),
            None => {
                let path = folder.join("log.vkey");
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| format!("{}: {e}; give --key", path.display()))?;
                text.trim().parse().map_err(|e| format!("the log's key: {e}"))?
            }
        };
        let log = Log::open(Folder(folder.join("log")), &verifier).map_err(|e| e.to_string())?;
        let runs = follow(&log).map_err(|e| e.to_string())?;
        (runs, log.size(), Place::Folder(folder))
    };
    eprintln!("{size} entries: signatures, order, windows, secrets, receipts and sums hold");
    let mut done = Recomputed::default();
    if !args.record_only {
        let opened = device::open(args.device).map_err(|e| e.to_string())?;
        for (id, told) in &runs.runs {
            let made = library(args, &place, *id, told)?;
            let store = Store::new(
                made.as_ref().map_or_else(|| args.library.as_deref().unwrap_or(Path::new(".")), |d| d.path()),
            );
            done.run(*id, told, &store, &opened, &place, args.replay)?;
        }
    }
    let unrecorded: u64 =
        runs.runs.values().flat_map(|r| r.works.values()).map(|w| w.unrecorded().msat()).sum();
    let joined: usize = runs.runs.values().map(|r| r.joined.len()).sum();
    let refunds: usize = runs.runs.values().map(|r| r.refunds.len()).sum();
    if args.json {
        let value = serde_json::json!({
            "sound": true, "entries": size, "runs": runs.runs.len(), "checkpoints": done.checkpoints,
            "verdicts": done.verdicts, "rulings": done.rulings, "replayed": done.replayed, "unrecorded_msat": unrecorded,
            "joining_fees": joined, "refunds": refunds,
        });
        println!("{value}");
        return Ok(());
    }
    if unrecorded > 0 {
        println!("{unrecorded} msat were paid by verdicts that came too late for the record");
    }
    for (validator, run) in
        runs.runs.iter().flat_map(|(run, told)| told.overruled.iter().map(move |v| (v, run)))
    {
        println!("a false verdict was signed by {validator} in run {run}, and was overruled");
    }
    if joined + refunds > 0 {
        println!("{joined} joining fees, {refunds} payments back to sponsors");
    }
    println!(
        "sound: {size} entries, {} runs; computed again: {} checkpoints, {} verdicts, {} rulings, {} assignments in full",
        runs.runs.len(),
        done.checkpoints,
        done.verdicts,
        done.rulings,
        done.replayed
    );
    Ok(())
}

/// Downloads a run's shard set, if no library was given.
fn library(
    args: &AuditArgs,
    place: &Place,
    run: RunId,
    told: &watershed_commons::record::RunTold,
) -> Result<Option<tempfile::TempDir>, String> {
    if args.library.is_some() {
        return Ok(None);
    }
    let Place::Web(web) = place else {
        return Err("say where the shard sets are with --library DIR, or use --record-only".to_owned());
    };
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let store = Store::new(dir.path());
    web.runtime.block_on(crate::session::fetch(&web.client, run, &store, &told.spec))?;
    Ok(Some(dir))
}
