//! The optimizer's update.

use cubecl::prelude::*;

use super::super::scalar::{adamw_first, adamw_parameter, adamw_second, flush};

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
