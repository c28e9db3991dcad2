//! A range asymmetric numeral system (Duda, arXiv 1311.2540): last in, first out, one 64-bit state, 32-bit words.
//!
//! The state stays in `2^32 .. 2^64`. The encoder starts at `2^32` and takes symbols in reverse; a decoder that has read
//! every symbol must be back at `2^32` with no words left. For one list of symbols there is exactly one stream.

/// Bits of a frequency: the frequencies of a distribution add to `2^16`.
pub(super) const BITS: u32 = 16;

/// Lower bound of the state.
const LOW: u64 = 1 << 32;

/// Writes symbols, the last first.
pub(super) struct Encoder {
    state: u64,
    words: Vec<u32>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { state: LOW, words: Vec::new() }
    }

    /// A symbol that occupies `start .. start + frequency` of `2^16`.
    #[inline(always)]
    pub(super) fn symbol(&mut self, start: u32, frequency: u32) {
        let frequency = u64::from(frequency);
        // freq << 48 overflows only for frequency 2^16, a certain symbol, which is never coded.
        if self.state >= frequency << 48 {
            self.words.push(self.state as u32);
            self.state >>= 32;
        }
        self.state = ((self.state / frequency) << BITS) + self.state % frequency + u64::from(start);
    }

    /// `bits <= 16` equally likely bits.
    #[inline(always)]
    pub(super) fn raw(&mut self, value: u32, bits: u32) {
        if self.state >> (64 - bits) != 0 {
            self.words.push(self.state as u32);
            self.state >>= 32;
        }
        self.state = (self.state << bits) | u64::from(value);
    }

    /// The stream: the state, then the words in the order a decoder needs them.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 4 * self.words.len());
        bytes.extend_from_slice(&self.state.to_le_bytes());
        for word in self.words.iter().rev() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Reads symbols.
pub(super) struct Decoder<'a> {
    state: u64,
    words: std::slice::ChunksExact<'a, u8>,
    exhausted: bool,
}

impl<'a> Decoder<'a> {
    /// None if the bytes cannot be a stream.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (state, words) = bytes.split_first_chunk::<8>()?;
        let state = u64::from_le_bytes(*state);
        let words = words.chunks_exact(4);
        (state >= LOW && words.remainder().is_empty()).then_some(Self { state, words, exhausted: false })
    }

    #[inline(always)]
    fn refill(&mut self) {
        if self.state < LOW {
            match self.words.next() {
                Some(w) => {
                    self.state = (self.state << 32) | u64::from(u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
                }
                // Noticed at the end of the chunk; until then any state will do.
                None => {
                    self.exhausted = true;
                    self.state = LOW;
                }
            }
        }
    }

    /// Where in `0 .. 2^16` the next symbol lies.
    #[inline(always)]
    pub(super) fn slot(&self) -> u32 {
        (self.state & 0xffff) as u32
    }

    /// Takes the symbol at `start .. start + frequency` that [`Decoder::slot`] lies in.
    #[inline(always)]
    pub(super) fn take(&mut self, start: u32, frequency: u32) {
        let slot = self.state & 0xffff;
        self.state = u64::from(frequency) * (self.state >> BITS) + slot - u64::from(start);
        self.refill();
    }

    #[inline(always)]
    pub(super) fn raw(&mut self, bits: u32) -> u32 {
        let value = (self.state & ((1 << bits) - 1)) as u32;
        self.state >>= bits;
        self.refill();
        value
    }

    /// Whether symbols were read that are not there.
    pub(super) fn exhausted(&self) -> bool {
        self.exhausted
    }

    /// Whether this is the end of a canonical stream.
    pub(super) fn finished(&self) -> bool {
        !self.exhausted && self.state == LOW && self.words.len() == 0
    }
}
