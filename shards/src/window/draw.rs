//! Expanding a window to token ranges.

use thiserror::Error;
use watershed_protocol::ShardSetId;
use watershed_protocol::data::{Register, Split, WindowSpec, WindowSpecError};

use super::order::Order;
use crate::shard::{Range, ShardSet};

/// Sequences of a group; the mixture holds exactly within each.
const GROUP: u64 = 10_000;

/// What keys are for.
const SLOTS: u8 = 1;
const BLOCKS: u8 = 2;

/// Why a window cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// Numbers out of range.
    #[error(transparent)]
    Spec(#[from] WindowSpecError),
    /// A window of another shard set.
    #[error("the window is of shard set {0}")]
    OtherSet(ShardSetId),
    /// A register with less text than two sequences.
    #[error(
        "{split} {register} has {tokens} tokens; sequences of {sequence_length} need at least {} of them. Leave the register \
         out of the mixture, or take shorter sequences", 2 * u64::from(*sequence_length)
    )]
    TooLittle {
        /// Stream: register.
        register: Register,
        /// Stream: split.
        split: Split,
        /// Tokens it has.
        tokens: u64,
        /// Tokens of a sequence.
        sequence_length: u32,
    },
    /// A register that would be read too often.
    #[error(
        "sequence {sequence} would read the {tokens} tokens of {split} {register} for the {}th time, and {max_epochs} times is \
         the limit. Give the register a smaller share, or allow more epochs", u64::from(*max_epochs) + 1
    )]
    Repeated {
        /// The sequence.
        sequence: u64,
        /// Stream: register.
        register: Register,
        /// Stream: split.
        split: Split,
        /// Tokens it has.
        tokens: u64,
        /// How often it may be read.
        max_epochs: u32,
    },
}

/// One register of a mixture.
#[derive(Clone, Debug)]
struct Part {
    register: Register,
    tokens: u64,
    /// Slots `from .. from + share` of every group.
    from: u64,
    share: u64,
    blocks: u64,
    /// Key and offset of the epoch that was used last.
    epoch: Option<(u64, Order, u32)>,
}

/// The order of sequences that a window is a piece of, with what was worked out for the last sequence kept for the next.
#[derive(Clone, Debug)]
pub struct Drawing {
    spec: WindowSpec,
    parts: Vec<Part>,
    group: Option<Group>,
}

/// The sequences of one group: for each its part, and how many sequences of that part come before it in the group.
#[derive(Clone, Debug)]
struct Group {
    number: u64,
    sequences: Vec<(u8, u16)>,
}

impl Group {
    fn new(seed: u64, number: u64, parts: &[Part]) -> Self {
        let order = Order::new(seed, SLOTS, [number, 0]);
        let mut counts = [0u16; Register::ALL.len()];
        let place = |i| {
            let slot = order.permute(i, GROUP);
            let part = parts.partition_point(|p| p.from + p.share <= slot);
            let before = counts.get_mut(part).map_or(0, |count| std::mem::replace(count, *count + 1));
            (part as u8, before)
        };
        Self { number, sequences: (0..GROUP).map(place).collect() }
    }
}

impl Drawing {
    /// For a window over a shard set, of which only the numbers of tokens matter.
    ///
    /// # Errors
    /// [`WindowError`] if the window is of another set, the numbers are out of range, or a register of the mixture has too
    /// little text.
    pub fn new(set: &ShardSet, spec: &WindowSpec) -> Result<Self, WindowError> {
        spec.check()?;
        if set.id() != Ok(spec.shards) {
            return Err(WindowError::OtherSet(spec.shards));
        }
        let length = u64::from(spec.sequence_length);
        let mut parts = Vec::new();
        let mut from = 0;
        for (register, share) in spec.mixture.parts() {
            let tokens = set.tokens(register, spec.split);
            let (share, blocks) = (u64::from(share), (tokens / length).saturating_sub(1));
            if blocks == 0 {
                let (split, sequence_length) = (spec.split, spec.sequence_length);
                return Err(WindowError::TooLittle { register, split, tokens, sequence_length });
            }
            parts.push(Part { register, tokens, from, share, blocks, epoch: None });
            from += share;
        }
        Ok(Self { spec: spec.clone(), parts, group: None })
    }

