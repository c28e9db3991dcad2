//! What a snapshot, a shard set or a window is made of, and how much of it cannot be traced to a consent.
//!
//! The provenance erasure rate is the share of tokens that cannot be traced to a deposit whose consent was in force; it is 0
//! unless a manifest or statement is missing, damaged or contradicted. Diversity is the effective number of kinds, the
//! exponential of the Shannon entropy of their shares (Hill 1973, order 1): n kinds of equal shares count n.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;
use watershed_protocol::data::{ConsentTier, Deposit, WindowSpec};

use crate::library::{Library, LibraryError};
use crate::shard::{OpenError, OpenSet};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::trace::{Tracer, trace};
use crate::window::{Drawing, WindowError};

/// Why there is no measure.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// The catalogue.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The shard set.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The window.
    #[error(transparent)]
    Window(#[from] WindowError),
}

/// The composition of a snapshot (in bytes of text), or of a shard set or window (in tokens).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Composition {
    /// What is counted.
    pub unit: &'static str,
    /// All of it.
    pub total: u64,
    /// What cannot be traced to a deposit whose consent was in force.
    pub untraceable: u64,
    /// `untraceable / total`; 0 of nothing is 0.
    pub provenance_erasure_rate: f64,
    /// What comes from deposits that were in force at the time of the snapshot and have been withdrawn since.
    pub withdrawn_since: u64,
    /// Different deposits.
    pub deposits: u64,
    /// By split and register, `train/oral` say.
    pub by_register: BTreeMap<String, u64>,
    /// By language tag.
    pub by_language: BTreeMap<String, u64>,
    /// By licence.
    pub by_license: BTreeMap<String, u64>,
    /// By contributor's public key.
    pub by_contributor: BTreeMap<String, u64>,
    /// By consent tier at the time of the snapshot.
    pub by_tier: BTreeMap<String, u64>,
    /// Effective number of registers.
    pub effective_registers: f64,
    /// Effective number of contributors.
    pub effective_contributors: f64,
}

/// `exp(-sum p ln p)` of shares `p`. A figure for people: nothing is decided by it.
fn effective(counts: impl Iterator<Item = u64> + Clone) -> f64 {
    let total: f64 = counts.clone().map(|n| n as f64).sum();
    let entropy: f64 = counts.filter(|n| *n > 0).map(|n| n as f64 / total).map(|p| -p * p.ln()).sum();
    if total > 0.0 { entropy.exp() } else { 0.0 }
}

/// Counts up a composition.
struct Counter<'a> {
    library: &'a Library,
    snapshot: &'a Snapshot,
    all: Composition,
    registers: BTreeMap<u8, u64>,
}

impl<'a> Counter<'a> {
    fn new(library: &'a Library, snapshot: &'a Snapshot, unit: &'static str) -> Self {
        Self {
            library,
            snapshot,
            all: Composition { unit, ..Composition::default() },
            registers: BTreeMap::new(),
        }
    }

    /// Adds `count` units of a deposit, of `None` if they cannot be traced.
    fn add(&mut self, deposit: Option<&Deposit>, count: u64) -> Result<(), LibraryError> {
        let all = &mut self.all;
        all.total += count;
        all.deposits += 1;
        let found = deposit.and_then(|d| Some((d, self.snapshot.get(d.id())?)));
        let Some((deposit, entry)) = found else {
            all.untraceable += count;
            return Ok(());
        };
        let manifest = deposit.manifest();
        let add = |map: &mut BTreeMap<String, u64>, key: String| *map.entry(key).or_default() += count;
        add(&mut all.by_register, format!("{}/{}", entry.split, entry.register));
        add(&mut all.by_language, manifest.language.clone());
        add(&mut all.by_license, manifest.license.text().to_owned());
        add(&mut all.by_contributor, manifest.contributor.to_string());
        add(&mut all.by_tier, entry.consent.tier.to_string());
        *self.registers.entry(entry.register.number()).or_default() += count;
        if self.library.consent(deposit.id())?.tier == ConsentTier::None {
            all.withdrawn_since += count;
        }
        Ok(())
    }

    fn finish(mut self) -> Composition {
        let all = &mut self.all;
        all.effective_registers = effective(self.registers.values().copied());
        all.effective_contributors = effective(all.by_contributor.values().copied());
        if all.total > 0 {
            all.provenance_erasure_rate = all.untraceable as f64 / all.total as f64;
        }
        self.all
    }
}

/// What a snapshot is made of, in bytes of text.
///
/// # Errors
/// [`MeasureError`] if the catalogue cannot be read; damaged manifests are counted, not errors.
pub fn of_snapshot(library: &Library, snapshot: &Snapshot) -> Result<Composition, MeasureError> {
    let mut counter = Counter::new(library, snapshot, "bytes");
    for entry in snapshot.entries() {
        counter.add(trace(library.store(), &entry).ok().as_ref(), entry.bytes)?;
    }
    Ok(counter.finish())
}

/// What a shard set is made of, in tokens.
///
/// # Errors
/// [`MeasureError`].
pub fn of_set(library: &Library, set: &OpenSet) -> Result<Composition, MeasureError> {
    let snapshot = library.store().snapshot(set.set().snapshot)?;
    let mut counter = Counter::new(library, &snapshot, "tokens");
    let mut tracer = Tracer::new(library.store(), &snapshot);
    for entry in set.index()?.entries() {
        counter.add(tracer.tokens(&entry), entry.tokens)?;
    }
    Ok(counter.finish())
}

/// What a window is made of, in tokens read.
///
/// # Errors
/// [`MeasureError`].
pub fn of_window(library: &Library, set: &OpenSet, spec: &WindowSpec) -> Result<Composition, MeasureError> {
    let snapshot = library.store().snapshot(set.set().snapshot)?;
    let index = set.index()?;
    let mut read = BTreeMap::new();
    for range in Drawing::new(set.set(), spec)?.window() {
        let range = range?;
        for (entry, tokens) in index.overlapping(range.register, range.split, range.first, range.tokens) {
            read.entry(entry.manifest).or_insert((entry, 0)).1 += tokens;
        }
    }
    let mut counter = Counter::new(library, &snapshot, "tokens");
    let mut tracer = Tracer::new(library.store(), &snapshot);
    for (entry, tokens) in read.into_values() {
        counter.add(tracer.tokens(&entry), tokens)?;
    }
    Ok(counter.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_count_as_many_and_one_as_one() {
        assert!((effective([5, 5, 5, 0].into_iter()) - 3.0).abs() < 1e-12);
        assert!((effective([9].into_iter()) - 1.0).abs() < 1e-12);
        let uneven = effective([99, 1].into_iter());
        assert!(1.0 < uneven && uneven < 1.1, "{uneven}");
        assert_eq!(effective([].into_iter()), 0.0);
    }
}
