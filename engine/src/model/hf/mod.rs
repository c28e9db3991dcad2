//! Hugging Face model folders: `config.json` plus safetensors, to and from the flat parameter vector.
//!
//! Responsible for models of type `llama` (SmolLM is one) and `qwen2`: what [`load`] accepts computes in this
//! engine the same function as in transformers, and transformers opens what [`save`] writes. Whatever would
//! compute something else is refused with the reason. Both directions keep tensors in `[out, in]` orientation
//! and positions in transformers' rotate-half order, so nothing is transposed or permuted.
//!
//! Folders are untrusted input: every header is bounded and checked before values are read, and the flat
//! vector is allocated only once the files are known to hold every tensor in its right shape, so it is never
//! more than twice the size of the files. This module never reaches for the network and never touches
//! tokenizers.

mod config_json;
mod error;
mod names;
mod read;
mod widen;
mod write;

use std::path::Path;

use super::config::ModelConfig;

pub use config_json::{ConfigJsonError, parse as parse_config, render as render_config};
pub use error::HfError;
pub use read::{read_config, read_weights};
pub use write::save;

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights file when there is only one.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the file that says which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Most shards read or written.
pub const MAX_SHARDS: usize = 256;
/// Largest `config.json` read, in bytes; real ones have one or two thousand.
pub const MAX_CONFIG_BYTES: u64 = 1 << 18;
/// Largest index or safetensors header read, in bytes. The deepest model accepted needs about half of it.
pub const MAX_JSON_BYTES: u64 = 4 << 20;

/// How every pointer of git-lfs begins (its specification, version 1).
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// Whether a file that begins so is a pointer of git-lfs, left in place of a file that was not fetched.
pub fn is_lfs_pointer(begins: &[u8]) -> bool {
    begins.starts_with(LFS_POINTER)
}

/// Reads a model folder: its configuration and its parameters in declared order.
///
/// # Errors
/// [`HfError`]: what is missing, malformed or not supported, and where.
pub fn load(dir: &Path) -> Result<(ModelConfig, Vec<f32>), HfError> {
    let config = read_config(dir)?;
    let layout = super::layout::Layout::new(&config).map_err(ConfigJsonError::from)?;
    let flat = read_weights(dir, &layout)?;
    Ok((config, flat))
}

#[cfg(test)]
mod tests;
