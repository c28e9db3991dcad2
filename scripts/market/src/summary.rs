//! What came of a run, for people and programs.

use std::time::{Duration, Instant};

use serde::Serialize;
use watershed_protocol::market::view::RunView;

use super::programs::Failed;
use super::world::World;

/// An amount for people.
pub fn sat(msat: u64) -> String {
    if msat.is_multiple_of(1000) {
        format!("{} sat", msat / 1000)
    } else {
        format!("{:.3} sat", msat as f64 / 1000.0)
    }
}

/// A miner at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// What it did instead of the work.
    pub cheat: Option<String>,
    /// What it earned, in msat.
    pub earned_msat: u64,
}

/// A run at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run.
    pub run: String,
    /// How it ended.
    pub end: String,
    /// Loss on held-out text, from before the first round on.
    pub losses: Vec<f32>,
    /// The last checkpoint.
    pub checkpoint: String,
    /// Taken from sponsors, in msat.
    pub pledged_msat: u64,
    /// Locked for work.
    pub locked_msat: u64,
    /// Paid to miners.
    pub paid_msat: u64,
    /// Come back.
    pub back_msat: u64,
    /// Paid for verdicts.
    pub fees_msat: u64,
    /// Held back, and paid to miners after the end.
    pub owed_msat: u64,
    /// Left for the sponsors.
    pub left_msat: u64,
    /// Whether the miners' own books say the same.
    pub sums_agree: bool,
    /// Submissions accepted and rejected.
    pub accepted: u32,
    /// Submissions rejected.
    pub rejected: u32,
    /// Miners.
    pub miners: Vec<Party>,
    /// What the audit says.
    pub audit: String,
    /// Whether it found everything in order.
    pub sound: bool,
    /// Where everything is.
    pub folder: String,
}

impl World {
    /// Audits the record as somebody who looked before, if this was called before, and holds it against what the coordinator
    /// promised the miners: what it says, and whether it is sound.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn audit(&self, more: &[&str]) -> Result<(String, bool), Failed> {
        let state = self.options.dir.join("audit").to_string_lossy().into_owned();
        let run = format!("runs/{}/promises", self.run);
        let promised = self.options.miners.iter().map(|miner| self.options.dir.join(&miner.name).join(&run));
        let promised = promised.filter(|folder| folder.is_dir());
        let promised: Vec<_> = promised.map(|folder| format!("--promise={}", folder.display())).collect();
        let promised: Vec<&str> = promised.iter().map(String::as_str).collect();
        let arguments =
            [&["audit", &self.url, "--state", &state, "--device", "cpu"][..], &promised, more].concat();
        match self.programs.output("watershed-validator", &arguments).await {
            Ok(text) => Ok((text, true)),
            Err(Failed::Command { output, .. }) => Ok((output, false)),
            Err(e) => Err(e),
        }
    }

    /// What each miner has earned, by its own books.
    async fn earned(&self) -> Result<Vec<Party>, Failed> {
        let mut miners = Vec::new();
        for kind in self.options.miners.clone() {
            let data = self.options.dir.join(&kind.name).to_string_lossy().into_owned();
            let earned =
                self.programs.json("watershed-miner", &["earnings", "--json", "--data", &data]).await?;
            let earned_msat = earned["total"].as_u64().unwrap_or(0);
            miners.push(Party { name: kind.name, cheat: kind.cheat.map(|c| c.0), earned_msat });
        }
        Ok(miners)
    }

    /// Collects what came of the run, and audits it; `replay` is the share of assignments whose work is done again, in percent.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn summary(&mut self, replay: u32) -> Result<Summary, Failed> {
        let view: RunView = self.view().await?;
        // What is due at the end is paid when the miners have seen that the run is over.
        let s = view.sums;
        let all = s.paid.msat() + s.owed.msat();
        let mut miners = self.earned().await?;
        let patience = Instant::now() + Duration::from_secs(20);
        while miners.iter().map(|m| m.earned_msat).sum::<u64>() != all && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(500)).await;
            miners = self.earned().await?;
        }
        let (said, sound) = self.audit(&["--replay", &replay.to_string()]).await?;
        let audit = said.lines().last().unwrap_or_default().to_owned();
        let earned: u64 = miners.iter().map(|m| m.earned_msat).sum();
        let whole = s.paid.msat() + s.back.msat() == s.locked.msat();
        Ok(Summary {
            run: view.run.to_string(),
            end: view.end,
            losses: view.checkpoints.iter().map(|c| f32::from_bits(c.loss_bits)).collect(),
            checkpoint: view.checkpoints.last().map(|c| c.checkpoint.to_string()).unwrap_or_default(),
            pledged_msat: s.pledged.msat(),
            locked_msat: s.locked.msat(),
            paid_msat: s.paid.msat(),
            back_msat: s.back.msat(),
            fees_msat: s.fees.msat(),
            owed_msat: s.owed.msat(),
            left_msat: s.left.msat(),
            sums_agree: earned == all && whole,
            accepted: s.accepted,
            rejected: s.rejected,
            miners,
            audit,
            sound,
            folder: self.options.dir.to_string_lossy().into_owned(),
        })
    }
}
