//! BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020, "BLAKE3: one function, fast everywhere") of whole leaves of a
//! state. A leaf is 16 of BLAKE3's chunks of 1 KiB, so its tree is full: [`chunks`] hashes them, a unit for each, and
//! [`pairs`] joins neighbours until one is left.

use cubecl::prelude::*;

/// `f32` values in one of BLAKE3's chunks.
pub(crate) const CHUNK_VALUES: usize = 256;

/// Blocks of 16 words in a chunk.
const BLOCKS: usize = 16;
/// Words of a chaining value.
pub(crate) const WORDS: usize = 8;
/// Words of a block.
const BLOCK: usize = 16;
/// Bytes of a block, for all blocks here are full.
const BLOCK_BYTES: u32 = 64;
const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
/// Flag of a node above two others.
pub(crate) const PARENT: u32 = 4;
/// Flag of the node whose chaining value is the hash.
pub(crate) const ROOT: u32 = 8;

/// The initial chaining value: that of SHA-256.
const IV: [u32; WORDS] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Which word of the block stands at which place in which round: each round permutes the words of the one before.
const SCHEDULE: [[usize; BLOCK]; 7] = {
    const PERMUTATION: [usize; BLOCK] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut schedule = [[0; BLOCK]; 7];
    let mut place = 0;
    while place < BLOCK {
        let (mut round, mut word) = (0, place);
        while round < 7 {
            schedule[round][place] = word;
            word = PERMUTATION[word];
            round += 1;
        }
        place += 1;
    }
    schedule
};

#[cube]
fn rotate_right(x: u32, #[comptime] by: u32) -> u32 {
    (x >> by) | (x << comptime!(32 - by))
}

/// The quarter round of words `a`, `b`, `c` and `d`.
#[cube]
fn mix(
    v: &mut Array<u32>,
    x: u32,
    y: u32,
    #[comptime] a: usize,
    #[comptime] b: usize,
    #[comptime] c: usize,
    #[comptime] d: usize,
) {
    v[a] = v[a] + v[b] + x;
    v[d] = rotate_right(v[d] ^ v[a], 16u32);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 12u32);
    v[a] = v[a] + v[b] + y;
    v[d] = rotate_right(v[d] ^ v[a], 8u32);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 7u32);
}

/// Takes one full block into the chaining value.
#[cube]
fn compress(chaining: &mut Array<u32>, block: &Array<u32>, counter: u32, flags: u32) {
    let mut v = Array::<u32>::new(16usize);
    #[unroll]
    for i in 0..8usize {
        v[i] = chaining[i];
    }
    #[unroll]
    for i in 0..4usize {
        v[comptime!(8 + i)] = comptime!(IV[i]).runtime();
    }
    v[12usize] = counter;
    v[13usize] = 0u32;
    v[14usize] = comptime!(BLOCK_BYTES).runtime();
    v[15usize] = flags;
    #[unroll]
    for round in 0..7usize {
        #[unroll]
        for i in 0..4usize {
            let x = block[comptime!(SCHEDULE[round][2 * i])];
            let y = block[comptime!(SCHEDULE[round][2 * i + 1])];
            mix(&mut v, x, y, i, comptime!(4 + i), comptime!(8 + i), comptime!(12 + i));
        }
        #[unroll]
        for i in 0..4usize {
            let x = block[comptime!(SCHEDULE[round][8 + 2 * i])];
            let y = block[comptime!(SCHEDULE[round][9 + 2 * i])];
            mix(
                &mut v,
                x,
                y,
                i,
                comptime!(4 + (i + 1) % 4),
                comptime!(8 + (i + 2) % 4),
                comptime!(12 + (i + 3) % 4),
            );
        }
    }
    #[unroll]
    for i in 0..8usize {
        chaining[i] = v[i] ^ v[comptime!(8 + i)];
    }
}

#[cube]
fn initial() -> Array<u32> {
    let mut chaining = Array::<u32>::new(8usize);
    #[unroll]
    for i in 0..8usize {
        chaining[i] = comptime!(IV[i]).runtime();
    }
    chaining
}

/// Writes the unit's chaining value.
#[cube]
fn store(chaining: &Array<u32>, out: &mut Tensor<u32>) {
    #[unroll]
    for i in 0..8usize {
        out[ABSOLUTE_POS * 8usize + i] = chaining[i];
    }
}

/// `values` are `n` chunks, 16 to a leaf; `out [n, 8]` are their chaining values.
#[cube(launch_unchecked)]
pub(crate) fn chunks(values: &Tensor<f32>, out: &mut Tensor<u32>, n: usize) {
    if ABSOLUTE_POS < n {
        let counter = (ABSOLUTE_POS % 16usize) as u32;
        let start = ABSOLUTE_POS * comptime!(CHUNK_VALUES);
        let mut chaining = initial();
        let mut block = Array::<u32>::new(16usize);
        for b in 0..comptime!(BLOCKS) {
            #[unroll]
            for i in 0..16usize {
                block[i] = values[start + b * 16usize + i].to_bits();
            }
            let mut flags = 0u32;
            if b == 0usize {
                flags = comptime!(CHUNK_START).runtime();
            }
            if b == comptime!(BLOCKS - 1) {
                flags = comptime!(CHUNK_END).runtime();
            }
            compress(&mut chaining, &block, counter, flags);
        }
        store(&chaining, out);
    }
}

/// `below` are `2 n` chaining values of 8 words; `out` those of the `n` nodes above each two.
#[cube(launch_unchecked)]
pub(crate) fn pairs(below: &Tensor<u32>, out: &mut Tensor<u32>, n: usize, flags: u32) {
    if ABSOLUTE_POS < n {
        let mut chaining = initial();
        let mut block = Array::<u32>::new(16usize);
        #[unroll]
        for i in 0..16usize {
            block[i] = below[ABSOLUTE_POS * 16usize + i];
        }
        compress(&mut chaining, &block, 0u32, flags);
        store(&chaining, out);
    }
}
