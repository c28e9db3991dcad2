//! Every instruction set this machine has against the reference, bit for bit.

use proptest::prelude::*;

use super::*;

/// A small generator, so that a test's data depend on its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }
    /// A number with a biased exponent in the range, any mantissa and sign.
    fn float(&mut self, exponents: std::ops::Range<u32>) -> f32 {
        let exponent = exponents.start + self.next() % (exponents.end - exponents.start);
        f32::from_bits((self.next() & 0x807f_ffff) | (exponent << 23))
    }
}

/// What the elements of a matrix are like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ordinary,
    Wide,
    Zeros,
    Subnormal,
    Giant,
    Poisoned,
    Ties,
    Tiny,
    Huge,
    Extreme,
    Everything,
}

const KINDS: [Kind; 11] = [
    Kind::Ordinary,
    Kind::Wide,
    Kind::Zeros,
    Kind::Subnormal,
    Kind::Giant,
    Kind::Poisoned,
    Kind::Ties,
    Kind::Tiny,
    Kind::Huge,
    Kind::Extreme,
    Kind::Everything,
];

fn fill(kind: Kind, len: usize, random: &mut Random) -> Vec<f32> {
    (0..len)
        .map(|_| match kind {
            Kind::Ordinary => random.float(120..128),
            Kind::Wide => random.float(97..158),
            Kind::Zeros => [0.0, -0.0, 1.0][random.below(3) & random.below(3)],
            Kind::Subnormal => random.float(0..2),
            Kind::Giant => {
                let exponents = if random.below(40) == 0 { 200..201 } else { 90..128 };
                random.float(exponents)
            }
            Kind::Poisoned => match random.below(60) {
                0 => f32::INFINITY,
                1 => f32::from_bits(0xff80_0001 | random.next() & 0x7f_ffff),
                _ => random.float(120..128),
            },
            // multiples of half a unit of several widths
            Kind::Ties => (random.below(1 << 13) as f32 - 4096.0) / 8192.0 + [0.0, 0.5][random.below(2)],
            // rows around the smallest that counts, products around the smallest normal number
            Kind::Tiny => random.float(25..70),
            Kind::Huge => random.float(185..192),
            Kind::Extreme => [f32::MAX, -f32::MAX, 1.0, f32::MIN_POSITIVE][random.below(4)],
            Kind::Everything => f32::from_bits(random.next()),
        })
        .collect()
}

fn precision(a: u32, b: u32) -> Precision {
    Precision { a: Width::new(a).unwrap(), b: Width::new(b).unwrap() }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Computes on one instruction set, into memory that held garbage.
fn compute(
    left: &View<'_>,
    right: &View<'_>,
    precision: Precision,
    bias: Option<&[f32]>,
    causal: Causal,
    isa: Isa,
) -> Vec<f32> {
    let (m, n) = (left.rows(), right.rows());
    let mut data = vec![f32::NAN; left.items() * m * n];
    let mut out = Output::new(&mut data, m, n, n, Batch::of(left.items(), m * n)).unwrap();
    let (mut a, mut b) = (LeftOperand::default(), RightOperand::default());
    // leftovers of another operand must not show
    let dirt = vec![f32::NAN; 3 * 70];
    a.refill_with(&View::row_major(&dirt, 70, 3).unwrap(), precision, isa).unwrap();
    b.refill_with(&View::row_major(&dirt, 70, 3).unwrap(), precision, isa).unwrap();
    a.refill_with(left, precision, isa).unwrap();
    b.refill_with(right, precision, isa).unwrap();
    product(&a, &b, &mut out, &Options { bias, causal }).unwrap();
    data
}

/// Checks all instruction sets against the reference.
#[track_caller]
fn check(left: &View<'_>, right: &View<'_>, precision: Precision, bias: Option<&[f32]>) {
    let expected = bits(&reference::product(left, right, precision, bias));
    for isa in Isa::available() {
        let got = bits(&compute(left, right, precision, bias, Causal::None, isa));
        if let Some(i) = (0..got.len()).find(|&i| got[i] != expected[i]) {
            let (m, n, k) = (left.rows(), right.rows(), left.k());
            panic!("{isa} {precision} {m}x{n}x{k}: element {i} is {:08x}, not {:08x}", got[i], expected[i]);
        }
    }
}

/// A matrix in either layout.
fn view(data: &[f32], transposed: bool, rows: usize, k: usize) -> View<'_> {
    if transposed { View::transposed(data, rows, k) } else { View::row_major(data, rows, k) }.unwrap()
}

