use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn values(count: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * size
        })
        .collect()
}

fn id(n: u8) -> [u8; 32] {
    [n; 32]
}

const PLAIN: OuterSpec = OuterSpec { rate: 1.0, momentum: None };

fn state(parameters: Vec<f32>) -> OuterState {
    OuterState { parameters, velocity: Vec::new() }
}

fn step(
    state: &OuterState,
    gradients: &[(u8, &[f32])],
    spec: &OuterSpec,
) -> Result<(OuterState, OuterReport), OuterError> {
    let list: Vec<Submission<'_>> =
        gradients.iter().map(|(n, g)| Submission { id: id(*n), gradient: g, weight: 1.0 }).collect();
    outer_step(state, &list, spec)
}

#[test]
fn one_submission_moves_the_parameters_by_itself() {
    let theta = values(1000, 1, 1.0);
    let gradient = values(1000, 2, 0.1);
    let (next, report) = step(&state(theta.clone()), &[(1, &gradient)], &PLAIN).unwrap();
    for i in 0..1000 {
        assert_eq!(next.parameters[i], theta[i] - gradient[i]);
    }
    assert_eq!(report.scales, [1.0]);
    assert_eq!(report.median, report.norms[0]);
}

#[test]
fn the_step_is_what_the_documentation_says() {
    let count = 70_001;
    let theta = values(count, 1, 1.0);
    let velocity = values(count, 9, 0.01);
    let gradients: Vec<Vec<f32>> = (0..4).map(|i| values(count, 10 + i, 0.1 * (1.0 + i as f32))).collect();
    // handed over in an order that is not that of the ids
    let list: Vec<(u8, &[f32])> =
        [3u8, 1, 0, 2].iter().map(|&n| (n, gradients[n as usize].as_slice())).collect();
    let spec = OuterSpec { rate: 0.7, momentum: Some(0.9) };
    let before = OuterState { parameters: theta.clone(), velocity: velocity.clone() };
    let (next, report) = step(&before, &list, &spec).unwrap();

    let norms: Vec<f64> =
        gradients.iter().map(|g| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()).collect();
    // the lower of the two in the middle
    assert!((report.median / norms[1] - 1.0).abs() < 1e-12);
    for (got, n) in report.norms.iter().zip([3usize, 1, 0, 2]) {
        assert!((got / norms[n] - 1.0).abs() < 1e-12);
    }
    let scale = |n: usize| report.scales[[2, 1, 3, 0][n]];
    assert_eq!((scale(0), scale(1)), (1.0, 1.0));
    assert_eq!(scale(3), (report.median / report.norms[0]) as f32);
    for i in 0..count {
        let mut sum = 0f32;
        for (n, gradient) in gradients.iter().enumerate() {
            sum += gradient[i] * scale(n);
        }
        let average = sum / 4.0;
        let velocity = velocity[i] * 0.9 + average;
        let update = average + velocity * 0.9;
        assert_eq!(next.velocity[i], velocity, "{i}");
        assert_eq!(next.parameters[i], theta[i] - update * 0.7, "{i}");
    }
}

#[test]
fn order_of_arrival_and_threads_do_not_matter() {
    let count = 3 * BLOCK + 17;
    let theta = state(values(count, 1, 1.0));
    let gradients: Vec<Vec<f32>> = (0..5).map(|i| values(count, 20 + i, 1.0 + i as f32)).collect();
    let spec = OuterSpec { rate: 0.5, momentum: Some(0.5) };
    let with = |threads, order: [u8; 5]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let list: Vec<(u8, &[f32])> = order.iter().map(|&n| (n, gradients[n as usize].as_slice())).collect();
        let (next, report) = pool.install(|| step(&theta, &list, &spec)).unwrap();
        let bits: Vec<u32> = next.parameters.iter().chain(&next.velocity).map(|v| v.to_bits()).collect();
        let mut norms: Vec<(u8, u64)> =
            order.iter().zip(&report.norms).map(|(n, v)| (*n, v.to_bits())).collect();
        norms.sort_unstable();
        (bits, norms, report.median.to_bits())
    };
    let reference = with(1, [0, 1, 2, 3, 4]);
    assert!(reference == with(1, [4, 2, 0, 3, 1]));
    assert!(reference == with(3, [1, 0, 4, 2, 3]));
    // the order of summation does matter to the bits, so the sorting is what makes them equal
    let renamed: Vec<(u8, &[f32])> =
        gradients.iter().enumerate().map(|(i, g)| (9 - i as u8, g.as_slice())).collect();
    let (other, _) = step(&theta, &renamed, &spec).unwrap();
    assert!(other.parameters.iter().zip(&reference.0).any(|(v, bits)| v.to_bits() != *bits));
}

