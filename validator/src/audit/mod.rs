//! `audit`: computes everything in a record again. It takes nothing on trust but the key of the log, and even that only to
//! know whom to blame.

mod attribution;
mod draw;
mod fault;
mod place;
mod promise;
mod recompute;
mod replay;
mod rulings;
mod text;

use std::path::PathBuf;

use watershed_commons::client::{Client, WebLog};
use watershed_commons::log::{Folder, Log, LogVerifier, PinError, Pins, Source};
use watershed_commons::record::Runs;
use watershed_engine::device::{self, DeviceChoice, OpenDevice};
use watershed_protocol::RunId;
use watershed_shards::library::Store;

use attribution::Attributed;
use draw::Drawn;
use fault::{Fault, blame, unable};
use place::Place;
use promise::{Kept, Promises};
use recompute::Recomputed;

/// What is audited, and how far.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// A coordinator's URL, or a copy of its folder (with `log` and `blobs`)
    target: String,
    /// Key of the log, as a C2SP verifier [default: what the coordinator says; then only its own word binds it]
    #[arg(long, value_name = "VKEY")]
    key: Option<LogVerifier>,
    /// Share of the assignments whose whole work is done again, in percent, drawn by this machine's own randomness
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    replay: u32,
    /// Draw the same assignments as an audit that printed this seed
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Folder that keeps the last checkpoint of every log, so that a history that is rewritten is noticed [default:
    /// watershed/audit in your data folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Library with the shard sets [default: the record's blobs]
    #[arg(long, env = "WATERSHED_LIBRARY", value_name = "DIR")]
    library: Option<PathBuf>,
    /// Write here, as JSON, which deposits every assignment read, with their tokens
    #[arg(long, value_name = "FILE")]
    attribution: Option<PathBuf>,
    /// What the coordinator signed when it took a message, or a folder of that (a miner keeps it as runs/RUN/promises): every
    /// message must be in the record
    #[arg(long, value_name = "PATH")]
    promise: Vec<PathBuf>,
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

/// What an audit found to be as it should.
struct Sound {
    entries: u64,
    promises: Kept,
    runs: Runs,
    done: Recomputed,
    drawn: Drawn,
    attributed: Vec<Attributed>,
}

/// What the whole log says, and which promises it keeps.
fn follow<S: Source>(args: &AuditArgs, log: &Log<S>) -> Result<(Runs, Kept), Fault> {
    let mut runs = Runs::default();
    let mut promises = Promises::read(&args.promise)?;
    let mut each = |index: u64, bytes: &[u8]| {
        promises.look(bytes);
        runs.follow(bytes).map_err(|fault| Fault::Record { index, by: blame(bytes), fault })
    };
    log.verify_entries::<Fault>(&mut each)?;
    let kept = promises.kept(&runs, log.checkpoint())?;
    Ok((runs, kept))
}

/// Where what was seen before is kept.
fn state(args: &AuditArgs) -> Result<PathBuf, Fault> {
    if let Some(state) = &args.state {
        return Ok(state.clone());
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    let base =
        base.ok_or_else(|| unable("there is no home folder; say where to keep what was seen with --state"));
    Ok(base?.join("watershed/audit"))
}

/// Whether it is the log that an audit saw before on this machine.
fn seen<S: Source>(args: &AuditArgs, log: &Log<S>, verifier: &LogVerifier) -> Result<(), Fault> {
    match Pins::new(&state(args)?).check(log, verifier) {
        Ok(0) => Ok(()),
        Ok(before) => {
            eprintln!("it begins with the {before} entries that were seen before");
            Ok(())
        }
        Err(e) if e.is_fault() => Err(Fault::Rewritten(e.to_string())),
        Err(PinError::Log(e)) => Err(e.into()),
        Err(e) => Err(unable(e)),
    }
}

/// Reads the whole log, from wherever it is.
fn read(args: &AuditArgs, runtime: &tokio::runtime::Runtime) -> Result<((Runs, Kept), u64, Place), Fault> {
    if args.target.starts_with("http://") || args.target.starts_with("https://") {
        let client = Client::new(&args.target).map_err(unable)?;
        let verifier = match &args.key {
            Some(key) => key.clone(),
            None => {
                let info = runtime.block_on(client.info()).map_err(unable)?;
                info.log.parse().map_err(|e| unable(format!("the log's key: {e}")))?
            }
        };
        let web = WebLog::new(&client, runtime.handle());
        let log = Log::open(web.clone(), &verifier)?;
        seen(args, &log, &verifier)?;
        return Ok((follow(args, &log)?, log.size(), Place::Web(web)));
    }
    let folder = PathBuf::from(&args.target);
    let verifier = match &args.key {
        Some(key) => key.clone(),
        None => {
            let path = folder.join("log.vkey");
            let text = std::fs::read_to_string(&path)
                .map_err(|e| unable(format!("{}: {e}; give --key", path.display())))?;
            text.trim().parse().map_err(|e| unable(format!("the log's key: {e}")))?
        }
    };
    let log = Log::open(Folder(folder.join("log")), &verifier)?;
    seen(args, &log, &verifier)?;
    Ok((follow(args, &log)?, log.size(), Place::Folder(folder)))
}

/// Whether a coordinator that serves its record keeps no sponsors' money beyond its time. A copy may be old, and says nothing.
fn paid_back(runs: &Runs, now: u64) -> Result<(), Fault> {
    match runs.runs.iter().find(|(_, told)| told.is_overdue(now)) {
        Some((run, told)) => Err(Fault::Overdue { run: *run, coordinator: told.coordinator }),
        None => Ok(()),
    }
}

fn examine(args: &AuditArgs) -> Result<Sound, Fault> {
    let runtime = crate::runtime().map_err(unable)?;
    let ((runs, promises), entries, place) = read(args, &runtime)?;
    eprintln!("{entries} entries: signatures, order, windows, secrets, receipts and sums hold");
    if matches!(place, Place::Web(_)) {
        paid_back(&runs, crate::session::now())?;
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => draw::seed().map_err(unable)?,
    };
    let drawn = Drawn::draw(&runs, args.replay, seed);
    drawn.show();
    let mut sound =
        Sound { entries, promises, runs, done: Recomputed::default(), drawn, attributed: Vec::new() };
    if args.record_only && args.attribution.is_none() {
        return Ok(sound);
    }
    let opened = match args.record_only {
        true => None,
        false => Some(device::open(args.device).map_err(unable)?),
    };
    for id in sound.runs.runs.keys().copied().collect::<Vec<_>>() {
        sound.run(args, id, opened.as_ref(), &place)?;
    }
    Ok(sound)
}

impl Sound {
    /// Text, windows and, with a device, all arithmetic of one run.
    fn run(
        &mut self,
        args: &AuditArgs,
        id: RunId,
        device: Option<&OpenDevice>,
        place: &Place,
    ) -> Result<(), Fault> {
        let Some(told) = self.runs.runs.get(&id) else { return Ok(()) };
        let made = tempfile::tempdir().map_err(unable)?;
        let proofs_made = tempfile::tempdir().map_err(unable)?;
        let store = Store::new(args.library.as_deref().unwrap_or(made.path()));
        let Some(set) = text::open(place, told, &store)? else { return Ok(()) };
        let proofs = Store::new(proofs_made.path());
        let snapshot = text::proofs(place, told, &set, &proofs)?;
        let attributed = attribution::attribute(id, told, &set, snapshot.as_ref(), &proofs)?;
        eprintln!("{}", attributed.line());
        self.attributed.push(attributed);
        match device {
            Some(device) => self.done.run(id, told, &store, device, place, &self.drawn),
            None => Ok(()),
        }
    }

    fn unrecorded(&self) -> u64 {
        self.runs.runs.values().flat_map(|r| r.works.values()).map(|w| w.unrecorded().msat()).sum()
    }

    fn joined(&self) -> usize {
        self.runs.runs.values().map(|r| r.joined.len()).sum()
    }

    fn refunds(&self) -> usize {
        self.runs.runs.values().map(|r| r.refunds.len()).sum()
    }

    fn json(self) -> serde_json::Value {
        let unrecorded = self.unrecorded();
        let (joined, refunds) = (self.joined(), self.refunds());
        let attributed: Vec<Attributed> = self.attributed.into_iter().map(Attributed::brief).collect();
        serde_json::json!({
            "sound": true, "entries": self.entries, "runs": self.runs.runs.len(),
            "checkpoints": self.done.checkpoints, "verdicts": self.done.verdicts, "rulings": self.done.rulings,
            "promises_kept": self.promises.kept, "promises_open": self.promises.open, "joining_fees": joined, "refunds": refunds,
            "replayed": self.done.replayed, "replay_seed": self.drawn.seed(),
            "drawn": self.drawn.assignments(), "unrecorded_msat": unrecorded, "attribution": attributed,
        })
    }

    fn show(&self) {
        let unrecorded = self.unrecorded();
        if unrecorded > 0 {
            println!("{unrecorded} msat were paid by verdicts that came too late for the record");
        }
        for (run, told) in &self.runs.runs {
            for validator in &told.overruled {
                println!("a false verdict was signed by {validator} in run {run}, and was overruled");
            }
        }
        let (joined, refunds) = (self.joined(), self.refunds());
        if joined + refunds > 0 {
            println!("{joined} joining fees, {refunds} payments back to sponsors");
        }
        let Kept { kept, open } = self.promises;
        if kept > 0 {
            println!("{kept} promises of the coordinator were kept");
        }
        if open > 0 {
            println!(
                "{open} promises are younger than {} s and not in the record yet; ask again",
                promise::TIME
            );
        }
        println!(
            "sound: {} entries, {} runs; computed again: {} checkpoints, {} verdicts, {} rulings, {} assignments in full",
            self.entries,
            self.runs.runs.len(),
            self.done.checkpoints,
            self.done.verdicts,
            self.done.rulings,
            self.done.replayed
        );
    }
}

pub(crate) fn audit(args: &AuditArgs) -> Result<(), String> {
    let sound = match examine(args) {
        Ok(sound) => sound,
        Err(fault) => {
            if args.json {
                let (kind, message) = (fault.kind(), fault.to_string());
                println!("{}", serde_json::json!({ "sound": false, "kind": kind, "message": message }));
            }
            return Err(fault.to_string());
        }
    };
    if let Some(path) = &args.attribution {
        let text = serde_json::to_vec_pretty(&sound.attributed).map_err(|e| e.to_string())?;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        eprintln!("{} says which deposits every assignment read", path.display());
    }
    if args.json {
        println!("{}", sound.json());
    } else {
        sound.show();
    }
    Ok(())
}
