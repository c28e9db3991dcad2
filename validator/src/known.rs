//! Which miners a validator has found right how often, so that it knows by itself whom it may replay less.

use std::collections::BTreeMap;
use std::path::PathBuf;

use watershed_protocol::{PublicKey, RunId};

use crate::home::Home;

/// Submissions of each miner of a run that this validator found right and wrong.
#[derive(Debug)]
pub(crate) struct Known {
    path: PathBuf,
    miners: BTreeMap<PublicKey, (u32, u32)>,
}

impl Known {
    /// What was noted before. What cannot be read is forgotten: then everything is replayed.
    pub(crate) fn open(home: &Home, run: RunId) -> Self {
        let path = home.folder().join("known").join(format!("{run}.json"));
        let bytes = std::fs::read(&path).unwrap_or_default();
        Self { path, miners: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    /// Right and wrong submissions of a miner.
    pub(crate) fn of(&self, miner: &PublicKey) -> (u32, u32) {
        self.miners.get(miner).copied().unwrap_or_default()
    }

    /// Notes a verdict.
    pub(crate) fn note(&mut self, miner: PublicKey, right: bool) -> Result<(), String> {
        let (rights, wrongs) = self.miners.entry(miner).or_default();
        *(if right { rights } else { wrongs }) += 1;
        let text = |e: std::io::Error| format!("{}: {e}", self.path.display());
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(text)?;
        }
        let partial = self.path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(&self.miners).map_err(|e| e.to_string())?)
            .and_then(|()| std::fs::rename(&partial, &self.path))
            .map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use watershed_protocol::SecretKey;

    use super::*;
    use crate::home::HomeArgs;

    #[test]
    fn what_was_found_is_known_after_a_restart_and_by_run() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&HomeArgs { data: Some(dir.path().to_owned()), json: false }).unwrap();
        let (run, other) = (RunId::from_bytes([1; 32]), RunId::from_bytes([2; 32]));
        let miner = SecretKey::from_entropy([3; 32]).unwrap().public();
        let mut known = Known::open(&home, run);
        assert_eq!(known.of(&miner), (0, 0));
        for right in [true, true, false] {
            known.note(miner, right).unwrap();
        }
        assert_eq!(Known::open(&home, run).of(&miner), (2, 1));
        assert_eq!(Known::open(&home, other).of(&miner), (0, 0));
        std::fs::write(dir.path().join("known").join(format!("{run}.json")), b"{").unwrap();
        assert_eq!(Known::open(&home, run).of(&miner), (0, 0), "what cannot be read is forgotten");
    }
}
