//! The next checkpoint.

use watershed_engine::merkle::{self, Section};
use watershed_engine::outer::{OuterState, PseudoGradientSource, Submission, outer_step};
use watershed_engine::pseudo_gradient::Decoder;
use watershed_protocol::{Digest, SubmissionId};

use super::carried::digest;
use super::{RoundError, Workbench};

/// What an outer step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterResult {
    /// The parameters, and the velocity if there is momentum.
    pub state: OuterState,
    /// Merkle root of the parameters.
    pub checkpoint: Digest,
    /// Their loss on the run's held-out text.
    pub loss: f32,
}

/// Merkle root of parameters: the name of a checkpoint.
///
/// # Errors
/// None in practice.
pub fn checkpoint_digest(parameters: &[f32]) -> Result<Digest, RoundError> {
    let layout =
        merkle::Layout::new("checkpoint", vec![Section::new("parameters", parameters.len() as u64)])?;
    Ok(digest(merkle::state_digest(&layout, &[parameters])?))
}

impl Workbench {
    /// Averages the accepted submissions into the next checkpoint, and measures it. Each comes with its loss reduction, by which
    /// it is decided whose norm is too large.
    ///
    /// # Errors
    /// A submission that is none or lowers no loss, or no submission.
    pub fn outer(
        &mut self,
        state: &OuterState,
        accepted: &[(SubmissionId, f32, Vec<u8>)],
    ) -> Result<OuterResult, RoundError> {
        let k = self.settings.spec.compression.top_k as usize;
        let expected = watershed_engine::pseudo_gradient::Expected { params: self.settings.parameters(), k };
        let decoders: Vec<Decoder<'_>> =
            accepted.iter().map(|(.., bytes)| Decoder::new(bytes, expected)).collect::<Result<_, _>>()?;
        let submissions: Vec<Submission<'_>> = accepted
            .iter()
            .zip(&decoders)
            .map(|((id, gain, _), decoder)| Submission {
                id: id.to_bytes(),
                gradient: decoder as &(dyn PseudoGradientSource + Sync),
                weight: *gain,
            })
            .collect();
        let (state, _) = outer_step(state, &submissions, &self.settings.outer())?;
        self.measured(state)
    }

    /// A state with its digest and loss.
    ///
    /// # Errors
    /// Those of the device.
    pub fn measured(&mut self, state: OuterState) -> Result<OuterResult, RoundError> {
        let checkpoint = checkpoint_digest(&state.parameters)?;
        let loss = self.evaluate(&state.parameters)?;
        Ok(OuterResult { state, checkpoint, loss })
    }
}
