//! Where a miner keeps everything.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use watershed_payments::cli::Place;
use watershed_payments::lock::FolderLock;
use watershed_protocol::{PublicKey, RunId, SecretKey, told};
use watershed_shards::library::load_or_create;

/// The folder, and how to answer.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct HomeArgs {
    /// Folder of the miner [default: watershed/miner in your data folder]
    #[arg(long, env = "WATERSHED_MINER", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print one JSON value on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// The folder of a miner.
#[derive(Clone, Debug)]
pub(super) struct Home {
    folder: PathBuf,
    pub(super) json: bool,
}

impl Home {
    pub(super) fn new(args: &HomeArgs) -> Result<Self, String> {
        let folder = match &args.data {
            Some(data) => data.clone(),
            None => {
                let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
                let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
                base.ok_or("there is no home folder; say where the miner is with --data")?
                    .join("watershed/miner")
            }
        };
        Ok(Self { folder, json: args.json })
    }

    fn lock(&self) -> Result<File, String> {
        let path = self.folder.join("running.lock");
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        File::create(&path).map_err(failed)
    }

    /// Claims the folder for a miner that runs, for as long as the file is held: the system lets go of it whatever ends the
    /// process. Waits for one that is just ending.
    pub(super) fn claim(&self) -> Result<File, String> {
        let file = self.lock()?;
        for _ in 0..100 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(200)),
                Err(TryLockError::Error(e)) => return Err(format!("{}: {e}", self.folder.display())),
            }
        }
        Err(format!(
            "another miner runs in {}; `watershed-miner status` shows what it does",
            self.folder.display()
        ))
    }

    /// Whether a miner runs here.
    pub(super) fn is_running(&self) -> bool {
        let path = self.folder.join("running.lock");
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn wallet(&self) -> PathBuf {
        self.folder.join("wallet")
    }

    pub(super) fn place(&self) -> Place {
        Place { data: Some(self.wallet()), json: self.json }
    }

    pub(super) fn run(&self, run: RunId) -> PathBuf {
        self.folder.join("runs").join(run.to_string())
    }

    /// Takes the folder for a miner that runs: there is one at a time.
    pub(super) fn alone(&self) -> Result<FolderLock, String> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|e| format!("{}: {}", self.folder.display(), told(&e)))?;
        FolderLock::take(&self.folder, "run.lock").map_err(|e| told(&e))
    }

    /// The key; a miner is known by it.
    pub(super) fn key(&self) -> Result<SecretKey, String> {
        let (key, _) =
            load_or_create(&self.folder.join("miner.key"), "Key of a miner").map_err(|e| e.to_string())?;
        Ok(key)
    }

    /// What it is known by, if it has a key already.
    pub(super) fn known_by(&self) -> Option<PublicKey> {
        let made = self.folder.join("miner.key").exists();
        made.then(|| self.key().ok()).flatten().map(|key| key.public())
    }

    pub(super) fn remember_coordinator(&self, url: &str) -> Result<(), String> {
        std::fs::write(self.folder.join("coordinator.url"), url).map_err(|e| e.to_string())
    }

    /// The coordinator that was named, or the one of `init`.
    pub(super) fn coordinator(&self, named: Option<&str>) -> Result<String, String> {
        if let Some(url) = named {
            return Ok(url.to_owned());
        }
        let path = self.folder.join("coordinator.url");
        let url = std::fs::read_to_string(&path);
        url.map(|u| u.trim().to_owned()).map_err(|_| {
            "say which coordinator with --coordinator URL, or run `watershed-miner init`".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miner_runs_for_as_long_as_its_process_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&HomeArgs { data: Some(dir.path().join("miner")), json: false }).unwrap();
        assert!(!home.is_running());
        let held = home.claim().unwrap();
        assert!(home.is_running());
        drop(held);
        assert!(!home.is_running());
    }

    #[test]
    fn a_second_miner_in_a_folder_is_refused_at_once_with_the_first_ones_process() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&HomeArgs { data: Some(dir.path().join("new")), json: false }).unwrap();
        let held = home.alone().unwrap();
        let begun = std::time::Instant::now();
        let refused = home.alone().unwrap_err();
        assert!(begun.elapsed().as_secs() < 1);
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(held);
        home.alone().unwrap();
    }
}
