//! Work that causal attention makes useless: which columns and which steps a row needs. Changes no needed result.

use super::error::ProductError;

/// What the caller knows about rows `g * seq + t` of the left operand, `t` being the position in a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Causal {
    /// Nothing.
    #[default]
    None,
    /// Columns `j > t` of the output are not needed: they are set to `+0`. The output has `seq` columns.
    Output {
        /// Positions in a sequence.
        seq: usize,
    },
    /// Elements `k > t` of the left operand are zero. It has `seq` steps.
    Left {
        /// Positions in a sequence.
        seq: usize,
    },
}

impl Causal {
    /// Refuses a sequence length that does not fit the shape.
    pub(crate) fn check(self, rows: usize, columns: usize, k: usize) -> Result<(), ProductError> {
        let (seq, columns) = match self {
            Self::None => return Ok(()),
            Self::Output { seq } => (seq, columns),
            Self::Left { seq } => (seq, k),
        };
        if seq > 0 && seq == columns && rows.is_multiple_of(seq) {
            Ok(())
        } else {
            Err(ProductError::Causal { seq, rows, columns })
        }
    }

    /// The largest position among rows `row .. row + count`.
    fn latest(row: usize, count: usize, seq: usize) -> usize {
        let first = row % seq;
        (first + count - 1).min(seq - 1)
    }

    /// Whether any of the rows needs column `column` or a later one.
    pub(crate) fn rows_with_columns(self, row: usize, count: usize, column: usize) -> bool {
        match self {
            Self::Output { seq } => column <= Self::latest(row, count, seq),
            _ => true,
        }
    }

    /// How many of `pairs` steps the rows need; at least 1.
    pub(crate) fn pairs(self, row: usize, count: usize, pairs: usize) -> usize {
        match self {
            Self::Left { seq } => pairs.min(Self::latest(row, count, seq) / 2 + 1),
            _ => pairs,
        }
    }

    /// The last column row `row` needs, if that is not all.
    pub(crate) fn last_column(self, row: usize) -> Option<usize> {
        match self {
            Self::Output { seq } => Some(row % seq),
            _ => None,
        }
    }
}
