//! Many simulated miners and two validators against one real coordinator: `cargo bench --workspace --bench miners`. HTTP,
//! journal, blobs, public log and outer steps are real; money is simulated, and nobody trains or checks. The coordinator is a
//! process of its own, so its memory and processor time are its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod coordinator;
mod parties;
mod setup;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coordinator::clock;
use parties::{Measured, World};
use setup::{Failed, Trained, VALIDATORS};
use watershed_commons::client::Client;
use watershed_protocol::Envelope;
use watershed_protocol::market::Command as Order;
use watershed_shards::library::Store;

const MINERS: [u32; 3] = [10, 100, 1000];
const ROUNDS: u32 = 3;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [role, folder] = arguments.as_slice()
        && role == "coordinator"
    {
        return runtime.block_on(coordinator::serve(Path::new(folder)));
    }
    let chosen: Vec<u32> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let counts = if chosen.is_empty() { MINERS.to_vec() } else { chosen };
    let mut results = Vec::new();
    for miners in counts {
        results.push((miners, runtime.block_on(market(miners))?));
    }
    print(&results);
    Ok(())
}

/// What one market came to, by name, in the order of the table.
type Figures = Vec<(&'static str, f64)>;

/// A coordinator that is stopped with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Process {
    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Seconds of the processor; the kernel counts them in hundredths.
    fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let after = stat.rsplit(')').next().unwrap();
        let fields: Vec<f64> =
            after.split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
        fields.iter().sum::<f64>() / 100.0
    }
}

/// Beginnings of stages, as the coordinator tells them.
type Stages = Arc<Mutex<BTreeMap<String, u64>>>;

fn start(folder: &Path) -> Result<(Process, String, Stages), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("coordinator")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let parsed = |line: String| {
        let (name, at) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), at.parse::<u64>().unwrap())
    };
    let (mut url, stages) = (String::new(), Stages::default());
    while !url.starts_with("http") {
        url = parsed(lines.next().ok_or("the coordinator does not start")??).0;
    }
    let told = Arc::clone(&stages);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let (name, at) = parsed(line);
            told.lock().unwrap().entry(name).or_insert(at);
        }
    });
    Ok((process, url.split(' ').next().unwrap_or_default().to_owned(), stages))
}

