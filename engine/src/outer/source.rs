//! Where pseudo-gradients come from: anything that can give out a range of values, so that a compressed submission
//! need never be held decoded. Sources know nothing of clipping or averaging.

use std::ops::Range;

use super::OuterError;

/// A pseudo-gradient that is read piece by piece.
///
/// Reading the same range again gives the same values, whichever thread asks and in whatever order.
pub trait PseudoGradientSource {
    /// Number of parameters.
    fn params(&self) -> usize;

    /// Writes the values of the parameters in `range` to `out`, which is as long.
    ///
    /// # Errors
    /// [`SourceError`] if the range is not there or cannot be decoded.
    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), SourceError>;
}

/// Why a source did not give its values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The range does not fit the source or the buffer.
    #[error("parameters {start}..{end} into a buffer of {buffer} were asked of a source of {params}")]
    Range {
        /// First parameter asked for.
        start: usize,
        /// One behind the last.
        end: usize,
        /// Length of the buffer.
        buffer: usize,
        /// Parameters that the source has.
        params: usize,
    },
    /// What is behind the source failed.
    #[error(transparent)]
    Failed(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// A dense pseudo-gradient in memory.
impl PseudoGradientSource for &[f32] {
    fn params(&self) -> usize {
        self.len()
    }

    fn read(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        match self.get(range.clone()) {
            Some(values) if values.len() == out.len() => {
                out.copy_from_slice(values);
                Ok(())
            }
            _ => {
                let Range { start, end } = range;
                Err(SourceError::Range { start, end, buffer: out.len(), params: self.len() })
            }
        }
    }
}

/// Reads one block of a submission and refuses values that are not finite, on each pass anew: a source whose values
/// change must not get past the check.
pub(super) fn read_finite(
    submission: usize,
    gradient: &(dyn PseudoGradientSource + Sync),
    start: usize,
    out: &mut [f32],
) -> Result<(), OuterError> {
    gradient.read(start..start + out.len(), out).map_err(|error| OuterError::Source { submission, error })?;
    // the exponent is all ones exactly in infinities and NaN; a maximum over integers vectorises, a search does not
    let largest = out.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
    if largest < 0x7f80_0000 {
        return Ok(());
    }
    let offset = out.iter().position(|value| !value.is_finite()).unwrap_or(0);
    Err(OuterError::NotFinite { submission, parameter: start + offset })
}
