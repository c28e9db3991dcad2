//! Opened chunks: the values of 4096 parameters at every place where a miner has committed to them.

use serde::{Deserialize, Serialize};
use watershed_engine::merkle::{self, CHUNK_ELEMENTS, Layout, StateDigest, Tree};
use watershed_engine::train::State;
use watershed_protocol::{Digest, Wire};

use super::carried::{feedback_layout, moments_layout};
use super::{Carried, RoundError};

/// Values with the path to a committed root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// At most 4096 of them.
    #[serde(deserialize_with = "watershed_protocol::list")]
    pub values: Vec<f32>,
    /// Hashes beside the path, from the leaf up.
    #[serde(deserialize_with = "watershed_protocol::list")]
    pub siblings: Vec<[u8; 32]>,
}

/// One chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedChunk {
    /// Which, from 0.
    pub chunk: u64,
    /// Parameters, first and second moments in the state before the first step.
    pub start: [Part; 3],
    /// The same in the state after the last step.
    pub end: [Part; 3],
    /// First and second moments carried into the round; only their paths matter to a newcomer's verifier.
    pub moments_before: [Part; 2],
    /// First and second moments carried out of it.
    pub moments_after: [Part; 2],
    /// Error feedback before.
    pub feedback_before: Part,
    /// Error feedback after.
    pub feedback_after: Part,
}

/// The chunks that one validator asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenedChunks {
    /// In the order asked.
    #[serde(deserialize_with = "watershed_protocol::list")]
    pub chunks: Vec<OpenedChunk>,
}

impl Wire for OpenedChunks {
    const NAME: &'static str = "watershed/opened-chunks";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 16 << 20;
}

/// Vectors with their tree.
struct Committed<'a> {
    layout: Layout,
    tree: Tree,
    sections: Vec<&'a [f32]>,
}

impl<'a> Committed<'a> {
    fn new(layout: Layout, sections: Vec<&'a [f32]>) -> Result<Self, RoundError> {
        let tree = Tree::new(&layout, merkle::leaf_hashes(&layout, &sections)?)?;
        Ok(Self { layout, tree, sections })
    }

    fn part(&self, section: usize, chunk: u64) -> Result<Part, RoundError> {
        let index = leaf(&self.layout, section, chunk)?;
        let place = self.layout.place(index)?;
        let values = self.sections.get(section).copied().unwrap_or_default();
        let start = place.start as usize;
        let values = values.get(start..start + place.len).ok_or(RoundError::NoChunk(chunk))?.to_vec();
        Ok(Part { values, siblings: self.tree.open(index)?.siblings })
    }
}

/// Number of the leaf of chunk `chunk` of section `section`.
fn leaf(layout: &Layout, section: usize, chunk: u64) -> Result<u64, RoundError> {
    let leaves = |elements: u64| elements.div_ceil(CHUNK_ELEMENTS as u64);
    let before: u64 = layout.sections().iter().take(section).map(|s| leaves(s.elements)).sum();
    match layout.sections().get(section) {
        Some(s) if chunk < leaves(s.elements) => Ok(before + chunk),
        _ => Err(RoundError::NoChunk(chunk)),
    }
}

/// Opens chunks of a round that went from `start` to `end`, and from `before` to `after`.
///
/// # Errors
/// [`RoundError::NoChunk`].
pub fn open_chunks(
    chunks: &[u64],
    (start, end): (&State, &State),
    (before, after): (&Carried, &Carried),
) -> Result<OpenedChunks, RoundError> {
    let n = start.parameters.len();
    let starts = Committed::new(start.chunks()?, vec![&start.parameters, &start.first, &start.second])?;
    let ends = Committed::new(end.chunks()?, vec![&end.parameters, &end.first, &end.second])?;
    let (before_first, before_second) = before.decoded()?;
    let (after_first, after_second) = after.decoded()?;
    let moments_before = Committed::new(moments_layout(n)?, vec![&before_first, &before_second])?;
    let moments_after = Committed::new(moments_layout(n)?, vec![&after_first, &after_second])?;
    let feedback_before = Committed::new(feedback_layout(n)?, vec![&before.feedback])?;
    let feedback_after = Committed::new(feedback_layout(n)?, vec![&after.feedback])?;
    let open = |&chunk: &u64| {
        let three = |c: &Committed<'_>| {
            Ok::<_, RoundError>([c.part(0, chunk)?, c.part(1, chunk)?, c.part(2, chunk)?])
        };
        let two = |c: &Committed<'_>| Ok::<_, RoundError>([c.part(0, chunk)?, c.part(1, chunk)?]);
        Ok(OpenedChunk {
            chunk,
            start: three(&starts)?,
            end: three(&ends)?,
            moments_before: two(&moments_before)?,
            moments_after: two(&moments_after)?,
            feedback_before: feedback_before.part(0, chunk)?,
            feedback_after: feedback_after.part(0, chunk)?,
        })
    };
    Ok(OpenedChunks { chunks: chunks.iter().map(open).collect::<Result<_, RoundError>>()? })
}

impl Part {
    /// Whether it is what `root` commits to.
    pub(crate) fn is_of(&self, root: Digest, layout: &Layout, section: usize, chunk: u64) -> bool {
        let Ok(index) = leaf(layout, section, chunk) else { return false };
        let opening = merkle::Opening { siblings: self.siblings.clone() };
        merkle::verify(&StateDigest(root.0), layout, index, &self.values, &opening).is_ok()
    }
}
