//! Proofs hold for what is so and for nothing else.

use super::*;

const COUNT: u64 = 70;

#[test]
fn every_entry_has_its_inclusion_proof() {
    for size in [1, 2, 3, 31, 32, 33, COUNT, 259] {
        let dir = filled(size);
        let log = log(dir.path()).unwrap();
        for (index, entry) in (0..).zip(batch(0, size)) {
            let proof = log.inclusion_proof(index).unwrap();
            check_inclusion(&proof, size, log.root(), index, &entry).unwrap();
            let refused = |proof: &[Hash], index, entry: &[u8]| {
                let result = check_inclusion(proof, size, log.root(), index, entry);
                assert!(matches!(result, Err(LogError::NotIncluded { .. })));
            };
            refused(&proof, index, b"another");
            refused(&proof, index + 1, &entry);
            refused(&[&proof[..], &[log.root()]].concat(), index, &entry);
            if let Some((_, short)) = proof.split_last() {
                refused(short, index, &entry);
                let mut wrong = proof.clone();
                wrong[0].0[0] ^= 1;
                refused(&wrong, index, &entry);
            }
        }
        assert!(matches!(log.inclusion_proof(size), Err(LogError::OutOfRange { .. })));
        assert!(matches!(log.inclusion_proof(u64::MAX), Err(LogError::OutOfRange { .. })));
    }
}

#[test]
fn every_earlier_size_has_its_consistency_proof() {
    for size in [0, 1, COUNT, 260] {
        let dir = filled(size);
        let log = log(dir.path()).unwrap();
        for old in 0..=size {
            let old_root = root_of(&batch(0, old));
            let proof = log.consistency_proof(old).unwrap();
            check_consistency(&proof, old, old_root, size, log.root()).unwrap();
            log.check_extends(old, old_root).unwrap();
            let refused = |proof: &[Hash], old_root| {
                let result = check_consistency(proof, old, old_root, size, log.root());
                assert!(matches!(result, Err(LogError::NotConsistent { .. })));
            };
            refused(&proof, leaf_hash(b"another"));
            refused(&[&proof[..], &[log.root()]].concat(), old_root);
            if let Some((_, short)) = proof.split_last() {
                refused(short, old_root);
            }
        }
    }
}

#[test]
fn a_shrunk_log_is_called_so() {
    let dir = filled(5);
    let log = log(dir.path()).unwrap();
    let shrunk = |result| matches!(result, Err(LogError::Shrunk { old_size: 6, size: 5 }));
    assert!(shrunk(log.check_extends(6, log.root())));
    assert!(shrunk(log.consistency_proof(6).map(drop)));
    assert!(shrunk(check_consistency(&[], 6, log.root(), 5, log.root())));
}

#[test]
fn a_rewritten_log_is_called_so() {
    let dir = filled(9);
    let log = log(dir.path()).unwrap();
    let result = log.check_extends(4, root_of(&batch(1, 5)));
    assert!(matches!(result, Err(LogError::NotConsistent { old_size: 4, size: 9 })));
}

#[test]
fn absurd_numbers_and_proofs_are_refused() {
    let long = vec![leaf_hash(b"x"); 100_000];
    let root = leaf_hash(b"x");
    for size in [0, 1, MAX_SIZE, MAX_SIZE + 1, u64::MAX] {
        for proof in [&[][..], &long[..1], &long[..49], &long[..]] {
            for index in [0, 1, MAX_SIZE, u64::MAX] {
                // The tree of one entry is the one case here that holds.
                let holds = size == 1 && index == 0 && proof.is_empty();
                assert_eq!(check_inclusion(proof, size, root, index, b"x").is_ok(), holds);
                assert!(check_consistency(proof, index, leaf_hash(b"y"), size, root).is_err());
            }
        }
    }
}
