//! Speed of the exact matrix product: multiply-adds per second with and without quantising, for the shapes of training.
//!
//! `cargo bench -p watershed-engine --bench product`. Each figure is the best of several repetitions, on one thread and on
//! two, for the instruction set that training uses for the shape and the next slower one, and how they compare. The last columns
//! are the times to quantise the left operand from both layouts and the right one, in ns per element.

use std::hint::black_box;
use std::time::{Duration, Instant};

use watershed_engine::product::{
    Batch, Isa, LeftOperand, Options, Output, Precision, ProductError, RightOperand, View, product,
};

/// Seconds of one call of `work`, the best of as many as fit in a fraction of a second.
fn best(mut work: impl FnMut() -> Result<(), ProductError>) -> Result<f64, ProductError> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    let mut calls = 0;
    while calls < 3 || (start.elapsed() < Duration::from_millis(150) && calls < 10_000) {
        let one = Instant::now();
        work()?;
        best = best.min(one.elapsed().as_secs_f64());
        calls += 1;
    }
    Ok(best)
}

/// Numbers between -1 and 1 from a small generator.
fn numbers(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2_147_483_648.0
    };
    (0..len).map(|_| next()).collect()
}

fn shape(items: usize, m: usize, n: usize, k: usize) -> Result<(), ProductError> {
    let (a, b) = (numbers(items * m * k), numbers(items * n * k));
    let mut data = vec![0f32; items * m * n];
    let mut out = Output::new(&mut data, m, n, n, Batch::of(items, m * n))?;
    let left = View::new(&a, m, k, k, 1, Batch::of(items, m * k))?;
    let left_transposed = View::new(&a, m, k, 1, m, Batch::of(items, m * k))?;
    let right = View::new(&b, n, k, k, 1, Batch::of(items, n * k))?;
    let work = (items * m * n * k) as f64 / 1e9;
    let sets = Isa::available();
    let at = sets.iter().position(|&set| set == Isa::best_for(k)).unwrap_or_default();
    for precision in [Precision::P8X8, Precision::P12X12, Precision::P8X16, Precision::P16X16] {
        print!("{items:3} x {m:5} x {n:5} x {k:5}  {:>5} ", precision.to_string());
        let mut seconds = Vec::new();
        for &isa in &sets[at.saturating_sub(1)..=at] {
            let (mut qa, mut qb) = (LeftOperand::default(), RightOperand::default());
            let quantise = |qa: &mut LeftOperand, qb: &mut RightOperand| {
                qa.refill_with(&left, precision, isa)?;
                qb.refill_with(&right, precision, isa)
            };
            quantise(&mut qa, &mut qb)?;
            let multiply = best(|| product(&qa, &qb, &mut out, &Options::default()))?;
            let whole = best(|| {
                quantise(&mut qa, &mut qb)?;
                product(&qa, &qb, &mut out, &Options::default())
            })?;
            print!("{isa:>11} {:6.1} {:6.1}  ", work / multiply, work / whole);
            seconds.push((multiply, whole));
        }
        if let [(slow, slow_whole), (fast, fast_whole)] = seconds[..] {
            print!("{:4.2} {:4.2} times  ", slow / fast, slow_whole / fast_whole);
        }
        let (mut qa, mut qb) = (LeftOperand::default(), RightOperand::default());
        let elements = (items * m * k) as f64 / 1e9;
        let row_major = best(|| qa.refill(&left, precision))? / elements;
        let transposed = best(|| qa.refill(&left_transposed, precision))? / elements;
        let right_time = best(|| qb.refill(&right, precision))? / (items * n * k) as f64 * 1e9;
        println!("{row_major:5.3} {transposed:5.3} {right_time:5.3}");
    }
    black_box(&data);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for threads in [1, 2] {
        println!("{threads} thread(s), {}", Isa::best());
        println!(
            "batch x  m   x   n   x   k  bits; set, 10^9 multiply-adds per second without and with quantising, twice; how the sets \
             compare; ns per element: left rows, left columns, right"
        );
        rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| {
            for (items, m, n, k) in [
                (1, 1024, 128, 128),
                (1, 1024, 384, 128),
                (1, 1024, 128, 384),
                (1, 1024, 1024, 1024),
                (32, 128, 128, 32),
                (32, 128, 32, 128),
                (1, 1024, 8192, 128),
                (1, 1024, 128, 8192),
            ] {
                shape(items, m, n, k)?;
            }
            Ok::<_, ProductError>(())
        })?;
    }
    Ok(())
}
