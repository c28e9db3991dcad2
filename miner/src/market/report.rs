//! What a person sees: the run as it goes, `status`, `earnings`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::Date;
use watershed_payments::store::{SqliteStore, Store as _};
use watershed_protocol::Msat;
use watershed_protocol::market::view::{MinerView, RunView};

use super::home::Home;
use super::session::lock;

/// The Julian day of 1970-01-01.
const EPOCH: i32 = 2_440_588;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// How often the file for `status` is written.
const EVERY: Duration = Duration::from_secs(1);

/// What a miner that runs leaves for `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    run: String,
    title: String,
    phase: String,
    round: Option<u32>,
    rounds: u32,
    doing: String,
    /// Steps taken of the assignment under way, and the loss before the last of them; none while nothing is trained.
    step: Option<(u32, f32)>,
    steps: u32,
    locked: Msat,
    #[serde(default)]
    held_back: Msat,
    accepted: u32,
    rejected: u32,
    at: u64,
}

fn path(home: &Home) -> PathBuf {
    home.folder().join("status.json")
}

fn read(home: &Home) -> Option<Status> {
    serde_json::from_slice(&std::fs::read(path(home)).ok()?).ok()
}

fn write(path: &Path, status: &Status) {
    if let Ok(text) = serde_json::to_vec(status) {
        let partial = path.with_extension("partial");
        // Only for `status`; the next second brings another.
        let _ = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    }
}