async fn market(miners: u32) -> Result<Figures, Failed> {
    let folder = tempfile::tempdir()?;
    let spec = setup::spec(miners, ROUNDS, setup::library(folder.path())?)?;
    let trained = Trained::new(&spec, &Store::new(&folder.path().join("library")))?;
    let mut submissions = BTreeMap::new();
    for miner in 0..miners {
        for round in 0..ROUNDS {
            submissions.insert((miner, round), trained.submission(miner, round)?);
        }
    }
    let (process, url, stages) = start(folder.path())?;
    let client = Client::new(&url)?;
    let key = setup::key("coordinator", 0);
    let opened = client.command(&Order::Open { spec: Envelope::sign(&spec, &key)? }, &key).await?;
    while client.run(opened.run).await?.phase != "running" {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let measured = Arc::new(Measured::default());
    let world = World {
        client: client.clone(),
        run: opened.run,
        tiers: spec.reward.tiers,
        measured: Arc::clone(&measured),
        trained: Arc::new(trained),
        submissions: Arc::new(submissions),
    };
    let (at_start, used) = (process.memory("VmRSS"), process.processor());
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for validator in 0..VALIDATORS {
        tasks.spawn(parties::validator(world.clone(), validator));
    }
    for miner in 0..miners {
        tasks.spawn(parties::miner(world.clone(), miner));
    }
    let progress = async {
        let mut shown = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let stages = stages.lock().unwrap();
            if stages.len() != shown {
                shown = stages.len();
                let newest = stages.iter().max_by_key(|(_, at)| **at).map(|(name, _)| name.as_str());
                eprintln!(
                    "{miners} miners, {:.0} s: {}, {:.0} MiB",
                    began.elapsed().as_secs_f64(),
                    newest.unwrap_or_default(),
                    process.memory("VmRSS")
                );
            }
        }
    };
    tokio::select! {
        () = progress => {}
        () = async { while tasks.join_next().await.is_some() {} } => {}
    }
    let seconds = began.elapsed().as_secs_f64();
    let used = process.processor() - used;
    let (peak, at_end) = (process.memory("VmHWM"), process.memory("VmRSS"));
    let view = client.run(opened.run).await?;
    let (accepted, steps) = (view.sums.accepted, view.checkpoints.len());
    drop(process);
    for (error, times) in measured.errors.lock().unwrap().iter() {
        eprintln!("{miners} miners: {times} times {error}");
    }
    if accepted != miners * ROUNDS || steps != ROUNDS as usize + 1 {
        return Err(format!("{accepted} submissions were accepted, {steps} checkpoints made").into());
    }
    let journal = rusqlite::Connection::open(folder.path().join("coordinator.sqlite"))?;
    journal.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    drop(journal);
    let journal = std::fs::metadata(folder.path().join("coordinator.sqlite"))?.len() as f64;

    let stages = stages.lock().unwrap();
    let at = |name: String| stages.get(&name).copied().ok_or_else(|| format!("nobody told of {name}"));
    let mut rounds = 0.0;
    for round in 0..ROUNDS {
        let end = at(if round + 1 < ROUNDS {
            format!("locking {}", round + 1)
        } else {
            format!("stepping {round}")
        })?;
        rounds += (end - at(format!("locking {round}"))?) as f64 / 1e9;
    }
    let news = measured.seen.lock().unwrap();
    let news = news.iter().filter_map(|(name, seen)| Some(seen.saturating_sub(*stages.get(name)?) / 1000));
    let mut took = measured.took.lock().unwrap();
    took.insert("news", news.collect());
    let requests =
        took.iter().filter(|(kind, _)| **kind != "news").map(|(_, t)| t.len()).sum::<usize>() as f64;
    let percentile = |kind: &str, part: f64| {
        let mut all = took.get(kind).cloned().unwrap_or_default();
        all.sort_unstable();
        all.get(((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1)))
            .map_or(f64::NAN, |t| *t as f64 / 1e3)
    };
    let each = f64::from(accepted);
    eprintln!("{miners} miners: done in {seconds:.1} s at {}", clock() / 1_000_000_000);
    Ok(vec![
        ("round, s", rounds / f64::from(ROUNDS)),
        ("requests per assignment", requests / each),
        ("requests/s", requests / seconds),
        ("validators' views in all", took.get("validator's view").map_or(0.0, |t| t.len() as f64)),
        ("message, p50, ms", percentile("message", 0.5)),
        ("message, p99, ms", percentile("message", 0.99)),
        ("upload, p50, ms", percentile("upload", 0.5)),
        ("upload, p99, ms", percentile("upload", 0.99)),
        ("download, p50, ms", percentile("download", 0.5)),
        ("download, p99, ms", percentile("download", 0.99)),
        ("news, p50, ms", percentile("news", 0.5)),
        ("news, p99, ms", percentile("news", 0.99)),
        ("processor per assignment, ms", used / each * 1e3),
        ("journal per assignment, KiB", journal / each / 1024.0),
        ("memory before, MiB", at_start),
        ("memory, peak, MiB", peak),
        ("memory, end, MiB", at_end),
    ])
}

fn print(results: &[(u32, Figures)]) {
    print!("| {:<30} |", "miners");
    for (miners, _) in results {
        print!(" {miners:>9} |");
    }
    for pair in results.windows(2) {
        print!(" {:>9} |", format!("{}/{}", pair[1].0, pair[0].0));
    }
    println!("\n|---{}", "|---".repeat(2 * results.len() - 1) + "|");
    let Some((_, first)) = results.first() else { return };
    for (row, (name, _)) in first.iter().enumerate() {
        print!("| {name:<30} |");
        for (_, figures) in results {
            print!(" {:>9.1} |", figures[row].1);
        }
        for pair in results.windows(2) {
            print!(" {:>9.2} |", pair[1].1[row].1 / pair[0].1[row].1);
        }
        println!();
    }
}
