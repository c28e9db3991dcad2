//! Reading a model folder: one safetensors file, or shards with an index.
//!
//! Works in two steps: first all headers, checked against the layout and the sizes of the files; only then
//! the memory for the values, read block by block. Holds at most one header, one block and the flat vector
//! beside the records of the tensors. A shard may be a symbolic link (transformers' own cache is made of
//! them), but the index can only name files inside the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::error::shown;
use super::names::{HEAD, HfTensor, is_ignored, tensors};
use super::widen::Stored;
use super::{
    CONFIG_FILE, HfError, INDEX_FILE, LFS_POINTER, MAX_CONFIG_BYTES, MAX_JSON_BYTES, MAX_SHARDS,
    WEIGHTS_FILE, is_lfs_pointer,
};
use crate::model::config::ModelConfig;
use crate::model::layout::Layout;

/// Bytes read at a time.
const BLOCK: usize = 1 << 15;
/// Bytes before the header of a safetensors file: its length as a little-endian u64.
const PREFIX: u64 = 8;

/// Reads and validates the `config.json` of a model folder.
///
/// # Errors
/// [`HfError`]: what is missing, malformed or not supported.
pub fn read_config(dir: &Path) -> Result<ModelConfig, HfError> {
    Ok(super::parse_config(&read_json(&dir.join(CONFIG_FILE), MAX_CONFIG_BYTES)?)?)
}

/// Reads the weights of a model folder into declared order, widening F16 and BF16 to f32 exactly. As in
/// transformers, a folder that holds both forms is read as a single file.
///
/// # Errors
/// [`HfError`]: every tensor that `layout` calls for must be there once, in its shape, in a type that widens
/// exactly, with finite values, and nothing else may be there.
pub fn read_weights(dir: &Path, layout: &Layout) -> Result<Vec<f32>, HfError> {
    let shards = open_shards(dir)?;
    let wanted = tensors(layout);
    let mut found = found_tensors(&shards);
    // One matrix under either of its names: some programs write a tied model's output projection only.
    if let Some(embed) = wanted.first().filter(|_| layout.config().tied_embeddings)
        && !found.contains_key(&embed.name)
        && let Some(head) = found.remove(HEAD)
    {
        found.insert(embed.name.clone(), head);
    }
    let sources = wanted.iter().map(|tensor| take(&mut found, tensor)).collect::<Result<Vec<_>, _>>()?;
    let tied_head = match wanted.first() {
        Some(embed) if layout.config().tied_embeddings && found.contains_key(HEAD) => {
            Some(take(&mut found, &HfTensor { name: HEAD.to_owned(), ..embed.clone() })?)
        }
        _ => None,
    };
    refuse_leftovers(&found)?;

    let values = layout.total();
    let mut flat = Vec::new();
    flat.try_reserve_exact(values).map_err(|_| HfError::NoMemory { values })?;
    for source in sources {
        // The tensors tile the flat vector in order, so each one begins where the last one ended.
        source.read(|_, values| {
            flat.extend_from_slice(values);
            Ok(())
        })?;
    }
    if let Some(head) = tied_head {
        // The embedding is the first tensor: both have the same indices.
        head.read(|at, values| {
            let pairs = values.iter().zip(flat.iter().skip(at));
            match pairs.map(|(a, b)| a.to_bits() == b.to_bits()).position(|same| !same) {
                Some(differs) => Err(HfError::HeadNotTied { index: at + differs }),
                None => Ok(()),
            }
        })?;
    }
    Ok(flat)
}

/// One safetensors file whose header has been checked against its size.
struct Shard {
    path: PathBuf,
    file: File,
    /// Where the values begin in the file.
    start: u64,
    header: Metadata,
}

/// Every tensor of all shards, by name.
type Found<'a> = BTreeMap<String, (&'a Shard, &'a TensorInfo)>;

/// Where the values of one tensor lie; its header has been checked.
struct Source<'a> {
    name: String,
    shard: &'a Shard,
    stored: Stored,
    /// Offset of the first value from the beginning of the file.
    offset: u64,
    /// Number of values.
    len: usize,
}

impl Source<'_> {
    /// Hands the values to `each` in blocks, with the index of each block's first value.
    fn read(&self, mut each: impl FnMut(usize, &[f32]) -> Result<(), HfError>) -> Result<(), HfError> {
        let Shard { path, file, .. } = self.shard;
        let mut file: &File = file;
        file.seek(SeekFrom::Start(self.offset)).map_err(HfError::io("read", path))?;
        let (mut bytes, mut values) = ([0; BLOCK], [0.0; BLOCK / 2]);
        let per_block = BLOCK / self.stored.size();
        for at in (0..self.len).step_by(per_block) {
            let count = per_block.min(self.len - at);
            let (bytes, values) = (&mut bytes[..count * self.stored.size()], &mut values[..count]);
            file.read_exact(bytes).map_err(HfError::io("read", path))?;
            self.stored.widen(bytes, values);
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(HfError::NotFinite { tensor: self.name.clone(), index: at + index });
            }
            each(at, values)?;
        }
        Ok(())
    }
}