    /// How many sequences the order has before one would read a register too often.
    pub fn capacity(&self) -> u64 {
        let first_refused = |(i, part): (usize, &Part)| {
            let sequences = u128::from(part.blocks) * u128::from(self.spec.max_epochs);
            let share = u128::from(part.share.max(1));
            let group = u64::try_from(sequences / share).ok().filter(|g| *g < (1 << 63) / GROUP)?;
            let refused = (i as u8, (sequences % share) as u16);
            let place = Group::new(self.spec.seed, group, &self.parts)
                .sequences
                .iter()
                .position(|s| *s == refused)?;
            Some(group * GROUP + place as u64)
        };
        self.parts.iter().enumerate().filter_map(first_refused).min().unwrap_or(1 << 63)
    }

    /// The tokens of sequence number `i` of the order: `sequence_length + 1` of them.
    ///
    /// # Errors
    /// [`WindowError::Repeated`].
    pub fn sequence(&mut self, i: u64) -> Result<Range, WindowError> {
        let (spec, number) = (&self.spec, i / GROUP);
        if self.group.as_ref().is_none_or(|group| group.number != number) {
            self.group = Some(Group::new(spec.seed, number, &self.parts));
        }
        let place = self.group.as_ref().and_then(|group| group.sequences.get((i % GROUP) as usize));
        let found = place.and_then(|(at, before)| Some((self.parts.get_mut(usize::from(*at))?, *before)));
        let Some((part, before)) = found else {
            // The shares sum to the whole, so every slot has its part.
            return Err(WindowError::Spec(WindowSpecError::Overflow));
        };
        // It fits: i is below 2^63, and a share is at most the group.
        let n = number * part.share + u64::from(before);
        let epoch = n / part.blocks;
        if epoch >= u64::from(spec.max_epochs) {
            return Err(WindowError::Repeated {
                sequence: i,
                register: part.register,
                split: spec.split,
                tokens: part.tokens,
                max_epochs: spec.max_epochs,
            });
        }
        if part.epoch.as_ref().is_none_or(|(e, _, _)| *e != epoch) {
            let number = u64::from(part.register.number()) << 8 | u64::from(spec.split.number());
            let order = Order::new(spec.seed, BLOCKS, [number, epoch]);
            let offset = order.below(spec.sequence_length);
            part.epoch = Some((epoch, order, offset));
        }
        let (block, offset) = match &part.epoch {
            Some((_, order, offset)) => (order.permute(n % part.blocks, part.blocks), *offset),
            None => (0, 0),
        };
        let length = u64::from(spec.sequence_length);
        let first = u64::from(offset) + length * block;
        Ok(Range { register: part.register, split: spec.split, first, tokens: length + 1 })
    }

