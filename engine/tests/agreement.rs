//! The CPU and a device behind wgpu agree in every bit.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

mod common;

use common::{settings, shapes, start, tokens, values, wgpu};
use watershed_engine::burn::tensor::{Device, Tensor, TensorData};
use watershed_engine::model::Profile;
use watershed_engine::ops::kernels::ProductJob;
use watershed_engine::ops::tensor::product;
use watershed_engine::product::{Causal, Precision, View, reference};
use watershed_engine::selftest::{self, Vector};
use watershed_engine::train::Trainer;

#[test]
fn every_operation_has_the_bits_of_the_contract() {
    let cpu = selftest::check(&Device::flex()).unwrap();
    let gpu = selftest::check(&wgpu()).unwrap();
    assert_eq!(cpu, gpu);
}

#[test]
fn every_operation_agrees_on_other_inputs_and_shapes() {
    let gpu = wgpu();
    // Nearly everything 1, sizes on both sides of those that kernels are made for, and larger ones.
    for scale in [(1, 10_000), (1, 12), (2, 5), (31, 33), (32, 31), (7, 4)] {
        for (seed, subnormals) in [(1, false), (2, false), (3, true)] {
            let vector = Vector { seed, scale, subnormals };
            let [a, b] = [Device::flex(), gpu.clone()].map(|device| selftest::run(&device, vector).unwrap());
            let differs = a.iter().zip(&b).find(|(a, b)| a != b).map(|(a, _)| a.operation);
            assert_eq!(differs, None, "{vector:?}");
            assert_eq!(a.len(), selftest::EXPECTED.len());
        }
    }
}

#[test]
fn five_steps_of_three_shapes_agree_in_every_parameter_and_moment() {
    let gpu = wgpu();
    for (name, config) in shapes() {
        for precision in ["12x12", "16x16"] {
            let (layout, state) = start(&config);
            let profile = Profile::Exact(precision.parse().unwrap());
            let mut on = [Device::flex(), gpu.clone()]
                .map(|device| Trainer::new(layout.clone(), profile, settings(), &device, &state).unwrap());
            let mut first = 0.0;
            let mut last = 0.0;
            for step in 0..5 {
                let tokens = tokens(&config, 2, 33, 0);
                let [a, b] = on.each_mut().map(|t| t.step(step, &tokens).unwrap());
                assert_eq!(a.loss.to_bits(), b.loss.to_bits(), "{name} {precision}: loss of step {step}");
                assert_eq!(
                    a.gradient_norm.to_bits(),
                    b.gradient_norm.to_bits(),
                    "{name}: norm of step {step}"
                );
                let [a, b] = on.each_ref().map(|t| t.state().unwrap());
                for (x, y) in [(&a.parameters, &b.parameters), (&a.first, &b.first), (&a.second, &b.second)] {
                    assert!(x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits()), "{name}: step {step}");
                }
                assert_eq!(a.digest().unwrap(), b.digest().unwrap());
                // hashed where the state lies
                for device in &on {
                    assert_eq!(device.digest().unwrap(), a.digest().unwrap(), "{name}: step {step}");
                }
                assert_ne!(a.digest().unwrap(), state.digest().unwrap());
                (first, last) = if step == 0 { (a_loss(&on), 0.0) } else { (first, a_loss(&on)) };
            }
            assert!(last < first, "{name} {precision}: the loss does not fall, {first} to {last}");
        }
    }
}

fn a_loss(on: &[Trainer; 2]) -> f32 {
    let config = *on[0].decoder().layout().config();
    let parameters = on[0].state().unwrap().parameters;
    let [loss] = on[0].evaluate(&parameters, [&[tokens(&config, 2, 33, 0)]]).unwrap();
    loss
}

/// Zeros, subnormals, ordinary numbers and numbers up to 30 binades away, without any pattern a device could exploit.
fn hostile(n: usize, seed: &mut u64) -> Vec<f32> {
    (0..n)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (kind, mantissa) = (*seed >> 60, (*seed >> 30) as u32 & 0x7f_ffff);
            let sign = (*seed >> 29) as u32 & 0x8000_0000;
            let exponent = match kind {
                0 | 1 => return f32::from_bits(sign),
                2 => return f32::from_bits(sign | mantissa),
                3..=8 => 97 + (*seed >> 20) as u32 % 61,
                _ => 126,
            };
            f32::from_bits(sign | (exponent << 23) | mantissa)
        })
        .collect()
}

#[test]
fn products_of_every_width_agree_with_the_definition_on_hostile_numbers() {
    let gpu = wgpu();
    let mut seed = 7;
    for (k, m, n) in [(1, 3, 2), (2, 1, 1), (31, 5, 33), (511, 4, 3), (513, 3, 5), (1025, 7, 2), (5000, 2, 3)]
    {
        for width in ["8x8", "8x16", "9x13", "12x12", "16x16"] {
            let precision: Precision = width.parse().unwrap();
            let (a, b) = (hostile(m * k, &mut seed), hostile(n * k, &mut seed));
            let expected = {
                let view = |v, rows| View::row_major(v, rows, k).unwrap();
                reference::product(&view(&a, m), &view(&b, n), precision, None)
            };
            for device in [Device::flex(), gpu.clone()] {
                let tensor = |v: &[f32], rows| {
                    Tensor::<3>::from_data(TensorData::new(v.to_vec(), [1, rows, k]), &device)
                };
                let (causal, off) = (Causal::None, false);
                let job = ProductJob { left_transposed: off, right_transposed: off, precision, causal };
                let plain = product(tensor(&a, m), tensor(&b, n), job);
                let job = ProductJob { left_transposed: true, right_transposed: true, ..job };
                let transposed = |t: Tensor<3>| Tensor::from_data(t.swap_dims(1, 2).into_data(), &device);
                let other = product(transposed(tensor(&a, m)), transposed(tensor(&b, n)), job);
                for found in [values(plain), values(other)] {
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&found), bits(&expected), "{width}, k = {k}");
                }
            }
        }
    }
}
