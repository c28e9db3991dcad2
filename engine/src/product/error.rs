//! What can be wrong with a matrix product before it starts. The arithmetic itself never fails.

use super::isa::Isa;
use super::width::Precision;

/// Why an operand, an output or a product was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// Neither the rows nor the contraction axis lie next to each other in memory.
    #[error("strides {row} (rows) and {k} (contraction axis): one of them must be 1; copy the operand first")]
    Strides {
        /// Elements from one row to the next.
        row: usize,
        /// Elements from one step of the contraction axis to the next.
        k: usize,
    },
    /// The slice ends before the last element that shape and strides describe.
    #[error("the shape and strides reach {needed} elements but the slice holds {held}; correct the shape")]
    TooShort {
        /// Elements the slice must have.
        needed: usize,
        /// Elements it has.
        held: usize,
    },
    /// The contraction axis is longer than the exact accumulator allows.
    #[error("the contraction axis has {k} elements, at most {limit} are exact; cut the product in parts")]
    Contraction {
        /// Length asked for.
        k: usize,
        /// [`super::MAX_K`].
        limit: usize,
    },
    /// The number of elements overflows or exceeds [`super::MAX_ELEMENTS`].
    #[error("the operand or output has more than {limit} elements; cut the product in parts")]
    TooLarge {
        /// [`super::MAX_ELEMENTS`].
        limit: usize,
    },
    /// Two places of the output are the same element, or cannot cheaply be shown not to be.
    #[error(
        "stride {stride} of the output is below the {extent} elements one step covers, so results would overlap"
    )]
    Overlap {
        /// The stride that is too small.
        stride: usize,
        /// Elements covered by the axes inside it.
        extent: usize,
    },
    /// Operands, output or bias disagree about a length.
    #[error("{what}: {left} here but {right} there; both must be equal")]
    Mismatch {
        /// Which length.
        what: &'static str,
        /// Length on the first side.
        left: usize,
        /// Length on the second side.
        right: usize,
    },
    /// The operands were quantised for different precisions.
    #[error(
        "the left operand was quantised for {left}, the right one for {right}; quantise both for the same"
    )]
    Precisions {
        /// Precision of the left operand.
        left: Precision,
        /// Precision of the right operand.
        right: Precision,
    },
    /// The operands were quantised for different instruction sets, which may arrange integers differently.
    #[error(
        "the left operand was quantised for {left}, the right one for {right}; quantise both for the same"
    )]
    InstructionSets {
        /// Set of the left operand.
        left: Isa,
        /// Set of the right operand.
        right: Isa,
    },
    /// A causal hint whose sequence length does not fit the shape.
    #[error(
        "a causal hint of {seq} steps does not fit {rows} rows by {columns}: rows must be whole sequences"
    )]
    Causal {
        /// Steps of one sequence.
        seq: usize,
        /// Rows of the left operand.
        rows: usize,
        /// Columns of the output, or the contraction length.
        columns: usize,
    },
}