    /// The ranges of the window, in order.
    pub fn window(mut self) -> impl Iterator<Item = Result<Range, WindowError>> {
        let first = self.spec.first;
        let sequences = u64::from(self.spec.sequences);
        (first..first + sequences).map(move |i| self.sequence(i))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use watershed_protocol::data::Mixture;
    use watershed_protocol::{Digest, SnapshotId, TokenizerId};

    use super::*;
    use crate::shard::{Shard, Stream};

    /// A set with this many training tokens in narrative, technical and lyric.
    fn set(tokens: [u64; 3]) -> ShardSet {
        let registers = [Register::Narrative, Register::Technical, Register::Lyric];
        let stream = |(register, tokens)| Stream {
            split: Split::Train,
            register,
            shards: vec![Shard { sha256: Digest([0; 32]), tokens }],
        };
        ShardSet {
            snapshot: SnapshotId::of(b"s"),
            tokenizer: TokenizerId::of(b"t"),
            vocabulary: 256,
            separator: None,
            index: Digest([0; 32]),
            streams: registers.into_iter().zip(tokens).map(stream).collect(),
        }
    }

    fn spec(set: &ShardSet, mixture: &str, sequence_length: u32, sequences: u32) -> WindowSpec {
        WindowSpec {
            shards: set.id().unwrap(),
            split: Split::Train,
            mixture: mixture.parse().unwrap(),
            seed: 7,
            sequence_length,
            first: 0,
            sequences,
            max_epochs: 3,
        }
    }

    fn draw(set: &ShardSet, spec: &WindowSpec) -> Vec<Range> {
        Drawing::new(set, spec).unwrap().window().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_ten_thousand_sequences_keep_the_mixture_exactly() {
        let set = set([9_000_000; 3]);
        let spec = spec(&set, "narrative=1234,technical=8765,lyric=1", 16, 20_000);
        let ranges = draw(&set, &spec);
        for group in ranges.chunks(10_000) {
            let mut counts = BTreeMap::new();
            for range in group {
                *counts.entry(range.register).or_insert(0) += 1;
            }
            let expected = [(Register::Narrative, 1234), (Register::Technical, 8765), (Register::Lyric, 1)];
            assert_eq!(counts, BTreeMap::from(expected));
        }
        // And a small window does so within the error of drawing without replacement.
        let technical = ranges[..400].iter().filter(|r| r.register == Register::Technical).count() as f64;
        let deviation = (400.0 * 0.8765 * 0.1235f64).sqrt();
        assert!((technical - 350.6).abs() < 4.0 * deviation, "{technical}");
    }

    #[test]
    fn no_input_token_is_read_twice_in_an_epoch_and_nearly_all_are_read() {
        let (set, length) = (set([1_000; 3]), 10);
        let blocks = 99;
        let spec = WindowSpec { max_epochs: 2, ..spec(&set, "lyric=10000", length, 2 * blocks) };
        let ranges = draw(&set, &spec);
        let mut offsets = BTreeSet::new();
        for epoch in ranges.chunks(blocks as usize) {
            let mut inputs = BTreeSet::new();
            for range in epoch {
                assert!(range.first + range.tokens <= 1_000 && range.tokens == 11);
                assert!((range.first..range.first + 10).all(|token| inputs.insert(token)));
            }
            assert_eq!(inputs.len(), 990);
            offsets.insert(inputs.first().copied());
        }
        assert_eq!(offsets.len(), 2, "each epoch cuts the text at another place");
    }

    #[test]
    fn too_little_text_and_too_many_epochs_are_refused() {
        let set = set([1_000, 19, 1_000]);
        let little = Drawing::new(&set, &spec(&set, "technical=10000", 10, 1)).unwrap_err();
        assert!(matches!(little, WindowError::TooLittle { register: Register::Technical, tokens: 19, .. }));
        let other = WindowSpec { shards: ShardSetId::of(b"other"), ..spec(&set, "lyric=10000", 10, 1) };
        assert_eq!(Drawing::new(&set, &other).unwrap_err(), WindowError::OtherSet(other.shards));
        let absent = Drawing::new(&set, &spec(&set, "oral=10000", 10, 1)).unwrap_err();
        assert!(matches!(absent, WindowError::TooLittle { tokens: 0, .. }));
        let mut drawing = Drawing::new(&set, &spec(&set, "lyric=10000", 10, 1)).unwrap();
        assert_eq!(drawing.capacity(), 3 * 99);
        assert!((0..297).all(|i| drawing.sequence(i).is_ok()));
        assert!((297..20_000).all(|i| matches!(drawing.sequence(i), Err(WindowError::Repeated { .. }))));
    }

    proptest! {
        #[test]
        fn windows_of_one_order_join_and_stay_inside(
            first in 0u64..40_000, cut in 1u32..50, length in 1u32..40, seed: u64, share in 0u16..=10_000
        ) {
            let set = set([50_000, 60_000, 0]);
            let mixture = Mixture::try_from([share, 0, 10_000 - share, 0, 0, 0, 0]).unwrap();
            let whole = WindowSpec { mixture, first, seed, max_epochs: u32::MAX, ..spec(&set, "lyric=10000", length, 100) };
            let start = WindowSpec { sequences: cut, ..whole.clone() };
            let rest = WindowSpec { first: first + u64::from(cut), sequences: 100 - cut, ..whole.clone() };
            let joined = [draw(&set, &start), draw(&set, &rest)].concat();
            let all = draw(&set, &whole);
            prop_assert_eq!(&joined, &all);
            for range in all {
                prop_assert!(range.first + range.tokens <= set.tokens(range.register, Split::Train));
            }
        }

        #[test]
        fn the_capacity_ends_at_the_first_refusal(tokens in 200u64..20_000, share in 100u16..10_000) {
            let set = set([tokens, 20_000_000, 0]);
            let mixture = Mixture::try_from([share, 0, 10_000 - share, 0, 0, 0, 0]).unwrap();
            let mut drawing = Drawing::new(&set, &WindowSpec { mixture, ..spec(&set, "lyric=10000", 10, 1) }).unwrap();
            let capacity = drawing.capacity();
            for i in (0..capacity.min(2_000)).chain(capacity.saturating_sub(2_000)..capacity) {
                prop_assert!(drawing.sequence(i).is_ok(), "{} of {}", i, capacity);
            }
            prop_assert!(drawing.sequence(capacity).is_err());
        }
    }
}
