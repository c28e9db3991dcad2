//! Encoding and decoding speed of pseudo-gradients, one thread: `cargo bench --workspace --bench pseudo_gradient`.

use std::time::Instant;

use watershed_engine::pseudo_gradient::{Decoder, Expected, SEGMENT, compress};

/// Median of five runs, in seconds.
fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let Ok(threads) = threads else { return eprintln!("no thread pool") };
    println!("{:>12} {:>6} {:>14} {:>14} {:>10}", "parameters", "k", "encode M/s", "decode M/s", "smaller");
    for params in [10 << 20, 64 << 20] {
        let mut state = 1u64;
        let values: Vec<f32> = (0..params)
            .map(|_| {
                let mut sum = 0f32;
                for _ in 0..4 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    sum += (state >> 40) as f32 / 16_777_216.0 - 0.5;
                }
                sum * 1e-3
            })
            .collect();
        for k in [64, 512] {
            threads.install(|| {
                let mut feedback = vec![0f32; params];
                let mut bytes = Vec::new();
                let encode = median(|| {
                    if let Ok(b) = compress(&mut feedback, &values, 0.95, k) {
                        bytes = b;
                    }
                });
                // As the outer step does it: segment by segment into one buffer.
                let mut out = vec![0f32; SEGMENT];
                let mut sum = 0.0;
                let decode = median(|| {
                    let Ok(decoder) = Decoder::new(&bytes, Expected { params, k }) else { return };
                    for i in 0..decoder.segments() {
                        let length = SEGMENT.min(params - i * SEGMENT);
                        if decoder.segment(i, &mut out[..length]).is_ok() {
                            sum += out[0];
                        }
                    }
                });
                let m = params as f64 / 1e6;
                let smaller = (4 * params) as f64 / bytes.len() as f64;
                println!("{params:>12} {k:>6} {:>14.0} {:>14.0} {smaller:>10.2}", m / encode, m / decode);
                assert!(sum.is_finite());
            });
        }
    }
}
