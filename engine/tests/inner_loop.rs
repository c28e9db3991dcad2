//! The inner loop: resumed, stopped, replayed, and caught when it lies.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

mod common;

use std::ops::ControlFlow;

use common::{settings, shapes, start, tokens};
use watershed_engine::burn::tensor::Device;
use watershed_engine::model::{Profile, TokenError, Tokens};
use watershed_engine::moments;
use watershed_engine::product::Precision;
use watershed_engine::train::{State, TrainError, Trainer, Trajectory, inner_steps, replay};

fn trainer() -> (Trainer, State, impl Fn(u32) -> Result<Tokens, TokenError>) {
    let (_, config) = shapes()[0];
    let (layout, state) = start(&config);
    let profile = Profile::Exact(Precision::default());
    let trainer = Trainer::new(layout, profile, settings(), &Device::flex(), &state).unwrap();
    (trainer, state, move |step| Ok(tokens(&config, 2, 16, step)))
}

fn run(trainer: &mut Trainer, start: &State, steps: std::ops::Range<u32>, stop_after: u32) -> Trajectory {
    let (_, _, window) = self::trainer();
    inner_steps(trainer, start, steps, &window, &mut |record, _| {
        if record.step + 1 == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap()
}

#[test]
fn stopped_and_resumed_at_any_step_it_is_the_same_trajectory() {
    let (mut trainer, start, _) = trainer();
    let whole = run(&mut trainer, &start, 0..6, 0);
    assert!(!whole.stopped && whole.steps.len() == 6);
    for stop in 1..6 {
        let first = run(&mut trainer, &start, 0..6, stop);
        assert!(first.stopped && first.steps.len() as u32 == stop);
        let rest = run(&mut trainer, &first.state, stop..6, 0);
        assert_eq!([first.steps, rest.steps].concat(), whole.steps);
        assert_eq!(rest.state, whole.state);
    }
}

#[test]
fn subnormals_that_come_with_a_state_are_zeros_on_every_device() {
    let (_, config) = shapes()[0];
    let (layout, zeros) = start(&config);
    let mut zeros = zeros;
    (zeros.parameters[5], zeros.first[6], zeros.second[7]) = (0.0, -0.0, 0.0);
    let mut tiny = zeros.clone();
    let lowest = |sign: u32| f32::from_bits(sign << 31 | 0x007f_ffff);
    (tiny.parameters[5], tiny.first[6], tiny.second[7]) = (lowest(0), lowest(1), f32::MIN_POSITIVE);
    let profile = Profile::Exact(Precision::default());
    for device in [Device::flex(), common::wgpu()] {
        let mut trainer = Trainer::new(layout.clone(), profile, settings(), &device, &tiny).unwrap();
        assert_eq!(trainer.state().unwrap().digest().unwrap(), zeros.digest().unwrap());
        trainer.load(&tiny).unwrap();
        assert_eq!(trainer.digest().unwrap(), zeros.digest().unwrap());
    }
}

#[test]
fn any_steps_replay_from_their_state_and_a_lie_is_found_at_its_step() {
    let (mut trainer, start, window) = trainer();
    let whole = run(&mut trainer, &start, 0..5, 0);
    let middle = run(&mut trainer, &start, 0..2, 0).state;
    let end = replay(&mut trainer, &middle, &whole.steps[2..], &window).unwrap();
    assert_eq!(end, whole.state);
    let mut forged = whole.steps.clone();
    forged[3].digest = forged[4].digest;
    let caught = replay(&mut trainer, &start, &forged, &window).unwrap_err();
    assert!(matches!(caught, TrainError::Mismatch { step: 3, .. }), "{caught}");
    let mut other = start.clone();
    other.parameters[7] += 1e-3;
    let caught = replay(&mut trainer, &other, &whole.steps, &window).unwrap_err();
    assert!(matches!(caught, TrainError::Mismatch { step: 0, .. }), "{caught}");
}

#[test]
fn carried_moments_are_those_of_the_encoded_bytes() {
    let (mut trainer, start, _) = trainer();
    let end = run(&mut trainer, &start, 0..3, 0).state;
    let bytes = moments::encode(&end.first, &end.second).unwrap();
    let carried = moments::decode(&bytes, end.first.len()).unwrap();
    let next = State { first: carried.first, second: carried.second, ..end };
    let again =
        moments::decode(&moments::encode(&next.first, &next.second).unwrap(), next.first.len()).unwrap();
    assert_eq!((&again.first, &again.second), (&next.first, &next.second));
    let after = run(&mut trainer, &next, 3..6, 0);
    assert!(after.steps.iter().all(|s| s.loss.is_finite()));
}

#[test]
fn what_cannot_be_trained_is_refused_and_changes_nothing() {
    let (mut trainer, start, _) = trainer();
    let (_, config) = shapes()[0];
    let bad = Tokens::new(vec![config.vocab as u32; 5], 1, 4).unwrap();
    assert!(matches!(
        trainer.step(0, &bad),
        Err(TrainError::Tokens(TokenError::OutsideVocabulary { position: 0, .. }))
    ));
    let long = Tokens::new(vec![0; config.max_seq + 2], 1, config.max_seq + 1).unwrap();
    assert!(matches!(trainer.step(0, &long), Err(TrainError::Tokens(TokenError::TooLong { .. }))));
    assert_eq!(trainer.state().unwrap(), start);
    let mut broken = start.clone();
    broken.parameters[0] = f32::INFINITY;
    trainer.load(&broken).unwrap();
    // The first id reads the broken row of the embedding.
    let zero = Tokens::new(vec![0; 9], 1, 8).unwrap();
    assert!(matches!(trainer.step(0, &zero), Err(TrainError::Diverged { step: 0, .. })));
    let short = State { first: vec![], ..start };
    assert!(matches!(trainer.load(&short), Err(TrainError::Layout(_))));
}
