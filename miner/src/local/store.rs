//! The folder of a local run: the state to continue from, and the finished model.
//!
//! The state is one safetensors file, replaced by renaming, so a run that is killed at any moment continues from its last
//! saved point.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use watershed_engine::model::{ModelConfig, hf};
use watershed_protocol::told;

use super::settings::Settings;

/// Name of the state file in the folder of a run.
const STATE: &str = "run.safetensors";
/// Weights are split into files of this size.
const SHARD_BYTES: u64 = 4 << 30;
/// Key of its metadata that holds the settings and counters.
const META: &str = "watershed";

/// Why a run is not made longer, and what to do.
const LONGER: &str = ". The learning rate falls over the whole run, so one of more rounds is another run from its first step on: to \
                      train the finished model further, begin a new run with --model and the folder `model` in this --out";

/// What a run needs besides its settings and text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Saved {
    pub(crate) meta: Meta,
    /// Named vectors, see `run`.
    pub(crate) vectors: HashMap<String, Vec<f32>>,
    /// Named encoded things.
    pub(crate) files: HashMap<String, Vec<u8>>,
}

/// The counters of a saved run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Written by [`Store::save`].
    pub(crate) settings: String,
    /// Rounds completed.
    pub(crate) rounds: u32,
    /// Inner steps that the moments of each worker have seen.
    pub(crate) updates: Vec<u32>,
    /// Workers that have submitted in the round under way.
    pub(crate) submitted: u32,
    /// The worker that was under way, the steps it had taken, and the updates its moments have seen.
    pub(crate) under_way: Option<(u32, u32, u32)>,
    /// Losses of the round under way, all workers so far.
    pub(crate) losses: Vec<f32>,
}

