//! Windows: from a few numbers to the exact tokens of training steps, and from the tokens back to the deposits.
//!
//! A shard set, a mixture, a seed and a sequence length define one endless order of sequences; a window is a piece of it. The
//! order is integer arithmetic and a keyed permutation throughout, so a window is the same batch everywhere, and the n-th
//! sequence is found without those of the groups before it.
//!
//! # Definition
//!
//! With T the sequence length and `permute` of module `order`:
//!
//! ```text
//! register   sequences come in groups of 10,000. Sequence i of group g has slot s = permute(g, i mod 10000); the slots
//!            0 .. 10000 are shared out by the mixture in the order of registers. So every 10,000 sequences keep the mixture
//!            exactly. With a share of w, and m sequences of the register before it in the group, it is the register's
//!            sequence n = g w + m.
//! place      a register of N tokens has B = N / T - 1 blocks. Sequence n is block permute(register, e, n mod B) of
//!            epoch e = n / B, and begins at token o + T block, o in 0 .. T drawn for the epoch.
//! ```
//!
//! Within an epoch no two sequences share an input token, and every epoch cuts the text at other places. A register that is
//! read more than `max_epochs` times is refused. A sequence reads T + 1 tokens: its last target is the first input of the next.

mod attribution;
mod draw;
mod order;

pub use attribution::{Attribution, AttributionError, Share, attribution};
pub use draw::{Drawing, WindowError};
