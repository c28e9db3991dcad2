//! What cannot be encoded, and what is not an encoding.

use thiserror::Error;

/// A pseudo-gradient that cannot be compressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Infinite or NaN.
    #[error(
        "element {index} of the pseudo-gradient with its error feedback is not finite; the step diverged"
    )]
    NotFinite {
        /// Position in the whole vector.
        index: usize,
    },
    /// Error feedback of another length.
    #[error("the error feedback has {feedback} elements, the pseudo-gradient {gradient}")]
    Length {
        /// Elements of the error feedback.
        feedback: usize,
        /// Elements of the pseudo-gradient.
        gradient: usize,
    },
    /// Not a density.
    #[error("k = {0} is not in 1..=4096")]
    TopK(usize),
    /// Not a decay.
    #[error("the decay of the error feedback must be in 0..=1")]
    Decay,
}

/// Bytes that are not the encoding of a pseudo-gradient of the expected shape.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Shorter than a header.
    #[error("{0} bytes are too few for a pseudo-gradient")]
    Short(usize),
    /// Not our file.
    #[error("this is not a pseudo-gradient of version {}", super::VERSION)]
    Format,
    /// A pseudo-gradient of another run.
    #[error(
        "the pseudo-gradient has {params} parameters at k = {k}; {expected_params} at k = {expected_k} are expected"
    )]
    Shape {
        /// Parameters it claims.
        params: u64,
        /// Density it claims.
        k: usize,
        /// Parameters of the run.
        expected_params: usize,
        /// Density of the run.
        expected_k: usize,
    },
    /// A segment ends outside the file, or the file does not end with the last segment.
    #[error("segment {segment} of {segments} does not fit the file's length")]
    Length {
        /// The segment.
        segment: usize,
        /// Segments there must be.
        segments: usize,
    },
    /// The stream of a segment runs out, or does not end in the coder's first state with every byte used.
    #[error("segment {segment} is not a canonical code, at chunk {chunk}")]
    NotCanonical {
        /// The segment.
        segment: usize,
        /// Where it was noticed, counted within the segment.
        chunk: usize,
    },
    /// A position beyond the end of the vector.
    #[error("chunk {chunk} of segment {segment} has position {position} of {len}")]
    Position {
        /// The segment.
        segment: usize,
        /// The chunk within it.
        chunk: usize,
        /// The position.
        position: usize,
        /// Elements of the chunk.
        len: usize,
    },
    /// Asked for something that is not there.
    #[error("segment {segment} was asked for a buffer of {buffer} elements")]
    Request {
        /// The segment.
        segment: usize,
        /// Elements of the buffer.
        buffer: usize,
    },
}
