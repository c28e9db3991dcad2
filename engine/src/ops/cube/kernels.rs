//! The row-wise and elementwise kernels. What each computes is defined in [`crate::ops::kernels`].
//!
//! `zero` is a zero that the device's compiler cannot see: passing an intermediate through `flush(x, zero)` keeps it from
//! being contracted or reassociated.

use cubecl::prelude::*;

use super::reduce::{lane_max, lane_tree, my_row};
use super::scalar::{
    adamw_first, adamw_parameter, adamw_second, exp_bits, flush, ln_bits, recip_bits, rsqrt_bits,
    sigmoid_bits,
};

/// `flush(a + b)`; `b` repeats every `period` elements.
#[cube(launch_unchecked)]
pub(crate) fn add(
    a: &Tensor<f32>,
    b: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    period: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        out[ABSOLUTE_POS] = flush(a[ABSOLUTE_POS] + b[ABSOLUTE_POS % period], zero);
    }
}

/// One lane of a column sum: unit `lane * width + column` adds the rows `lane, lane + 32, ..`.
#[cube(launch_unchecked)]
pub(crate) fn column_lanes(
    x: &Tensor<f32>,
    lanes: &mut Tensor<f32>,
    n: usize,
    rows: usize,
    width: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let lane = ABSOLUTE_POS / width;
        let column = ABSOLUTE_POS % width;
        let mut sum = 0.0f32;
        let steps = (rows + 31usize - lane) / 32usize;
        for i in 0..steps {
            sum = flush(sum + x[(lane + i * 32usize) * width + column], zero);
        }
        lanes[ABSOLUTE_POS] = sum;
    }
}

/// Adds the 32 lanes of each column pairwise; a workgroup for a column.
#[cube(launch_unchecked)]
pub(crate) fn column_tree(lanes: &Tensor<f32>, out: &mut Tensor<f32>, width: usize, zero: u32) {
    let column = my_row(width);
    let sum = lane_tree(lanes[UNIT_POS as usize * width + column], zero);
    if UNIT_POS == 0u32 {
        out[column] = sum;
    }
}

/// Sums of rows of `width` elements of `x [n]`, the last row may be short; squared or not; scaled.
#[cube(launch_unchecked)]
pub(crate) fn row_sums(
    x: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    rows: usize,
    width: usize,
    scale: f32,
    zero: u32,
    #[comptime] square: bool,
    #[comptime] scaled: bool,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let from = row * width;
    let mut end = from + width;
    if end > n {
        end = n;
    }
    let mut at = from + lane;
    let mut sum = 0.0f32;
    while at < end {
        let mut value = flush(x[at], zero);
        if comptime!(square) {
            value = flush(value * value, zero);
        }
        sum = flush(sum + value, zero);
        at += 32usize;
    }
    let sum = lane_tree(sum, zero);
    if lane == 0usize {
        if comptime!(scaled) {
            out[row] = flush(sum * scale, zero);
        } else {
            out[row] = sum;
        }
    }
}

