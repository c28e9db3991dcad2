//! From a window back to the deposits that it reads.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;
use watershed_protocol::ManifestId;
use watershed_protocol::data::{Register, WindowSpec};

use super::draw::{Drawing, WindowError};
use crate::shard::{OpenError, OpenSet};

/// What one deposit gave to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The deposit.
    pub deposit: ManifestId,
    /// Its register.
    pub register: Register,
    /// Tokens read from it, each reading counted.
    pub tokens: u64,
}

/// Every deposit that a window reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribution {
    /// By deposit; the tokens sum to those of the window.
    pub shares: Vec<Share>,
    /// Tokens that the window reads: sequences times sequence length plus one.
    pub tokens: u64,
}

/// Why a window cannot be attributed.
#[derive(Debug, Error)]
pub enum AttributionError {
    /// It cannot be drawn.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// Its shard set cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Lists what each deposit gives to a window.
///
/// # Errors
/// [`AttributionError`].
pub fn attribution(set: &OpenSet, spec: &WindowSpec) -> Result<Attribution, AttributionError> {
    let index = set.index()?;
    let mut shares: BTreeMap<ManifestId, Share> = BTreeMap::new();
    let mut tokens = 0;
    for range in Drawing::new(set.set(), spec)?.window() {
        let range = range?;
        tokens += range.tokens;
        for (entry, count) in index.overlapping(range.register, range.split, range.first, range.tokens) {
            let fresh = Share { deposit: entry.manifest, register: entry.register, tokens: 0 };
            shares.entry(entry.manifest).or_insert(fresh).tokens += count;
        }
    }
    Ok(Attribution { shares: shares.into_values().collect(), tokens })
}
