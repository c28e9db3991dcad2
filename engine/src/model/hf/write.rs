//! Writing a model folder that transformers opens.
//!
//! The folder appears complete or not at all: everything is written and flushed to disk under a temporary
//! name beside it, which is then renamed. Files that exist are never overwritten, so a reader can never see
//! the shards of two models mixed. Two writers of the same folder at the same time are not supported.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use super::names::{HfTensor, tensors};
use super::{CONFIG_FILE, ConfigJsonError, HfError, INDEX_FILE, MAX_SHARDS, WEIGHTS_FILE, render_config};
use crate::model::config::ModelConfig;
use crate::model::layout::Layout;

/// Values converted to bytes at a time.
const BLOCK: usize = 1 << 14;
/// The safetensors format pads its header with spaces to a multiple of this many bytes.
const ALIGNMENT: usize = 8;

/// Writes `config.json` and the weights in F32 to the folder `dir`, which must not exist yet or be empty.
///
/// The weights go to one file if they take at most `shard_bytes` bytes, and otherwise to shards of at most
/// that many (a larger tensor gets a shard of its own) with an index. The same input writes the same bytes. A
/// folder left over under the temporary name `.NAME.partial` by an interrupted call is replaced.
///
/// # Errors
/// [`HfError`]; then `dir` does not exist or is as it was before.
pub fn save(dir: &Path, config: &ModelConfig, flat: &[f32], shard_bytes: u64) -> Result<(), HfError> {
    let config_json = render_config(config)?;
    let layout = Layout::new(config).map_err(ConfigJsonError::from)?;
    if flat.len() != layout.total() {
        return Err(HfError::WrongLength { found: flat.len(), expected: layout.total() });
    }
    let tensors = tensors(&layout);
    refuse_not_finite(&tensors, flat)?;
    let shards = share_out(tensors, shard_bytes)?;

    let partial = partial_name(dir)?;
    refuse_not_empty(dir)?;
    let written = fill(&partial, &config_json, &shards, flat).and_then(|()| replace(&partial, dir));
    if written.is_err() {
        // The first error is the one to report; what cannot be removed now is replaced by the next call.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Values that are not finite could be written but never be read back.
fn refuse_not_finite(tensors: &[HfTensor], flat: &[f32]) -> Result<(), HfError> {
    for tensor in tensors {
        let values = flat.get(tensor.range.clone()).unwrap_or_default();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(HfError::NotFinite { tensor: tensor.name.clone(), index });
        }
    }
    Ok(())
}

/// Tensors in order, a new shard wherever the next one would not fit.
fn share_out(tensors: Vec<HfTensor>, shard_bytes: u64) -> Result<Vec<Vec<HfTensor>>, HfError> {
    let mut shards: Vec<Vec<HfTensor>> = Vec::new();
    let mut used = 0u64;
    for tensor in tensors {
        let bytes = bytes_of(&tensor);
        used = used.saturating_add(bytes);
        match shards.last_mut() {
            Some(shard) if used <= shard_bytes => shard.push(tensor),
            _ => {
                shards.push(vec![tensor]);
                used = bytes;
            }
        }
    }
    if shards.len() > MAX_SHARDS { Err(HfError::TooManyShards { found: shards.len() }) } else { Ok(shards) }
}

/// Size of a tensor in the file.
fn bytes_of(tensor: &HfTensor) -> u64 {
    (tensor.range.len() as u64).saturating_mul(4)
}

/// Writes everything into a new folder at `partial`.
fn fill(partial: &Path, config_json: &str, shards: &[Vec<HfTensor>], flat: &[f32]) -> Result<(), HfError> {
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(HfError::io("remove", partial)(error));
        }
        _ => {}
    }
    fs::create_dir_all(partial).map_err(HfError::io("create", partial))?;
    write_file(&partial.join(CONFIG_FILE), |file| file.write_all(config_json.as_bytes()))?;
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => WEIGHTS_FILE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let path = partial.join(&name);
        let header = header(shard, &path)?;
        write_file(&path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            shard
                .iter()
                .try_for_each(|tensor| write_values(file, flat.get(tensor.range.clone()).unwrap_or_default()))
        })?;
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.as_str(), name.clone())));
    }
    if shards.len() > 1 {
        let total_size = shards.iter().flatten().map(bytes_of).fold(0, u64::saturating_add);
        let index = Index { metadata: IndexMetadata { total_size }, weight_map };
        let path = partial.join(INDEX_FILE);
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|error| HfError::Index { path: path.clone(), reason: error.to_string() })?;
        write_file(&path, |file| file.write_all(&text))?;
    }
    Ok(())
}

/// The file that says which shard holds which tensor.
#[derive(Serialize)]
struct Index<'a> {
    metadata: IndexMetadata,
    weight_map: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    /// Bytes of all tensors together, without headers.
    total_size: u64,
}

/// The padded JSON header of one shard. `path` is only for the error.
fn header(shard: &[HfTensor], path: &Path) -> Result<Vec<u8>, HfError> {
    let wrong = |reason: String| HfError::Header { path: path.to_owned(), reason };
    let mut end = 0;
    let infos = shard.iter().map(|tensor| {
        let start = end;
        end += tensor.range.len() * size_of::<f32>();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(|error| wrong(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| wrong(error.to_string()))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

/// Creates one file, fills it and flushes it to disk.
fn write_file(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), HfError> {
    let written = File::create_new(path).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    written.map_err(HfError::io("write", path))
}

/// Values as little-endian bytes.
fn write_values(file: &mut File, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(BLOCK * size_of::<f32>());
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The temporary name beside `dir`, hidden so that nobody takes it for a model.
fn partial_name(dir: &Path) -> Result<PathBuf, HfError> {
    let name = dir.file_name().ok_or_else(|| HfError::NoFolderName { dir: dir.to_owned() })?;
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(dir.with_file_name(partial))
}

/// Refuses a folder with something in it, and anything that is not a folder.
fn refuse_not_empty(dir: &Path) -> Result<(), HfError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(HfError::NotEmpty { dir: dir.to_owned() }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(HfError::io("read", dir)(error)),
    }
}

/// Gives the finished folder its name.
fn replace(partial: &Path, dir: &Path) -> Result<(), HfError> {
    // Not every system renames onto an empty folder. Removing fails, as it should, if the folder is not
    // empty.
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(HfError::io("replace", dir)(error)),
        _ => {}
    }
    fs::rename(partial, dir).map_err(HfError::io("name", dir))?;
    // Where a folder can be opened, this makes the new name survive a power cut; elsewhere there is no such
    // call.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(parent) = File::open(parent) {
        let _ = parent.sync_all();
    }
    Ok(())
}
