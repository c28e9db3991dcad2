//! The k largest magnitudes of a chunk.

use multiversion::multiversion;

/// Bit patterns of magnitudes order as the magnitudes do, so the k-th largest is found by bisection over 31 bits: each
/// pass counts, which vectorises, and nothing is moved.
///
/// The largest `t` with at least `k` of `magnitudes >= t`; `k` is at least 1 and at most their number.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn threshold(magnitudes: &[u32], k: u32) -> u32 {
    let mut t = 0u32;
    for bit in (0..31).rev() {
        let candidate = t | (1 << bit);
        let mut count = 0u32;
        for m in magnitudes {
            count += u32::from(*m >= candidate);
        }
        if count >= k {
            t = candidate;
            if count == k {
                break;
            }
        }
    }
    t
}

/// Elements looked at together when collecting: most blocks hold none.
const BLOCK: usize = 16;

/// Writes the positions of the `k` largest of `magnitudes` to `out` in ascending order. Of equal magnitudes the lower
/// positions are taken.
pub(super) fn select(magnitudes: &[u32], k: usize, out: &mut Vec<u16>) {
    out.clear();
    if k >= magnitudes.len() {
        out.extend(0..magnitudes.len() as u16);
        return;
    }
    let t = threshold(magnitudes, k as u32);
    collect(magnitudes, t, out);
    // Bisection stops early when the count is exact; otherwise there are too many elements equal to the threshold.
    let mut surplus = out.len() - k;
    if surplus > 0 {
        let mut kept = Vec::with_capacity(k);
        for position in out.iter().rev() {
            if surplus > 0 && magnitudes[*position as usize] == t {
                surplus -= 1;
            } else {
                kept.push(*position);
            }
        }
        kept.reverse();
        *out = kept;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn collect(magnitudes: &[u32], t: u32, out: &mut Vec<u16>) {
    for (block, values) in magnitudes.chunks(BLOCK).enumerate() {
        let mut largest = 0;
        for m in values {
            largest = if *m > largest { *m } else { largest };
        }
        if largest >= t {
            for (i, m) in values.iter().enumerate() {
                if *m >= t {
                    out.push((block * BLOCK + i) as u16);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_sorting(values in prop::collection::vec(prop_oneof![0u32..8, 0u32..0x7f80_0000], 1..500), k in 1usize..500) {
            let k = k.min(values.len());
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*b].cmp(&values[*a]).then(a.cmp(b)));
            let mut expected: Vec<u16> = order[..k].iter().map(|i| *i as u16).collect();
            expected.sort_unstable();
            let mut found = Vec::new();
            select(&values, k, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
