//! What a person sees: the run as it goes, `status`, `earnings`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use time::Date;
use watershed_payments::store::{SqliteStore, Store as _};
use watershed_protocol::Msat;
use watershed_protocol::market::view::{MinerView, RunView};

use super::home::Home;
use super::session::{Wallet, lock};

/// The Julian day of 1970-01-01.
const EPOCH: i32 = 2_440_588;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// How often the file for `status` is written.
const EVERY: Duration = Duration::from_secs(1);

/// What `status` shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Status {
    run: String,
    title: String,
    phase: String,
    round: Option<u32>,
    rounds: u32,
    doing: String,
    step: u32,
    steps: u32,
    loss: f32,
    locked: Msat,
    earned_today: Msat,
    earned: Msat,
    accepted: u32,
    rejected: u32,
    at: u64,
}

/// Shows what happens, and keeps it for `status`.
pub(super) struct Reporter {
    path: PathBuf,
    bar: ProgressBar,
    status: Mutex<(Status, Option<Instant>)>,
}

impl Reporter {
    pub(super) fn new(home: &Home, run: &RunView) -> Self {
        let steps = run.spec.inner.steps;
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(u64::from(steps)).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        let status = Status {
            run: run.run.to_string(),
            title: run.title.clone(),
            rounds: run.rounds,
            steps,
            ..Status::default()
        };
        Self { path: home.folder().join("status.json"), bar, status: Mutex::new((status, None)) }
    }

    /// A step was taken.
    pub(super) fn step(&self, round: u32, step: u32, loss: f32) {
        self.bar.set_position(u64::from(step));
        self.bar.set_message(format!("round {}, loss {loss:.4}", round + 1));
        let (status, _) = &mut *lock(&self.status);
        (status.step, status.loss) = (step, loss);
    }

    /// The steps are done.
    pub(super) fn trained(&self) {
        self.bar.reset();
    }

    /// Writes the file for `status`, not too often.
    pub(super) fn show(&self, view: &MinerView, wallet: &Wallet) {
        let (status, written) = &mut *lock(&self.status);
        if written.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *written = Some(Instant::now());
        status.phase.clone_from(&view.phase);
        status.round = view.round.as_ref().map(|r| r.number + 1);
        let work = view.works.iter().rfind(|w| !w.judged);
        status.doing = work.map_or_else(|| "waiting for a task".to_owned(), |w| w.stage.clone());
        let locked = |w: &watershed_protocol::market::view::WorkView| {
            matches!(w.stage.as_str(), "paid" | "confirming" | "locked" | "committed" | "revealed")
        };
        status.locked = work.filter(|w| locked(w)).map(|w| w.assignment.reward).unwrap_or_default();
        (status.accepted, status.rejected) = view.record;
        status.at = now();
        if let Ok(days) = by_day(wallet.store()) {
            status.earned = days.values().fold(Msat::ZERO, |sum, (a, _)| sum.checked_add(*a).unwrap_or(sum));
            status.earned_today = days.get(&(now() / DAY)).map(|(a, _)| *a).unwrap_or_default();
        }
        if let Ok(text) = serde_json::to_vec(status) {
            let partial = self.path.with_extension("partial");
            // Only for `status`; the next second brings another.
            let _ = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &self.path));
        }
    }

    /// Nothing more is shown.
    pub(super) fn leave(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What was earned on each day since 1970, and in how many lots.
fn by_day(store: &SqliteStore) -> Result<BTreeMap<u64, (Msat, u32)>, String> {
    let mut days: BTreeMap<u64, (Msat, u32)> = BTreeMap::new();
    let mut after = 0;
    loop {
        let entries = store.entries(None, after, 1000).map_err(|e| e.to_string())?;
        let Some(last) = entries.last() else { return Ok(days) };
        after = last.number;
        for entry in entries.iter().filter(|e| e.entry.memo().starts_with("earned for ")) {
            let amount = entry.entry.postings().iter().map(|p| p.msat).filter(|m| *m > 0).sum::<i64>();
            let day = days.entry(entry.at / DAY).or_default();
            day.0 = day.0.checked_add(Msat::new(amount.unsigned_abs())).unwrap_or(day.0);
            day.1 += 1;
        }
    }
}

/// A day as people write it.
fn date(day: u64) -> String {
    let date = i32::try_from(day).ok().and_then(|day| Date::from_julian_day(EPOCH + day).ok());
    date.map_or_else(|| format!("day {day}"), |date| date.to_string())
}

pub(super) fn status(home: &Home) -> Result<(), String> {
    let bytes = std::fs::read(home.folder().join("status.json"));
    let bytes =
        bytes.map_err(|_| "no miner has run here yet; start one with `watershed-miner run`".to_owned())?;
    let status: Status = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if home.json {
        println!("{}", serde_json::to_string(&status).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let age = now().saturating_sub(status.at);
    if age > 60 {
        println!("not running; this is {age} seconds old");
    }
    println!("run       {} ({})", status.run, status.title);
    let round = status
        .round
        .map_or_else(|| "between rounds".to_owned(), |r| format!("round {r} of {}", status.rounds));
    println!("phase     {}, {round}", status.phase);
    println!("doing     {}; step {} of {}, loss {:.4}", status.doing, status.step, status.steps, status.loss);
    println!("locked    {}", status.locked);
    println!("earned    {} today, {} in total", status.earned_today, status.earned);
    println!("work      {} accepted, {} rejected", status.accepted, status.rejected);
    Ok(())
}

pub(super) fn earnings(home: &Home) -> Result<(), String> {
    let path = home.wallet().join("payments.sqlite");
    if !path.exists() {
        return Err("there is no wallet here; make one with `watershed-miner init`".to_owned());
    }
    let days = by_day(&SqliteStore::open(&path).map_err(|e| e.to_string())?)?;
    let total = days.values().fold(Msat::ZERO, |sum, (a, _)| sum.checked_add(*a).unwrap_or(sum));
    if home.json {
        let days: Vec<_> = days.iter().map(|(day, (amount, lots))| serde_json::json!({ "day": date(*day), "amount": amount, "lots": lots })).collect();
        println!("{}", serde_json::json!({ "days": days, "total": total }));
        return Ok(());
    }
    for (day, (amount, lots)) in &days {
        println!("{}  {amount} in {lots} lots", date(*day));
    }
    println!("total       {total}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_778), "2026-11-21");
    }
}