#[test]
fn a_huge_submission_is_clipped_to_the_median() {
    let theta = state(vec![0.0; 100]);
    let (a, b, huge) = (values(100, 1, 1.0), values(100, 2, 1.0), vec![1e30f32; 100]);
    let (next, report) = step(&theta, &[(0, &a), (1, &b), (2, &huge)], &PLAIN).unwrap();
    assert!(report.scales[2] < 1e-29);
    let norm = next.parameters.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    assert!(norm <= report.median * 1.0001, "{norm} {}", report.median);
    assert!(norm > 0.0);
}

#[test]
fn the_norm_follows_its_defined_order() {
    let gradient = values(BLOCK + CHUNK_AND_A_BIT, 3, 100.0);
    const CHUNK_AND_A_BIT: usize = 4096 + 21;
    // written again, one value at a time
    let mut total = 0f64;
    for block in gradient.chunks(BLOCK) {
        let mut block_sum = 0f64;
        for chunk in block.chunks(4096) {
            let mut lanes = [0f64; 16];
            for (j, v) in chunk.iter().enumerate() {
                lanes[j % 16] += f64::from(*v) * f64::from(*v);
            }
            let eight: Vec<f64> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
            let four: Vec<f64> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
            block_sum += (four[0] + four[2]) + (four[1] + four[3]);
        }
        total += block_sum;
    }
    let (_, report) = step(&state(vec![0.0; gradient.len()]), &[(0, &gradient)], &PLAIN).unwrap();
    assert_eq!(report.norms[0].to_bits(), total.sqrt().to_bits());
}

#[test]
fn the_median_of_an_even_round_is_the_lower_middle_one() {
    let gradients: Vec<Vec<f32>> = [4.0f32, 1.0, 3.0, 2.0].iter().map(|&v| vec![v]).collect();
    for (count, median) in [(1, 4.0), (2, 1.0), (3, 3.0), (4, 2.0)] {
        let list: Vec<(u8, &[f32])> = (0..count).map(|n| (n as u8, gradients[n].as_slice())).collect();
        let (_, report) = step(&state(vec![0.0]), &list, &PLAIN).unwrap();
        assert_eq!(report.median, median, "{count} submissions");
    }
}

/// The median of norms, each with its weight.
fn median(norms: &[(f32, f32)]) -> f64 {
    let values: Vec<[f32; 1]> = norms.iter().map(|(norm, _)| [*norm]).collect();
    let slices: Vec<&[f32]> = values.iter().map(|v| v.as_slice()).collect();
    let list: Vec<Submission<'_>> = (0u8..)
        .zip(&slices)
        .zip(norms)
        .map(|((n, gradient), (_, weight))| Submission { id: id(n), gradient, weight: *weight })
        .collect();
    outer_step(&state(vec![0.0]), &list, &PLAIN).unwrap().1.median
}

#[test]
fn half_of_the_submissions_steer_the_step_neither_with_norms_near_nothing_nor_with_huge_ones() {
    // Honest work of norm 1 lowers the loss by 0.1. What is a thousandth of it does so by about a thousandth.
    let honest = (1.0, 0.1);
    for others in 1..6 {
        let mixed = |one: (f32, f32)| [vec![honest; others], vec![one; others]].concat();
        assert_eq!(median(&mixed((1e-3, 2e-4))), 1.0, "{others} near nothing");
        assert_eq!(median(&mixed((1e3, 0.09))), 1.0, "{others} huge");
        // Half of the way to what honest work does: as good as any step of this size can be, and half is left.
        assert_eq!(median(&mixed((0.5, 0.1))), 0.5);
        // It lowers the loss by more than all others together: then it may be large.
        assert_eq!(median(&mixed((3.0, 0.11))), 3.0);
    }
    // With equal weights each of these two would be the smaller one's size.
    assert_eq!(median(&[(1.0, 1.0), (1e-3, 1.0)]), f64::from(1e-3f32));
    let (one, tiny) = (vec![1f32; 4], vec![1e-3f32; 4]);
    let list = [
        Submission { id: id(0), gradient: &one.as_slice(), weight: 0.1 },
        Submission { id: id(1), gradient: &tiny.as_slice(), weight: 2e-4 },
    ];
    let (next, report) = outer_step(&state(vec![0.0; 4]), &list, &PLAIN).unwrap();
    assert_eq!(report.scales, [1.0, 1.0]);
    assert!(next.parameters.iter().all(|v| *v < -0.5), "honest work counts whole: {:?}", next.parameters);
}

