//! What a miner carries from one round to the next: error feedback and optimizer moments.

use watershed_engine::merkle::{self, Section, StateDigest};
use watershed_engine::moments;
use watershed_engine::train::State;
use watershed_protocol::Digest;

use super::RoundError;

/// Error feedback, and moments in their 8-bit form.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Error feedback of every parameter.
    pub feedback: Vec<f32>,
    /// Encoded moments; empty for zeros.
    pub moments: Vec<u8>,
    /// Updates that the moments have seen.
    pub updates: u32,
}

/// How error feedback is cut into chunks.
pub(crate) fn feedback_layout(parameters: usize) -> Result<merkle::Layout, RoundError> {
    Ok(merkle::Layout::new("error feedback", vec![Section::new("error feedback", parameters as u64)])?)
}

/// How carried moments are cut into chunks.
pub(crate) fn moments_layout(parameters: usize) -> Result<merkle::Layout, RoundError> {
    let sections = ["first moments", "second moments"].map(|name| Section::new(name, parameters as u64));
    Ok(merkle::Layout::new("carried moments", sections.into())?)
}

pub(crate) fn digest(digest: StateDigest) -> Digest {
    Digest(digest.0)
}

impl Carried {
    /// A newcomer's.
    pub fn zero(parameters: usize) -> Self {
        Self { feedback: vec![0.0; parameters], moments: Vec::new(), updates: 0 }
    }

    /// First and second moments, as they read back.
    ///
    /// # Errors
    /// [`RoundError::MomentsRead`].
    pub fn decoded(&self) -> Result<(Vec<f32>, Vec<f32>), RoundError> {
        decode_moments(&self.moments, self.feedback.len())
    }

    /// The state from which a round begins.
    ///
    /// # Errors
    /// [`RoundError::MomentsRead`].
    pub fn start(&self, checkpoint: &[f32]) -> Result<State, RoundError> {
        let (first, second) = self.decoded()?;
        Ok(State { parameters: checkpoint.to_vec(), first, second, updates: self.updates })
    }

    /// Merkle root of the error feedback.
    ///
    /// # Errors
    /// None in practice.
    pub fn feedback_digest(&self) -> Result<Digest, RoundError> {
        let layout = feedback_layout(self.feedback.len())?;
        Ok(digest(merkle::state_digest(&layout, &[&self.feedback])?))
    }

    /// Merkle root of the moments as they read back.
    ///
    /// # Errors
    /// [`RoundError::MomentsRead`].
    pub fn moments_digest(&self) -> Result<Digest, RoundError> {
        let (first, second) = self.decoded()?;
        moments_digest(&first, &second)
    }
}

/// Merkle root of decoded moments.
pub(crate) fn moments_digest(first: &[f32], second: &[f32]) -> Result<Digest, RoundError> {
    Ok(digest(merkle::state_digest(&moments_layout(first.len())?, &[first, second])?))
}

/// Moments from their 8-bit form, of which none stands for zeros.
pub(crate) fn decode_moments(bytes: &[u8], parameters: usize) -> Result<(Vec<f32>, Vec<f32>), RoundError> {
    if bytes.is_empty() {
        return Ok((vec![0.0; parameters], vec![0.0; parameters]));
    }
    let moments = moments::decode(bytes, parameters)?;
    Ok((moments.first, moments.second))
}