/// Opens the single file or all shards and checks their headers.
fn open_shards(dir: &Path) -> Result<Vec<Shard>, HfError> {
    let (single, index) = (dir.join(WEIGHTS_FILE), dir.join(INDEX_FILE));
    if is_there(&single)? {
        return Ok(vec![open_shard(single)?]);
    }
    if !is_there(&index)? {
        return Err(HfError::NoWeights { dir: dir.to_owned() });
    }
    let weight_map = read_index(&index)?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    if files.len() > MAX_SHARDS {
        return Err(HfError::TooManyShards { found: files.len() });
    }
    let mut shards = Vec::new();
    for file in files {
        let shard = open_shard(dir.join(plain_name(file)?))?;
        // Both directions: what the header holds is mapped here, and what is mapped here the header holds.
        let disagrees =
            |tensor: &str| HfError::IndexMismatch { path: shard.path.clone(), tensor: shown(tensor) };
        for tensor in shard.header.offset_keys() {
            if weight_map.get(&tensor) != Some(file) && !is_ignored(&tensor) {
                return Err(disagrees(&tensor));
            }
        }
        for (tensor, _) in weight_map.iter().filter(|(_, mapped)| *mapped == file) {
            if shard.header.info(tensor).is_none() {
                return Err(disagrees(tensor));
            }
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// Whether a file is there; one that cannot be looked at is not taken for missing.
fn is_there(path: &Path) -> Result<bool, HfError> {
    path.try_exists().map_err(HfError::io("look at", path))
}

/// The file that holds each tensor.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, HfError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = read_json(path, MAX_JSON_BYTES)?;
    let wrong = |reason| HfError::Index { path: path.to_owned(), reason };
    let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(shown(&error.to_string())))?;
    if index.weight_map.is_empty() {
        return Err(wrong("weight_map is empty".to_owned()));
    }
    Ok(index.weight_map)
}

/// A file name from the index, if it can only mean a file directly inside the folder, on any system.
fn plain_name(file: &str) -> Result<&str, HfError> {
    let mut parts = Path::new(file).components();
    let one_part = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if one_part && !file.contains(['/', '\\', ':', '\0']) {
        Ok(file)
    } else {
        Err(HfError::ShardPath { file: shown(file) })
    }
}

/// Opens one file and checks that its header describes exactly the bytes that follow it.
fn open_shard(path: PathBuf) -> Result<Shard, HfError> {
    let wrong = |reason| HfError::Header { path: path.clone(), reason };
    let (mut file, len) = open(&path)?;
    if len < PREFIX {
        return Err(wrong(format!("it has {len} bytes, fewer than the {PREFIX} of the header's length")));
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix).map_err(HfError::io("read", &path))?;
    let header_len = u64::from_le_bytes(prefix);
    let rest = len - PREFIX;
    if header_len > rest {
        return Err(wrong(format!("its header claims {header_len} bytes, but only {rest} follow")));
    }
    let header = read_bounded(&mut file, &path, header_len, MAX_JSON_BYTES)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| wrong(shown(&error.to_string())))?;
    let (described, follow) = (header.data_len() as u64, rest - header_len);
    if described != follow {
        return Err(wrong(format!("its header describes {described} bytes of values, but {follow} follow")));
    }
    Ok(Shard { file, start: PREFIX + header_len, header, path })
}

fn found_tensors(shards: &[Shard]) -> Found<'_> {
    let tensors = shards.iter().flat_map(|shard| {
        let names = shard.header.offset_keys().into_iter();
        names.filter_map(move |name| shard.header.info(&name).map(|info| (name, (shard, info))))
    });
    tensors.collect()
}

/// Takes `tensor` out of what was found, if it is there in its shape and in a type that widens exactly.
fn take<'a>(found: &mut Found<'a>, tensor: &HfTensor) -> Result<Source<'a>, HfError> {
    let name = tensor.name.clone();
    let Some((shard, info)) = found.remove(&name) else {
        return Err(HfError::Missing { tensor: name });
    };
    if info.shape != tensor.shape {
        let found = match info.shape.len() {
            0..=4 => format!("shape {:?}", info.shape),
            dimensions => format!("{dimensions} dimensions"),
        };
        return Err(HfError::Shape { tensor: name, found, expected: tensor.shape.clone() });
    }
    let Some(stored) = Stored::of(info.dtype) else {
        return Err(HfError::Dtype { tensor: name, found: info.dtype.to_string() });
    };
    let offset = shard.start.saturating_add(info.data_offsets.0 as u64);
    Ok(Source { name, shard, stored, offset, len: tensor.range.len() })
}

/// Whatever is left must be something that transformers ignores too.
fn refuse_leftovers(left: &Found<'_>) -> Result<(), HfError> {
    match left.iter().find(|(name, _)| !is_ignored(name)) {
        Some((name, (shard, _))) => Err(HfError::Extra { path: shard.path.clone(), tensor: shown(name) }),
        None => Ok(()),
    }
}

/// Reads a whole JSON file of at most `limit` bytes.
fn read_json(path: &Path, limit: u64) -> Result<Vec<u8>, HfError> {
    let (mut file, len) = open(path)?;
    read_bounded(&mut file, path, len, limit)
}

/// Opens a plain file and tells its size. Asks before opening, because opening a pipe would wait for ever.
fn open(path: &Path) -> Result<(File, u64), HfError> {
    let io = |doing| HfError::io(doing, path);
    if !fs::metadata(path).map_err(io("open"))?.is_file() {
        return Err(HfError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(io("open"))?;
    let len = file.metadata().map_err(io("open"))?.len();
    let mut begins = Vec::new();
    (&mut file).take(LFS_POINTER.len() as u64).read_to_end(&mut begins).map_err(io("read"))?;
    if is_lfs_pointer(&begins) {
        return Err(HfError::LfsPointer { path: path.to_owned() });
    }
    file.seek(SeekFrom::Start(0)).map_err(io("read"))?;
    Ok((file, len))
}

/// Reads the next `len` bytes if they are at most `limit`.
fn read_bounded(file: &mut File, path: &Path, len: u64, limit: u64) -> Result<Vec<u8>, HfError> {
    if len > limit {
        return Err(HfError::JsonTooLarge { path: path.to_owned(), bytes: len, limit });
    }
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(HfError::io("read", path))?;
    Ok(bytes)
}