#[test]
fn a_weight_is_a_positive_number() {
    let one: &[f32] = &[1.0];
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let list = [Submission { id: id(0), gradient: &one, weight }];
        let refused = outer_step(&state(vec![0.0]), &list, &PLAIN);
        assert!(matches!(refused, Err(OuterError::Weight { submission: 0, .. })), "{weight}");
    }
}

#[test]
fn if_most_submissions_are_zero_the_rest_is_clipped_away() {
    let (zero, one) = (vec![0f32; 3], vec![1f32; 3]);
    let (next, report) = step(&state(vec![0.5; 3]), &[(0, &zero), (1, &one), (2, &zero)], &PLAIN).unwrap();
    assert_eq!(report.scales, [1.0, 0.0, 1.0]);
    assert_eq!(next.parameters, [0.5; 3]);
}

#[test]
fn no_subnormal_is_left_behind() {
    let theta = state(vec![1.5 * f32::MIN_POSITIVE, -1.5 * f32::MIN_POSITIVE]);
    let (next, _) = step(&theta, &[(0, &[f32::MIN_POSITIVE, -f32::MIN_POSITIVE])], &PLAIN).unwrap();
    assert_eq!(next.parameters.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [0, 0x8000_0000]);
}

#[test]
fn bad_rounds_are_refused_with_the_reason() {
    let theta = state(vec![0.0; 3]);
    let good = vec![1f32; 3];
    assert!(matches!(step(&theta, &[], &PLAIN), Err(OuterError::EmptyRound)));
    assert!(matches!(
        step(&theta, &[(1, &good), (1, &good)], &PLAIN),
        Err(OuterError::DuplicateId { first: 0, second: 1 })
    ));
    assert!(matches!(
        step(&theta, &[(1, &good), (2, &good[..2])], &PLAIN),
        Err(OuterError::Length { submission: 1, expected: 3, got: 2 })
    ));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(matches!(
            step(&theta, &[(1, &good), (0, &[0.0, bad, bad])], &PLAIN),
            Err(OuterError::NotFinite { submission: 1, parameter: 1 })
        ));
    }
    for spec in [
        OuterSpec { rate: f32::NAN, momentum: None },
        OuterSpec { rate: 1.0, momentum: Some(1.0) },
        OuterSpec { rate: 1.0, momentum: Some(-0.1) },
        OuterSpec { rate: 1.0, momentum: Some(f32::NAN) },
    ] {
        assert!(matches!(step(&theta, &[(1, &good)], &spec), Err(OuterError::Spec { .. })));
    }
    let with_velocity = OuterState { parameters: vec![0.0; 3], velocity: vec![0.0; 3] };
    assert!(matches!(
        step(&with_velocity, &[(1, &good)], &PLAIN),
        Err(OuterError::Velocity { expected: 0, got: 3 })
    ));
    let short = OuterState { parameters: vec![0.0; 3], velocity: vec![0.0; 2] };
    assert!(matches!(
        step(&short, &[(1, &good)], &OuterSpec { rate: 1.0, momentum: Some(0.5) }),
        Err(OuterError::Velocity { expected: 3, got: 2 })
    ));
    let large = state(vec![0.0, -f32::MAX, 0.0]);
    assert!(matches!(
        step(&large, &[(1, &[1.0, f32::MAX, 1.0])], &PLAIN),
        Err(OuterError::Diverged { parameter: 1 })
    ));
}