#[test]
fn every_kind_of_number_in_every_layout() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for left in KINDS {
        for right in KINDS {
            let (m, n, k) = (1 + random.below(20), 1 + random.below(40), 1 + random.below(70));
            let (a, b) = (fill(left, m * k, &mut random), fill(right, n * k, &mut random));
            let layouts = random.below(4);
            let p =
                [Precision::P8X8, Precision::P12X12, Precision::P8X16, Precision::P16X16][random.below(4)];
            check(&view(&a, layouts & 1 == 1, m, k), &view(&b, layouts & 2 == 2, n, k), p, None);
        }
    }
}

#[test]
fn every_precision() {
    let mut random = Random(77);
    for a_bits in 8..=16 {
        for b_bits in 8..=16 {
            let (m, n, k) = (13, 33, 40 + random.below(60));
            let (a, b) = (fill(Kind::Ordinary, m * k, &mut random), fill(Kind::Ties, n * k, &mut random));
            check(
                &view(&a, a_bits % 2 == 0, m, k),
                &view(&b, b_bits % 2 == 0, n, k),
                precision(a_bits, b_bits),
                None,
            );
        }
    }
}

/// All products as large as they can be and of one sign: any lane too narrow would wrap around.
#[test]
fn largest_sums_do_not_overflow() {
    for (a_bits, b_bits, k) in [
        (8, 8, 5000),
        (12, 12, 2048),
        (8, 16, 2049),
        (16, 8, 2048),
        (16, 16, 4100),
        (14, 14, 333),
        (16, 12, 333),
        (12, 16, 333),
        (13, 16, 1999),
        (16, 13, 1999),
        (15, 14, 3000),
    ] {
        let (a, b) = (vec![1.999_999_9f32; 13 * k], vec![-1.999_999_9f32; 17 * k]);
        check(&view(&a, false, 13, k), &view(&b, true, 17, k), precision(a_bits, b_bits), None);
    }
}

#[test]
fn contraction_lengths_from_nothing_to_thousands() {
    let mut random = Random(5);
    for (i, k) in (0..70).chain([127, 128, 255, 511, 512, 513, 1023, 1024, 1025, 2047, 5000]).enumerate() {
        let (m, n) = if k > 600 { (3, 5) } else { (1 + i % 14, 1 + (7 * i) % 35) };
        let (a, b) = (fill(Kind::Wide, m * k, &mut random), fill(Kind::Ordinary, n * k, &mut random));
        let p = [Precision::P12X12, Precision::P16X16, Precision::P8X8][i % 3];
        check(&view(&a, i % 2 == 1, m, k), &view(&b, i % 4 > 1, n, k), p, None);
    }
}

#[test]
fn shapes_around_blocks_and_panels() {
    let mut random = Random(9);
    for m in [1, 2, 3, 5, 11, 12, 13, 16, 23, 24, 47, 48, 49, 64, 95, 97] {
        for n in [1, 8, 15, 16, 17, 31, 32, 33, 48, 49, 65] {
            let k = 1 + random.below(37);
            let (a, b) = (fill(Kind::Ordinary, m * k, &mut random), fill(Kind::Ordinary, n * k, &mut random));
            check(&view(&a, m % 2 == 0, m, k), &view(&b, n % 2 == 0, n, k), Precision::P12X12, None);
        }
    }
    let nothing: [f32; 0] = [];
    check(&view(&nothing, false, 0, 5), &view(&[1.0; 5], false, 1, 5), Precision::P12X12, None);
    check(&view(&[1.0; 5], true, 1, 5), &view(&nothing, true, 0, 5), Precision::P12X12, None);
    check(&view(&nothing, true, 3, 0), &view(&nothing, false, 2, 0), Precision::P16X16, Some(&[1.0, -0.0]));
}

