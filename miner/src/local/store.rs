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

use super::settings::Settings;

/// Name of the state file in the folder of a run.
const STATE: &str = "run.safetensors";
/// Weights are split into files of this size.
const SHARD_BYTES: u64 = 4 << 30;
/// Key of its metadata that holds the settings and counters.
const META: &str = "watershed";

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
    #[error("cannot write {path}: {source}; free some space or choose another --out")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged ({reason}); remove it to start the run again")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} holds a run with other settings or another text; use the same flags and --text as then, or another --out"
    )]
    OtherRun { path: PathBuf },
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
        fs::create_dir_all(dir).map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn state(&self) -> PathBuf {
        self.dir.join(STATE)
    }

    /// Nothing is ever overwritten unasked.
    pub(crate) fn refuse_if_used(&self) -> Result<(), StoreError> {
        if self.state().exists() {
            return Err(StoreError::InUse { path: self.dir.clone() });
        }
        Ok(())
    }

    /// The saved state of a run with these settings, if there is one.
    pub(crate) fn load(&self, settings: &Settings) -> Result<Option<Saved>, StoreError> {
        let path = self.state();
        if !path.exists() {
            return Ok(None);
        }
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let bytes = fs::read(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
        let text = header.metadata().as_ref().and_then(|m| m.get(META)).cloned().unwrap_or_default();
        let meta: Meta = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if meta.settings != settings.to_json()? {
            return Err(StoreError::OtherRun { path: self.dir.clone() });
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
        let failed = |e: SafeTensorError| StoreError::Damaged { path: path.clone(), reason: e.to_string() };
        let mut views = Vec::new();
        for (name, values) in &saved.vectors {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values));
            views.push((name.clone(), view.map_err(failed)?));
        }
        for (name, bytes) in &saved.files {
            let view = TensorView::new(Dtype::U8, vec![bytes.len()], bytes);
            views.push((name.clone(), view.map_err(failed)?));
        }
        let new = self.dir.join(format!("{STATE}.new"));
        safetensors::serialize_to_file(views, Some(meta), &new).map_err(failed)?;
        let io = |source| StoreError::Io { path: path.clone(), source };
        fs::File::open(&new).and_then(|f| f.sync_all()).map_err(io)?;
        fs::rename(&new, &path).map_err(io)
    }

    /// Writes the model as a Hugging Face folder with these files beside it, in place of an earlier one; gives its path.
    pub(crate) fn write_model(
        &self,
        config: &ModelConfig,
        parameters: &[f32],
        files: &[(&'static str, Vec<u8>)],
    ) -> Result<PathBuf, StoreError> {
        let (new, path) = (self.dir.join("model.new"), self.dir.join("model"));
        let io = |source| StoreError::Io { path: path.clone(), source };
        if new.exists() {
            fs::remove_dir_all(&new).map_err(io)?;
        }
        hf::save(&new, config, parameters, SHARD_BYTES)?;
        for (name, bytes) in files {
            fs::write(new.join(name), bytes).map_err(io)?;
        }
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io)?;
        }
        fs::rename(&new, &path).map_err(io)?;
        Ok(path)
    }
}
