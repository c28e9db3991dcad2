//! Where a validator keeps everything.

use std::path::{Path, PathBuf};

use watershed_payments::lock::FolderLock;
use watershed_protocol::{AssignmentId, Envelope, SecretKey, decode, encode, told};
use watershed_shards::library::load_or_create;

/// The folder, and how to answer.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct HomeArgs {
    /// Folder of the validator [default: watershed/validator in your data folder]
    #[arg(long, env = "WATERSHED_VALIDATOR", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print one JSON value on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// The folder of a validator.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    pub(crate) json: bool,
}

impl Home {
    pub(crate) fn new(args: &HomeArgs) -> Result<Self, String> {
        let folder = match &args.data {
            Some(data) => data.clone(),
            None => {
                let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
                let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
                base.ok_or("there is no home folder; say where the validator is with --data")?
                    .join("watershed/validator")
            }
        };
        Ok(Self { folder, json: args.json })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the folder for a validator that runs: there is one at a time.
    pub(crate) fn alone(&self) -> Result<FolderLock, String> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|e| format!("{}: {}", self.folder.display(), told(&e)))?;
        FolderLock::take(&self.folder, "run.lock").map_err(|e| told(&e))
    }

    /// What verdicts are signed with.
    pub(crate) fn key(&self) -> Result<SecretKey, String> {
        let (key, _) = load_or_create(&self.folder.join("validator.key"), "Key of a validator")
            .map_err(|e| e.to_string())?;
        Ok(key)
    }

    /// What the secrets of lots are made from. Not the key: nothing that is signed depends on it.
    pub(crate) fn seed(&self) -> Result<[u8; 32], String> {
        let path = self.folder.join("secrets.key");
        let (seed, _) =
            load_or_create(&path, "Seed of a validator's lot secrets").map_err(|e| e.to_string())?;
        Ok(seed.to_bytes())
    }

    fn verdict_path(&self, id: AssignmentId) -> PathBuf {
        self.folder.join("verdicts").join(id.to_string())
    }

    /// A verdict that was signed before. One that cannot be looked at may be there: it is not taken for missing.
    pub(crate) fn verdict(&self, id: AssignmentId) -> Result<Option<Envelope>, String> {
        let path = self.verdict_path(id);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(decode(&bytes).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("{}: {}", path.display(), told(&e))),
        }
    }

    /// Keeps a verdict before anybody is told: there must never be two.
    pub(crate) fn keep_verdict(&self, id: AssignmentId, verdict: &Envelope) -> Result<(), String> {
        let path = self.verdict_path(id);
        let text = |e: std::io::Error| format!("{}: {}", path.display(), told(&e));
        std::fs::create_dir_all(self.folder.join("verdicts")).map_err(text)?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, encode(verdict).map_err(|e| e.to_string())?).map_err(text)?;
        std::fs::File::open(&partial).and_then(|f| f.sync_all()).map_err(text)?;
        std::fs::rename(&partial, &path).map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_cannot_be_looked_at_is_not_taken_for_missing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&HomeArgs { data: Some(dir.path().to_owned()), json: false }).unwrap();
        let id = AssignmentId::from_bytes([1; 32]);
        assert!(home.verdict(id).unwrap().is_none());
        // Whatever keeps it from being read: here a folder in its place.
        std::fs::create_dir_all(home.verdict_path(id)).unwrap();
        assert!(home.verdict(id).is_err());
    }
}