/// Why a run cannot be kept or continued.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("cannot {doing} {path}: {}", told(.source))]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged ({reason}); remove it to start the run again")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} cannot be made: {reason}")]
    Unwritable { path: PathBuf, reason: String },
    #[error(
        "{path} holds a run with other settings: {differ}. Use the same flags and text as then, or another --out{hint}"
    )]
    OtherRun { path: PathBuf, differ: String, hint: &'static str },
    #[error("{path} already holds a run; add --resume to continue it, or choose another --out")]
    InUse { path: PathBuf },
    #[error(transparent)]
    Model(#[from] hf::HfError),
    #[error("cannot describe the settings: {0}")]
    Settings(#[from] serde_json::Error),
}

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes the folder if need be.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(failed("make", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn state(&self) -> PathBuf {
        self.dir.join(STATE)
    }

    /// Nothing is ever overwritten unasked.
    pub(crate) fn refuse_if_used(&self) -> Result<(), StoreError> {
        let path = self.state();
        if path.try_exists().map_err(failed("look at", &path))? {
            return Err(StoreError::InUse { path: self.dir.clone() });
        }
        Ok(())
    }

    /// The saved state of a run with these settings, if there is one.
    pub(crate) fn load(&self, settings: &Settings) -> Result<Option<Saved>, StoreError> {
        let path = self.state();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("read", &path)(e)),
        };
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let text = header.metadata().as_ref().and_then(|m| m.get(META)).cloned().unwrap_or_default();
        let meta: Meta = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let differences = settings.differences(&meta.settings)?;
        if !differences.is_empty() {
            let longer = differences.iter().any(|flag| flag.starts_with("--rounds"));
            let hint = if longer { LONGER } else { "" };
            return Err(StoreError::OtherRun {
                path: self.dir.clone(),
                differ: differences.join(", "),
                hint,
            });
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let (mut vectors, mut files) = (HashMap::new(), HashMap::new());
        for (name, view) in file.tensors() {
            let data = view.data();
            match view.dtype() {
                Dtype::F32 => {
                    let values = data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    vectors.insert(name, values.collect());
                }
                Dtype::U8 => drop(files.insert(name, data.to_vec())),
                _ => return Err(damaged(format!("{name} is neither f32 nor bytes"))),
            }
        }
        Ok(Some(Saved { meta, vectors, files }))
    }

    /// Replaces the saved state.
    pub(crate) fn save(&self, settings: &Settings, mut saved: Saved) -> Result<(), StoreError> {
        saved.meta.settings = settings.to_json()?;
        let meta = HashMap::from([(META.to_owned(), serde_json::to_string(&saved.meta)?)]);
        let path = self.state();
        let new = self.dir.join(format!("{STATE}.new"));
        let unwritable = |e: SafeTensorError| unwritable(&new, e);
        let mut views = Vec::new();
        for (name, values) in &saved.vectors {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
            views.push((name.clone(), view.map_err(unwritable)?));
        }
        for (name, bytes) in &saved.files {
            let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes);
            views.push((name.clone(), view.map_err(unwritable)?));
        }
        let written =
            safetensors::serialize_to_file(views, Some(meta), &new).map_err(unwritable).and_then(|()| {
                fs::File::open(&new).and_then(|f| f.sync_all()).map_err(failed("write", &new))?;
                fs::rename(&new, &path).map_err(failed("write", &path))
            });
        if written.is_err() {
            // Half a file only takes room; what was saved before is whole.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Writes the model as a Hugging Face folder with these files beside it, in place of an earlier one; gives its path.
    pub(crate) fn write_model(
        &self,
        config: &ModelConfig,
        parameters: &[f32],
        files: &[(&'static str, Vec<u8>)],
    ) -> Result<PathBuf, StoreError> {
        let (new, path) = (self.dir.join("model.new"), self.dir.join("model"));
        remove(&new)?;
        let written =
            hf::save(&new, config, parameters, SHARD_BYTES).map_err(StoreError::Model).and_then(|()| {
                for (name, bytes) in files {
                    let file = new.join(name);
                    fs::write(&file, bytes).map_err(failed("write", &file))?;
                }
                Ok(())
            });
        if let Err(e) = written {
            let _ = remove(&new);
            return Err(e);
        }
        remove(&path)?;
        fs::rename(&new, &path).map_err(failed("write", &path))?;
        Ok(path)
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { doing, path: path.to_owned(), source }
}

/// What a library's error in writing means: it has the system's inside.
fn unwritable(path: &Path, e: SafeTensorError) -> StoreError {
    match e {
        SafeTensorError::IoError(source) => failed("write", path)(source),
        e => StoreError::Unwritable { path: path.to_owned(), reason: e.to_string() },
    }
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", folder)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::settings::tests::settings;

    fn saved() -> Saved {
        Saved { vectors: HashMap::from([("checkpoint".to_owned(), vec![0.5; 70_000])]), ..Saved::default() }
    }

    #[test]
    fn a_full_disk_is_called_so_and_what_was_saved_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, settings) = (Store::open(dir.path()).unwrap(), settings(40));
        store.save(&settings, saved()).unwrap();
        let full = std::io::Error::from_raw_os_error(28);
        let refused = unwritable(&dir.path().join("run.safetensors.new"), SafeTensorError::IoError(full));
        assert!(matches!(refused, StoreError::Io { doing: "write", .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("the disk is full") && text.contains("nothing that was written before is lost"),
            "{text}"
        );
        assert!(!text.contains("damaged") && !text.contains("remove"), "{text}");
        assert!(store.load(&settings).unwrap().is_some(), "the state before is whole");
        store.save(&settings, saved()).unwrap();

        std::fs::write(dir.path().join(STATE), b"no state").unwrap();
        assert!(matches!(store.load(&settings), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn what_differs_from_the_run_that_is_kept_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.save(&settings(40), saved()).unwrap();
        let refused = store.load(&settings(60)).unwrap_err().to_string();
        assert!(refused.contains("--rounds was 40 and is 60"), "{refused}");
        assert!(refused.contains("--model"), "how to go on all the same: {refused}");
        let other = Settings { seed: 7, corpus: "aa".to_owned(), ..settings(40) };
        let refused = store.load(&other).unwrap_err().to_string();
        assert!(refused.contains("--seed was 0 and is 7") && refused.contains("--text"), "{refused}");
        assert!(!refused.contains("--rounds"), "{refused}");
    }
}