/// With 16 bits, 1.0 is `2^14` units, so `1 + x * y` is `2^28 + x * y` units, and f32 numbers are 32 of them apart.
#[test]
fn rounding_ties_of_the_result() {
    let unit = 2f32.powi(-14);
    for (x, y, expected) in [
        (4, 4, 1.0),
        (12, 4, 1.0 + 2f32.powi(-22)),
        (20, 4, 1.0 + 2f32.powi(-22)),
        (17, 1, 1.0 + 2f32.powi(-23)),
        (15, 1, 1.0),
        (-4, 2, 1.0),
        (-12, 2, 1.0 - 2f32.powi(-23)),
    ] {
        let (a, b) = ([1.0, x as f32 * unit], [1.0, y as f32 * unit]);
        let (left, right) = (view(&a, false, 1, 2), view(&b, false, 1, 2));
        assert_eq!(reference::product(&left, &right, Precision::P16X16, None), [expected], "{x} {y}");
        check(&left, &right, Precision::P16X16, None);
    }
}

/// Scales at the ends of the f32 range: values just below and above `2^-126`, and beyond the largest f32.
#[test]
fn results_at_the_ends_of_the_range() {
    let mut seen = [0; 4];
    for (a_power, b_power) in [
        (-63, -63),
        (-64, -62),
        (-100, -26),
        (-99, -27),
        (63, 64),
        (64, 64),
        (127, 0),
        (100, 27),
        (-100, 127),
        (127, -100),
    ] {
        for p in [Precision::P8X8, Precision::P12X12, Precision::P16X16] {
            let (a_scale, b_scale) = (2f64.powi(a_power) as f32, 2f64.powi(b_power) as f32);
            // b = 1 and fractions of it, so sums lie on both sides of the power of two
            let a: Vec<f32> = [1.0, 1.0, -1.0, 1.0, 0.99, 1.99].iter().map(|x| x * a_scale).collect();
            let b: Vec<f32> = [[1.0, 0.0], [1.0, -0.01], [1.0, 1.0], [0.5, 0.25], [1.0, -1.0]]
                .iter()
                .flatten()
                .map(|x| x * b_scale)
                .collect();
            let (left, right) = (view(&a, false, 3, 2), view(&b, false, 5, 2));
            check(&left, &right, p, None);
            for x in reference::product(&left, &right, p, None) {
                seen[0] += usize::from(x == 0.0);
                seen[1] += usize::from(x.abs() == f32::MIN_POSITIVE);
                seen[2] += usize::from(x.is_infinite());
                seen[3] += usize::from(x.is_normal());
            }
        }
    }
    assert!(seen.iter().all(|&n| n > 5), "the cases are meant to reach every end: {seen:?}");
}

/// `2^-126 * (1 - 2^-28)` would round up to the smallest normal number, but it lies below it.
#[test]
fn smallness_is_decided_before_rounding() {
    let unit = 2f32.powi(-14);
    let (a_scale, b_scale) = (2f32.powi(-70), 2f32.powi(-56));
    let a = [1.0, unit, -1.0, -unit, 1.0, 0.0].map(|x| x * a_scale);
    let b = [1.0, -unit].map(|x| x * b_scale);
    let (left, right) = (view(&a, false, 3, 2), view(&b, false, 1, 2));
    let expected = [0.0, 0.0, f32::MIN_POSITIVE];
    assert_eq!(bits(&reference::product(&left, &right, Precision::P16X16, None)), bits(&expected));
    check(&left, &right, Precision::P16X16, None);
}