/// Leaves what a miner does that works for no run just now.
pub(super) fn note(home: &Home, doing: &str) {
    let before = read(home).unwrap_or_default();
    let status = Status { doing: doing.to_owned(), round: None, step: None, at: now(), ..before };
    write(&path(home), &status);
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
            phase: run.phase.clone(),
            doing: "joining".to_owned(),
            at: now(),
            ..Status::default()
        };
        let path = path(home);
        write(&path, &status);
        Self { path, bar, status: Mutex::new((status, None)) }
    }

    /// A step was taken.
    pub(super) fn step(&self, round: u32, step: u32, loss: f32) {
        self.bar.set_position(u64::from(step));
        self.bar.set_message(format!("round {round}, loss {loss:.4}"));
        let (status, _) = &mut *lock(&self.status);
        status.step = Some((step, loss));
    }

    /// The steps are done.
    pub(super) fn trained(&self) {
        self.bar.reset();
        lock(&self.status).0.step = None;
    }

    /// Writes the file for `status`, not too often. The run `waits` for this, if for anything.
    pub(super) fn show(&self, view: &MinerView, waits: &str) {
        let (status, written) = &mut *lock(&self.status);
        if written.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *written = Some(Instant::now());
        status.phase.clone_from(&view.phase);
        status.round = view.round.as_ref().map(|r| r.number);
        let work = view.works.iter().rfind(|w| !w.judged);
        status.doing = match work {
            Some(work) => work.stage.clone(),
            None if waits.is_empty() => "waiting for a task".to_owned(),
            None => format!("waiting for a task; the run waits for {waits}"),
        };
        let locked = |w: &watershed_protocol::market::view::WorkView| {
            matches!(w.stage.as_str(), "paid" | "confirming" | "locked" | "committed" | "revealed")
        };
        status.locked = work.filter(|w| locked(w)).map(|w| w.assignment.reward).unwrap_or_default();
        (status.accepted, status.rejected) = view.record;
        status.held_back = if view.ended { Msat::ZERO } else { view.held_back };
        status.at = now();
        write(&self.path, status);
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

/// What was earned today and in all, as `earnings` says it.
fn earned(home: &Home) -> Result<(Msat, Msat), String> {
    let path = home.wallet().join("payments.sqlite");
    if !path.exists() {
        return Ok((Msat::ZERO, Msat::ZERO));
    }
    let days = by_day(&SqliteStore::open(&path).map_err(|e| e.to_string())?)?;
    let today = days.get(&(now() / DAY)).map(|(amount, _)| *amount).unwrap_or_default();
    Ok((today, total(&days)))
}

fn total(days: &BTreeMap<u64, (Msat, u32)>) -> Msat {
    days.values().fold(Msat::ZERO, |sum, (amount, _)| sum.checked_add(*amount).unwrap_or(sum))
}

/// How a miner stands, in lines for people.
fn lines(status: Option<&Status>, running: bool, now: u64, (today, all): (Msat, Msat)) -> Vec<String> {
    let mut lines = vec![match (running, status) {
        (true, _) => "running".to_owned(),
        (false, None) => "no miner has run here yet; start one with `watershed-miner run`".to_owned(),
        (false, Some(status)) => {
            format!("not running since {} s; what it did last:", now.saturating_sub(status.at))
        }
    }];
    if let Some(status) = status {
        if !status.run.is_empty() {
            lines.push(format!("run       {} ({})", status.run, status.title));
            let round =
                status.round.map_or_else(String::new, |r| format!(", round {r} of {}", status.rounds));
            lines.push(format!("phase     {}{round}", status.phase));
        }
        let step =
            status.step.map(|(step, loss)| format!("; step {step} of {}, loss {loss:.4}", status.steps));
        lines.push(format!("doing     {}{}", status.doing, step.unwrap_or_default()));
        lines.push(format!("locked    {}", status.locked));
        if status.held_back > Msat::ZERO {
            let held_back = status.held_back;
            lines.push(format!(
                "held back {held_back}; it comes with later rewards, once enough was accepted"
            ));
        }
        lines.push(format!("work      {} accepted, {} rejected", status.accepted, status.rejected));
    }
    lines.push(format!("earned    {today} today, {all} in total"));
    lines
}

pub(super) fn status(home: &Home) -> Result<(), String> {
    let (status, running, earned) = (read(home), home.is_running(), earned(home)?);
    if home.json {
        let (today, all) = earned;
        println!("{}", json!({ "running": running, "last": status, "earned_today": today, "earned": all }));
        return Ok(());
    }
    for line in lines(status.as_ref(), running, now(), earned) {
        println!("{line}");
    }
    Ok(())
}

pub(super) fn earnings(home: &Home) -> Result<(), String> {
    let path = home.wallet().join("payments.sqlite");
    if !path.exists() {
        return Err("there is no wallet here; make one with `watershed-miner init`".to_owned());
    }
    let days = by_day(&SqliteStore::open(&path).map_err(|e| e.to_string())?)?;
    let total = total(&days);
    // Of the run that was worked for last, as its coordinator said then.
    let held_back = read(home).map(|status| status.held_back).unwrap_or_default();
    if home.json {
        let days: Vec<_> = days.iter().map(|(day, (amount, lots))| serde_json::json!({ "day": date(*day), "amount": amount, "lots": lots })).collect();
        println!("{}", serde_json::json!({ "days": days, "total": total, "held_back": held_back }));
        return Ok(());
    }
    for (day, (amount, lots)) in &days {
        println!("{}  {amount} in {lots} lots", date(*day));
    }
    println!("total       {total}");
    if held_back > Msat::ZERO {
        println!("held back   {held_back}; it comes with later rewards, once enough work was accepted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_a_miner_runs_and_shows_a_loss_only_while_it_trains() {
        let waiting = Status {
            doing: "waiting for a task; the run waits for pledges".to_owned(),
            at: 90,
            ..Status::default()
        };
        let said = |status: Option<&Status>, running| {
            lines(status, running, 100, (Msat::ZERO, Msat::ZERO)).join("\n")
        };
        let running = said(Some(&waiting), true);
        assert!(
            running.starts_with("running") && !running.contains("loss") && running.contains("pledges"),
            "{running}"
        );
        assert!(said(Some(&waiting), false).starts_with("not running since 10 s"));
        assert!(
            said(None, true).starts_with("running") && said(None, false).starts_with("no miner has run here")
        );
        let training = Status { step: Some((3, 2.5)), steps: 15, ..waiting };
        assert!(said(Some(&training), true).contains("step 3 of 15, loss 2.5000"));
    }

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_778), "2026-11-21");
    }
}
