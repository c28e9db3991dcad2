//! The whole state of a worker between two steps.

use crate::merkle::{self, MerkleError, Section, StateDigest};
use crate::model::Layout;

/// Parameters and AdamW moments, each one flat vector in the layout's order, and how many steps the moments have seen.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Parameters.
    pub parameters: Vec<f32>,
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
    /// Updates the moments have seen; 0 for zero moments.
    pub updates: u32,
}

impl State {
    /// Given parameters with zero moments.
    pub fn fresh(parameters: Vec<f32>) -> Self {
        let n = parameters.len();
        Self { parameters, first: vec![0.0; n], second: vec![0.0; n], updates: 0 }
    }

    /// Whether all three vectors fit `layout`.
    pub fn fits(&self, layout: &Layout) -> bool {
        [&self.parameters, &self.first, &self.second].iter().all(|v| v.len() == layout.total())
    }

    /// How the state is cut into chunks for its digest.
    ///
    /// # Errors
    /// A state larger than any digest covers.
    pub fn chunks(&self) -> Result<merkle::Layout, MerkleError> {
        Self::layout(self.parameters.len() as u64)
    }

    /// How a state of `n` parameters is cut into chunks.
    pub(crate) fn layout(n: u64) -> Result<merkle::Layout, MerkleError> {
        let names = ["parameters", "first moments", "second moments"];
        merkle::Layout::new("training state", names.map(|name| Section::new(name, n)).into())
    }

    /// The digest a worker commits to: Merkle root over the chunks of parameters, first and second moments.
    ///
    /// # Errors
    /// Vectors of different lengths.
    pub fn digest(&self) -> Result<StateDigest, MerkleError> {
        merkle::state_digest(&self.chunks()?, &[&self.parameters, &self.first, &self.second])
    }
}