#[test]
fn a_poisoned_row_spoils_its_own_results_only() {
    let (m, n, k) = (50, 70, 9);
    let (mut a, mut b) = (vec![1.0f32; m * k], vec![1.0f32; n * k]);
    a[49 * k + 3] = f32::NEG_INFINITY;
    b[33 * k] = f32::from_bits(0xffc0_0001);
    for isa in Isa::available() {
        let got = compute(
            &view(&a, false, m, k),
            &view(&b, false, n, k),
            Precision::P12X12,
            None,
            Causal::None,
            isa,
        );
        for (i, x) in got.iter().enumerate() {
            let poisoned = i / n == 49 || i % n == 33;
            assert_eq!(x.to_bits(), if poisoned { CANONICAL_NAN } else { 9f32.to_bits() }, "{isa} {i}");
        }
    }
}

#[test]
fn bias_is_added_with_one_rounding_and_flushed() {
    let mut random = Random(31);
    let (m, n, k) = (14, 37, 20);
    for kind in [Kind::Ordinary, Kind::Everything, Kind::Extreme, Kind::Subnormal, Kind::Zeros] {
        for p in [Precision::P12X12, Precision::P16X16] {
            let (a, b) = (fill(Kind::Ordinary, m * k, &mut random), fill(Kind::Wide, n * k, &mut random));
            let bias = fill(kind, n, &mut random);
            check(&view(&a, false, m, k), &view(&b, false, n, k), p, Some(&bias));
        }
    }
    // a normal result and a bias whose sum is subnormal, and overflow against an infinite bias of the other sign
    let small = [f32::MIN_POSITIVE, 0.0];
    let one = [1.0, 0.0];
    check(&view(&small, false, 2, 1), &view(&one, false, 2, 1), Precision::P12X12, Some(&[-1.5e-38, 1e-40]));
    let large = [f32::MAX, -f32::MAX];
    check(
        &view(&large, false, 2, 1),
        &view(&large, false, 2, 1),
        Precision::P12X12,
        Some(&[f32::INFINITY, 1.0]),
    );
}

/// Queries, keys and values side by side in one row per token; results into another such array.
#[test]
fn heads_are_read_and_written_in_place() {
    let (seqs, t, heads, dh) = (2, 21, 3, 10);
    let width = 3 * heads * dh;
    let mut random = Random(404);
    let qkv = fill(Kind::Ordinary, seqs * t * width, &mut random);
    let batch = Batch { outer: seqs, outer_stride: t * width, inner: heads, inner_stride: dh };
    let queries = View::new(&qkv, t, dh, width, 1, batch).unwrap();
    let values = View::new(&qkv[2 * heads * dh..], dh, t, 1, width, batch).unwrap();
    let keys = View::new(&qkv[heads * dh..], t, dh, width, 1, batch).unwrap();
    for isa in Isa::available() {
        let p = Precision::P12X12;
        let scores = compute(&queries, &keys, p, None, Causal::None, isa);
        assert_eq!(bits(&scores), bits(&reference::product(&queries, &keys, p, None)), "{isa}");
        let weights = View::new(&scores, t, t, t, 1, Batch::of(seqs * heads, t * t)).unwrap();
        let mut merged = vec![f32::NAN; seqs * t * heads * dh];
        let place = Batch { outer: seqs, outer_stride: t * heads * dh, inner: heads, inner_stride: dh };
        let mut out = Output::new(&mut merged, t, dh, heads * dh, place).unwrap();
        let (mut a, mut b) = (LeftOperand::default(), RightOperand::default());
        a.refill_with(&weights, p, isa).unwrap();
        b.refill_with(&values, p, isa).unwrap();
        product(&a, &b, &mut out, &Options::default()).unwrap();
        let expected = reference::product(&weights, &values, p, None);
        for (i, x) in expected.iter().enumerate() {
            let (item, row, column) = (i / (t * dh), i / dh % t, i % dh);
            let at = place.offset(item) + row * heads * dh + column;
            assert_eq!(merged[at].to_bits(), x.to_bits(), "{isa} {i}");
        }
    }
}

