//! Moving between tokens and attention heads, with rotary positions.

use cubecl::prelude::*;

use super::super::scalar::flush;

/// Position of an element of a token's row among the heads: index of the head's row, see `split_heads`.
#[cube]
fn head_row(token: usize, column: usize, seq: usize, kv: usize, group: usize) -> usize {
    let b = token / seq;
    let t = token % seq;
    let mut row = ((b * kv + column / group) * group + column % group) * seq + t;
    if column >= kv * group + kv {
        row = (b * kv + column - kv * group - kv) * seq + t;
    } else if column >= kv * group {
        row = (b * kv + column - kv * group) * seq + t;
    }
    row
}

/// A unit for each pair of elements that rotate together.
#[cube(launch_unchecked)]
pub(crate) fn split_heads(
    qkv: &Tensor<f32>,
    rope: &Tensor<f32>,
    q: &mut Tensor<f32>,
    k: &mut Tensor<f32>,
    v: &mut Tensor<f32>,
    n: usize,
    seq: usize,
    kv: usize,
    group: usize,
    half: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let j = ABSOLUTE_POS % half;
        let columns = kv * group + 2usize * kv;
        let column = (ABSOLUTE_POS / half) % columns;
        let token = ABSOLUTE_POS / (half * columns);
        let from = (token * columns + column) * 2usize * half + j;
        let a = qkv[from];
        let b = qkv[from + half];
        let angle = (token % seq) * 2usize * half + j;
        let c = rope[angle];
        let s = rope[angle + half];
        let to = head_row(token, column, seq, kv, group) * 2usize * half + j;
        let x = flush(flush(a * c, zero) - flush(b * s, zero), zero);
        let y = flush(flush(b * c, zero) + flush(a * s, zero), zero);
        if column < kv * group {
            q[to] = x;
            q[to + half] = y;
        } else if column < kv * group + kv {
            k[to] = x;
            k[to + half] = y;
        } else {
            v[to] = a;
            v[to + half] = b;
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn merge_heads(
    q: &Tensor<f32>,
    k: &Tensor<f32>,
    v: &Tensor<f32>,
    rope: &Tensor<f32>,
    qkv: &mut Tensor<f32>,
    n: usize,
    seq: usize,
    kv: usize,
    group: usize,
    half: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let j = ABSOLUTE_POS % half;
        let columns = kv * group + 2usize * kv;
        let column = (ABSOLUTE_POS / half) % columns;
        let token = ABSOLUTE_POS / (half * columns);
        let to = (token * columns + column) * 2usize * half + j;
        let from = head_row(token, column, seq, kv, group) * 2usize * half + j;
        let angle = (token % seq) * 2usize * half + j;
        let c = rope[angle];
        let s = -rope[angle + half];
        if column < kv * group + kv {
            let mut a = k[from % k.len()];
            let mut b = k[(from + half) % k.len()];
            if column < kv * group {
                a = q[from];
                b = q[from + half];
            }
            qkv[to] = flush(flush(a * c, zero) - flush(b * s, zero), zero);
            qkv[to + half] = flush(flush(b * c, zero) + flush(a * s, zero), zero);
        } else {
            qkv[to] = v[from];
            qkv[to + half] = v[from + half];
        }
    }
}

/// Copies between outputs by head and outputs by token; `gather` selects the direction towards tokens.
#[cube(launch_unchecked)]
pub(crate) fn move_outputs(
    from: &Tensor<f32>,
    to: &mut Tensor<f32>,
    n: usize,
    seq: usize,
    kv: usize,
    group: usize,
    dh: usize,
    #[comptime] gather: bool,
) {
    if ABSOLUTE_POS < n {
        let j = ABSOLUTE_POS % dh;
        let column = (ABSOLUTE_POS / dh) % (kv * group);
        let token = ABSOLUTE_POS / (dh * kv * group);
        let by_head = head_row(token, column, seq, kv, group) * dh + j;
        if comptime!(gather) {
            to[ABSOLUTE_POS] = from[by_head];
        } else {
            to[by_head] = from[ABSOLUTE_POS];
        }
    }
}