#[cube(launch_unchecked)]
pub(crate) fn rms_norm(
    x: &Tensor<f32>,
    w: &Tensor<f32>,
    y: &mut Tensor<f32>,
    r: &mut Tensor<f32>,
    rows: usize,
    d: usize,
    inverse: f32,
    eps: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * d;
    let steps = (d + 31usize - lane) / 32usize;
    let mut sum = 0.0f32;
    for i in 0..steps {
        let v = x[base + lane + i * 32usize];
        sum = flush(sum + flush(v * v, zero), zero);
    }
    let sum = lane_tree(sum, zero);
    let mean = flush(flush(sum * inverse, zero) + eps, zero);
    let scale = f32::from_bits(rsqrt_bits(mean.to_bits()));
    for i in 0..steps {
        let at = lane + i * 32usize;
        y[base + at] = flush(flush(x[base + at] * scale, zero) * w[at], zero);
    }
    if lane == 0usize {
        r[row] = scale;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn rms_norm_backward(
    dy: &Tensor<f32>,
    x: &Tensor<f32>,
    w: &Tensor<f32>,
    r: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    products: &mut Tensor<f32>,
    rows: usize,
    d: usize,
    inverse: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * d;
    let steps = (d + 31usize - lane) / 32usize;
    let scale = r[row];
    let mut sum = 0.0f32;
    for i in 0..steps {
        let at = lane + i * 32usize;
        let h = flush(x[base + at] * scale, zero);
        let g = flush(dy[base + at] * w[at], zero);
        sum = flush(sum + flush(g * h, zero), zero);
    }
    let c = flush(lane_tree(sum, zero) * inverse, zero);
    for i in 0..steps {
        let at = lane + i * 32usize;
        let h = flush(x[base + at] * scale, zero);
        let g = flush(dy[base + at] * w[at], zero);
        products[base + at] = flush(dy[base + at] * h, zero);
        dx[base + at] = flush(flush(g - flush(h * c, zero), zero) * scale, zero);
    }
}

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

#[cube(launch_unchecked)]
pub(crate) fn softmax(s: &Tensor<f32>, p: &mut Tensor<f32>, rows: usize, seq: usize, scale: f32, zero: u32) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * seq;
    let seen = row % seq + 1usize;
    let mut max = f32::from_bits(0xff7fffffu32);
    let mut at = lane;
    while at < seen {
        let z = flush(s[base + at] * scale, zero);
        if z > max {
            max = z;
        }
        at += 32usize;
    }
    let max = lane_max(max);
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < seen {
        let z = flush(s[base + at] * scale, zero);
        let e = f32::from_bits(exp_bits(flush(z - max, zero).to_bits()));
        p[base + at] = e;
        sum = flush(sum + e, zero);
        at += 32usize;
    }
    let r = f32::from_bits(recip_bits(lane_tree(sum, zero).to_bits()));
    let mut at = lane;
    while at < seen {
        p[base + at] = flush(p[base + at] * r, zero);
        at += 32usize;
    }
    while at < seq {
        p[base + at] = 0.0f32;
        at += 32usize;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn softmax_backward(
    p: &Tensor<f32>,
    dp: &Tensor<f32>,
    ds: &mut Tensor<f32>,
    rows: usize,
    seq: usize,
    scale: f32,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * seq;
    let seen = row % seq + 1usize;
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < seen {
        sum = flush(sum + flush(dp[base + at] * p[base + at], zero), zero);
        at += 32usize;
    }
    let c = lane_tree(sum, zero);
    let mut at = lane;
    while at < seen {
        let inner = flush(dp[base + at] - c, zero);
        ds[base + at] = flush(flush(p[base + at] * inner, zero) * scale, zero);
        at += 32usize;
    }
    while at < seq {
        ds[base + at] = 0.0f32;
        at += 32usize;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn swiglu(gate_up: &Tensor<f32>, h: &mut Tensor<f32>, n: usize, f: usize, zero: u32) {
    if ABSOLUTE_POS < n {
        let at = (ABSOLUTE_POS / f) * 2usize * f + ABSOLUTE_POS % f;
        let g = gate_up[at];
        let s = f32::from_bits(sigmoid_bits(g.to_bits(), zero));
        h[ABSOLUTE_POS] = flush(flush(g * s, zero) * gate_up[at + f], zero);
    }
}

#[cube(launch_unchecked)]
pub(crate) fn swiglu_backward(
    gate_up: &Tensor<f32>,
    dh: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    f: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let at = (ABSOLUTE_POS / f) * 2usize * f + ABSOLUTE_POS % f;
        let g = gate_up[at];
        let d = dh[ABSOLUTE_POS];
        let s = f32::from_bits(sigmoid_bits(g.to_bits(), zero));
        out[at + f] = flush(d * flush(g * s, zero), zero);
        let slope = flush(1.0f32 - s, zero);
        let slope = flush(1.0f32 + flush(g * slope, zero), zero);
        let slope = flush(s * slope, zero);
        out[at] = flush(flush(d * gate_up[at + f], zero) * slope, zero);
    }
}

#[cube(launch_unchecked)]
pub(crate) fn embedding(table: &Tensor<f32>, ids: &Tensor<i32>, out: &mut Tensor<f32>, n: usize, d: usize) {
    if ABSOLUTE_POS < n {
        let row = ids[ABSOLUTE_POS / d] as usize;
        out[ABSOLUTE_POS] = table[row * d + ABSOLUTE_POS % d];
    }
}

#[cube(launch_unchecked)]
pub(crate) fn embedding_backward(
    dy: &Tensor<f32>,
    order: &Tensor<i32>,
    offsets: &Tensor<i32>,
    out: &mut Tensor<f32>,
    n: usize,
    d: usize,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let row = ABSOLUTE_POS / d;
        let column = ABSOLUTE_POS % d;
        let from = offsets[row] as usize;
        let to = offsets[row + 1usize] as usize;
        let mut sum = 0.0f32;
        for i in from..to {
            sum = flush(sum + dy[order[i] as usize * d + column], zero);
        }
        out[ABSOLUTE_POS] = sum;
    }
}

#[cube(launch_unchecked)]
pub(crate) fn cross_entropy(
    x: &Tensor<f32>,
    targets: &Tensor<i32>,
    losses: &mut Tensor<f32>,
    stats: &mut Tensor<f32>,
    rows: usize,
    v: usize,
    zero: u32,
) {
    let row = my_row(rows);
    let lane = UNIT_POS as usize;
    let base = row * v;
    let mut max = f32::from_bits(0xff7fffffu32);
    let mut at = lane;
    while at < v {
        if x[base + at] > max {
            max = x[base + at];
        }
        at += 32usize;
    }
    let max = lane_max(max);
    let mut sum = 0.0f32;
    let mut at = lane;
    while at < v {
        let e = f32::from_bits(exp_bits(flush(x[base + at] - max, zero).to_bits()));
        sum = flush(sum + e, zero);
        at += 32usize;
    }
    let total = lane_tree(sum, zero);
    if lane == 0usize {
        let z = flush(x[base + targets[row] as usize] - max, zero);
        losses[row] = flush(f32::from_bits(ln_bits(total.to_bits())) - z, zero);
        stats[2usize * row] = max;
        stats[2usize * row + 1usize] = f32::from_bits(recip_bits(total.to_bits()));
    }
}

#[cube(launch_unchecked)]
pub(crate) fn cross_entropy_backward(
    x: &Tensor<f32>,
    targets: &Tensor<i32>,
    stats: &Tensor<f32>,
    seed: &Tensor<f32>,
    out: &mut Tensor<f32>,
    n: usize,
    v: usize,
    inverse: f32,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let row = ABSOLUTE_POS / v;
        let column = ABSOLUTE_POS % v;
        let scale = flush(seed[0usize] * inverse, zero);
        let z = flush(x[ABSOLUTE_POS] - stats[2usize * row], zero);
        let mut p = flush(f32::from_bits(exp_bits(z.to_bits())) * stats[2usize * row + 1usize], zero);
        if column == targets[row] as usize {
            p = flush(p - 1.0f32, zero);
        }
        out[ABSOLUTE_POS] = flush(p * scale, zero);
    }
}

#[cube(launch_unchecked)]
pub(crate) fn adamw(
    p: &Tensor<f32>,
    g: &Tensor<f32>,
    m: &Tensor<f32>,
    v: &Tensor<f32>,
    new_p: &mut Tensor<f32>,
    new_m: &mut Tensor<f32>,
    new_v: &mut Tensor<f32>,
    n: usize,
    gradient_scale: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    c1: f32,
    c2: f32,
    eps_squared: f32,
    lr: f32,
    lr_decay: f32,
    zero: u32,
) {
    if ABSOLUTE_POS < n {
        let at = ABSOLUTE_POS;
        let gradient = flush(flush(g[at], zero) * gradient_scale, zero);
        let first = adamw_first(m[at], gradient, beta1, one_minus_beta1, zero);
        let second = adamw_second(v[at], gradient, beta2, one_minus_beta2, zero);
        new_m[at] = first;
        new_v[at] = second;
        new_p[at] = adamw_parameter(p[at], first, second, c1, c2, eps_squared, lr, lr_decay, zero);
    }
}