#[test]
fn a_batch_stride_of_zero_shares_an_operand() {
    let mut random = Random(8);
    let (a, b) = (fill(Kind::Ordinary, 3 * 5 * 7, &mut random), fill(Kind::Ordinary, 4 * 7, &mut random));
    let left = View::new(&a, 5, 7, 7, 1, Batch::of(3, 35)).unwrap();
    let right = View::new(&b, 4, 7, 7, 1, Batch::of(3, 0)).unwrap();
    check(&left, &right, Precision::P8X16, Some(&[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn causal_hints_change_nothing_that_is_needed() {
    let mut random = Random(2024);
    for (t, groups, dh) in [(1, 3, 4), (7, 2, 4), (33, 3, 8), (100, 1, 32), (64, 2, 5)] {
        let m = groups * t;
        for p in [Precision::P12X12, Precision::P16X16] {
            let (q, k) =
                (fill(Kind::Ordinary, m * dh, &mut random), fill(Kind::Ordinary, t * dh, &mut random));
            let (left, right) = (view(&q, false, m, dh), view(&k, false, t, dh));
            let mut scores = reference::product(&left, &right, p, None);
            for (i, x) in scores.iter_mut().enumerate() {
                if i % t > i / t % t {
                    *x = 0.0;
                }
            }
            let v = fill(Kind::Ordinary, t * dh, &mut random);
            for transposed in [false, true] {
                let flat: Vec<f32> = if transposed {
                    (0..m * t).map(|i| scores[i % m * t + i / m]).collect()
                } else {
                    scores.clone()
                };
                let (weights, values) = (view(&flat, transposed, m, t), view(&v, true, dh, t));
                let expected = reference::product(&weights, &values, p, None);
                for isa in Isa::available() {
                    let got = compute(&left, &right, p, None, Causal::Output { seq: t }, isa);
                    assert_eq!(bits(&got), bits(&scores), "{isa} {t}");
                    let got = compute(&weights, &values, p, None, Causal::Left { seq: t }, isa);
                    assert_eq!(bits(&got), bits(&expected), "{isa} {t}");
                }
            }
        }
    }
}

/// Large enough to be cut into jobs, by rows, by columns and by batch items.
#[test]
fn threads_do_not_show() {
    let mut random = Random(66);
    for (items, m, n, k) in [(1, 300, 100, 130), (1, 4, 2100, 520), (24, 64, 64, 32)] {
        let (a, b) =
            (fill(Kind::Wide, items * m * k, &mut random), fill(Kind::Giant, items * n * k, &mut random));
        for transposed in [false, true] {
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![f32::NAN; items * m * n];
                let (left, right) = (Factor { data: &a, transposed }, Factor { data: &b, transposed });
                let size = Size { batch: items, m, n, k };
                pool.install(|| product_into(&left, &right, size, Precision::P12X12, Causal::None, &mut out))
                    .unwrap();
                bits(&out)
            };
            let one = run(1);
            let left = Factor { data: &a, transposed }.view(items, m, k).unwrap();
            let right = Factor { data: &b, transposed }.view(items, n, k).unwrap();
            if items == 1 {
                assert_eq!(one, bits(&reference::product(&left, &right, Precision::P12X12, None)));
            }
            for threads in [2, 3, 7] {
                assert_eq!(run(threads), one, "{threads} threads");
            }
        }
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let data = [1.0f32; 64];
    assert_eq!(View::new(&data, 4, 4, 8, 2, Batch::ONE).err(), Some(ProductError::Strides { row: 8, k: 2 }));
    assert_eq!(View::row_major(&data, 9, 8).err(), Some(ProductError::TooShort { needed: 72, held: 64 }));
    assert_eq!(
        View::new(&data, 1, MAX_K + 1, 0, 1, Batch::ONE).err(),
        Some(ProductError::Contraction { k: MAX_K + 1, limit: MAX_K })
    );
    let huge = usize::MAX / 4;
    for (rows, k, stride, batch) in [
        (huge, 8, 8, Batch::ONE),
        (huge, 0, 8, Batch::ONE),
        (4, 4, huge, Batch::ONE),
        (4, 4, 4, Batch::of(huge, 0)),
        (1, 4, 4, Batch { outer: huge, outer_stride: 0, inner: 8, inner_stride: 0 }),
        (4, 0, 4, Batch::of(huge, huge)),
    ] {
        assert!(View::new(&data, rows, k, stride, 1, batch).is_err(), "{rows} {k} {stride} {batch:?}");
    }
    // a view can be legal and its padded operand still too large
    let many = View::new(&data, 1, 1, 1, 1, Batch::of(MAX_ELEMENTS / 2, 0)).unwrap();
    assert!(matches!(RightOperand::quantise(&many, Precision::P12X12), Err(ProductError::TooLarge { .. })));

    let p = Precision::P12X12;
    let left = |rows, k| LeftOperand::quantise(&View::row_major(&data, rows, k).unwrap(), p).unwrap();
    let right = |rows, k| RightOperand::quantise(&View::row_major(&data, rows, k).unwrap(), p).unwrap();
    let mut room = [0f32; 64];
    let mut out = Output::row_major(&mut room, 4, 5).unwrap();
    let plain = Options::default();
    assert_eq!(product(&left(4, 6), &right(5, 6), &mut out, &plain), Ok(()));
    for (a, b) in [(left(4, 6), right(5, 7)), (left(3, 6), right(5, 6)), (left(4, 6), right(6, 6))] {
        assert!(matches!(product(&a, &b, &mut out, &plain), Err(ProductError::Mismatch { .. })));
    }
    let short = Options { bias: Some(&data[..4]), ..plain };
    assert!(matches!(
        product(&left(4, 6), &right(5, 6), &mut out, &short),
        Err(ProductError::Mismatch { .. })
    ));
    let view = View::row_major(&data, 5, 6).unwrap();
    let other = RightOperand::quantise(&view, Precision::P16X16).unwrap();
    assert!(matches!(product(&left(4, 6), &other, &mut out, &plain), Err(ProductError::Precisions { .. })));
    for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::best_for(6)) {
        let mut other = RightOperand::default();
        other.refill_with(&view, p, isa).unwrap();
        let got = product(&left(4, 6), &other, &mut out, &plain);
        assert_eq!(got, Err(ProductError::InstructionSets { left: Isa::best_for(6), right: isa }));
    }
    for causal in [Causal::Output { seq: 5 }, Causal::Output { seq: 0 }, Causal::Left { seq: 4 }] {
        let hinted = Options { causal, ..plain };
        assert!(matches!(
            product(&left(4, 6), &right(5, 6), &mut out, &hinted),
            Err(ProductError::Causal { .. })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn any_bits_any_shape(
        seed in 1..u64::MAX, m in 1..60usize, n in 1..70usize, k in 0..80usize,
        a_bits in 8..=16u32, b_bits in 8..=16u32, layouts in 0..4usize, kinds in 0..121usize, padding in 0..5usize,
    ) {
        let mut random = Random(seed);
        let strides = |transposed: bool, rows: usize| if transposed { (1, rows + padding) } else { (k + padding, 1) };
        let (a_row, a_k) = strides(layouts & 1 == 1, m);
        let (b_row, b_k) = strides(layouts & 2 == 2, n);
        let a = fill(KINDS[kinds % 11], (m + padding) * (k + padding), &mut random);
        let b = fill(KINDS[kinds / 11], (n + padding) * (k + padding), &mut random);
        let left = View::new(&a, m, k, a_row, a_k, Batch::ONE).unwrap();
        let right = View::new(&b, n, k, b_row, b_k, Batch::ONE).unwrap();
        let bias = (seed % 3 == 0).then(|| fill(Kind::Wide, n, &mut random));
        check(&left, &right, precision(a_bits, b_bits), bias.as_deref());
    }
}
