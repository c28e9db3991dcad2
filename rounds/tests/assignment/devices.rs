//! Other devices get the same bits.

use watershed_engine::device::list;
use watershed_protocol::Digest;

use crate::world::{World, work};

#[test]
fn an_assignment_and_its_score_have_the_same_bits_on_another_device() {
    let mut world = World::new();
    let (first, _) = world.round(0, None);
    let here = world.work(1, 0, Some(&first[0]));
    let decoded = world.bench.decode(&here.submission.encoded).unwrap();
    let randomness = Digest([5; 32]);
    let score = world.bench.score(&here.assignment, &here.checkpoint, &decoded, randomness).unwrap();

    let Some(device) = list().into_iter().next() else {
        eprintln!("there is no graphics device here, so nothing is compared");
        return;
    };
    let mut bench = world.bench_on(&world.spec, &device);
    let there = work(&mut bench, here.assignment.clone(), here.checkpoint.clone(), Some(&first[0]));
    assert_eq!(there.reveal, here.reveal);
    assert_eq!(there.states, here.states);
    assert_eq!(there.submission, here.submission);
    assert_eq!(there.commitment, here.commitment);
    let again = bench.score(&here.assignment, &here.checkpoint, &decoded, randomness).unwrap();
    assert_eq!(again, score, "on {}", device.name);
    let loss = |bench: &mut watershed_rounds::Workbench| bench.evaluate(&here.checkpoint).unwrap().to_bits();
    assert_eq!(loss(&mut bench), loss(&mut world.bench));
    // And one device checks what the other did.
    let found = bench.check_steps(&here.claim(), 2..4, &here.file(2)).unwrap();
    assert_eq!(found, Ok(()));
}