#[test]
fn the_first_of_several_bad_submissions_is_named() {
    let count = 5 * BLOCK;
    let (mut early, mut late) = (vec![0f32; count], vec![0f32; count]);
    early[3] = f32::NAN;
    late[4 * BLOCK] = f32::NAN;
    late[2 * BLOCK + 5] = f32::INFINITY;
    for _ in 0..20 {
        let result = step(&state(vec![0.0; count]), &[(0, &late), (1, &early)], &PLAIN);
        assert!(matches!(
            result,
            Err(OuterError::NotFinite { submission: 0, parameter }) if parameter == 2 * BLOCK + 5
        ));
    }
}

/// A source that records how it is asked, and turns bad on its second pass if told to.
struct Watched {
    params: usize,
    largest: AtomicUsize,
    given: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    bad_second_pass: Option<f32>,
}

impl Watched {
    fn new(params: usize, bad_second_pass: Option<f32>) -> Self {
        let zero = || AtomicUsize::new(0);
        Self { params, largest: zero(), given: zero(), open: zero(), most_open: zero(), bad_second_pass }
    }
}

impl PseudoGradientSource for Watched {
    fn params(&self) -> usize {
        self.params
    }

    fn read(&self, range: std::ops::Range<usize>, out: &mut [f32]) -> Result<(), SourceError> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        self.largest.fetch_max(range.len().max(out.len()), Ordering::SeqCst);
        let given = self.given.fetch_add(out.len(), Ordering::SeqCst);
        out.fill(0.25);
        if let Some(bad) = self.bad_second_pass
            && given >= self.params
        {
            if bad == 0.0 {
                return Err(SourceError::Failed("the disk is gone".into()));
            }
            out[1] = bad;
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn sources_are_asked_for_a_block_at_a_time_and_exactly_twice() {
    let count = 6 * BLOCK + 100;
    let sources: Vec<Watched> = (0..8).map(|_| Watched::new(count, None)).collect();
    let list: Vec<Submission<'_>> = sources
        .iter()
        .enumerate()
        .map(|(n, source)| Submission { id: id(n as u8), gradient: source, weight: 1.0 })
        .collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (next, _) = pool.install(|| outer_step(&state(vec![1.0; count]), &list, &PLAIN)).unwrap();
    assert!(next.parameters.iter().all(|&v| v == 0.75));
    for source in &sources {
        assert_eq!(source.largest.load(Ordering::SeqCst), BLOCK);
        assert_eq!(source.given.load(Ordering::SeqCst), 2 * count);
        assert!(source.most_open.load(Ordering::SeqCst) <= 2, "one block for each thread");
    }
}

#[test]
fn a_source_that_fails_or_lies_on_the_second_pass_is_caught() {
    let count = 100;
    let good = vec![0.25f32; count];
    for bad in [0.0, f32::NAN] {
        let source = Watched::new(count, Some(bad));
        let dense = good.as_slice();
        let list = [
            Submission { id: id(0), gradient: &dense, weight: 1.0 },
            Submission { id: id(1), gradient: &source, weight: 1.0 },
        ];
        match outer_step(&state(vec![1.0; count]), &list, &PLAIN) {
            Err(OuterError::Source { submission: 1, error }) => {
                assert!(bad == 0.0 && error.to_string().contains("disk"));
            }
            Err(OuterError::NotFinite { submission: 1, parameter: 1 }) => assert!(bad.is_nan()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_slice_refuses_ranges_that_it_does_not_have() {
    let slice: &[f32] = &[1.0, 2.0, 3.0];
    let mut out = [0.0; 2];
    assert!(slice.read(1..3, &mut out).is_ok());
    assert_eq!(out, [2.0, 3.0]);
    assert!(matches!(
        slice.read(2..4, &mut out),
        Err(SourceError::Range { start: 2, end: 4, buffer: 2, params: 3 })
    ));
    assert!(slice.read(0..3, &mut out).is_err());
    assert!(slice.read(0..usize::MAX, &mut out).is_err());
}

#[test]
fn a_model_without_parameters_stays_empty() {
    let empty: &[f32] = &[];
    let (next, report) = step(&state(Vec::new()), &[(0, empty)], &PLAIN).unwrap();
    assert!(next.parameters.is_empty());
    assert_eq!(report.norms, [0.0]);
}
