//! Parts of the kernels that plain loops express well enough for the compiler to vectorise, inlined by each set.

use super::super::output::Rect;
use super::super::pack::PANEL;
use super::{Columns, Scales};

/// A subnormal becomes a zero of the same sign.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// See [`super::Kernel::finish_wide`]. The f64 product is exact: 53 bits times powers of two within `2^-228 ..= 2^242`.
#[inline(always)]
pub(super) fn finish_wide(sums: &[f64], scales: &Scales<'_>, out: &mut Rect<'_>) {
    for (r, sums) in sums.chunks_exact(PANEL).enumerate().take(out.rows()) {
        let scale = f64::from(scales.rows[r]);
        let mut row: Columns = [0.0; PANEL];
        for c in 0..PANEL {
            let value = sums[c] * scale * f64::from(scales.columns[c]);
            // the comparison comes before rounding, so a value that would round up to 2^-126 is still zero
            row[c] = if value.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { value as f32 };
        }
        write(&row, scales.bias, out.row(r));
    }
}

/// Writes one row of results after adding the bias.
#[inline(always)]
pub(super) fn write(row: &Columns, bias: Option<&Columns>, out: &mut [f32]) {
    let mut row = *row;
    if let Some(bias) = bias {
        for c in 0..PANEL {
            row[c] = flush(row[c] + bias[c]);
        }
    }
    let columns = out.len().min(PANEL);
    out[..columns].copy_from_slice(&row[..columns]);
}
