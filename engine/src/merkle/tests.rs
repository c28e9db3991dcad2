use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

fn values(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761) ^ seed)).collect()
}

fn layout(lengths: &[usize]) -> Layout {
    let sections = lengths.iter().enumerate().map(|(i, &n)| Section::new(format!("s{i}"), n as u64));
    Layout::new("test", sections.collect()).unwrap()
}

/// The definition in the module's documentation, written again without chunks, levels or parallelism.
fn digest_by_definition(domain: &str, sections: &[(&str, &[f32])]) -> StateDigest {
    let mut leaves: Vec<Hash> = Vec::new();
    for (_, section) in sections {
        for start in (0..section.len()).step_by(4096) {
            let chunk = &section[start..section.len().min(start + 4096)];
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
            leaves.push(blake3::hash(&bytes).into());
        }
    }
    // splitting at the largest power of two below n gives the same tree as promoting the odd node
    fn tree(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => [0; 32],
            1 => leaves[0],
            n => {
                let (left, right) = leaves.split_at(n.next_power_of_two() / 2);
                let bytes = [b"watershed/state/node/v2".as_slice(), &tree(left), &tree(right)].concat();
                Sha256::digest(bytes).into()
            }
        }
    }
    let mut bytes = b"watershed/state/root/v2".to_vec();
    let text = |s: &str| [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat();
    bytes.extend(text(domain));
    bytes.extend((sections.len() as u64).to_le_bytes());
    for (name, section) in sections {
        bytes.extend(text(name));
        bytes.extend((section.len() as u64).to_le_bytes());
    }
    bytes.extend((leaves.len() as u64).to_le_bytes());
    bytes.extend(tree(&leaves));
    StateDigest(Sha256::digest(bytes).into())
}

#[test]
fn the_digest_is_what_the_documentation_says() {
    for lengths in
        [vec![], vec![0], vec![1], vec![4096], vec![4097, 0, 3], vec![9 * 4096, 5 * 4096 + 1, 4095]]
    {
        let data: Vec<Vec<f32>> = lengths.iter().enumerate().map(|(i, &n)| values(n, i as u32)).collect();
        let names: Vec<String> = (0..lengths.len()).map(|i| format!("s{i}")).collect();
        let named: Vec<(&str, &[f32])> =
            names.iter().zip(&data).map(|(n, d)| (n.as_str(), d.as_slice())).collect();
        let sections: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
        let digest = state_digest(&layout(&lengths), &sections).unwrap();
        assert_eq!(digest, digest_by_definition("test", &named), "{lengths:?}");
    }
}

#[test]
fn a_known_state_has_its_known_digest() {
    // computed independently, with Python's hashlib and blake3
    let layout =
        Layout::new("vector", vec![Section::new("parameters", 5000), Section::new("moments", 3)]).unwrap();
    let parameters: Vec<f32> = (0..5000u16).map(f32::from).collect();
    let digest = state_digest(&layout, &[&parameters, &[1.0, -0.0, 0.5]]).unwrap();
    assert_eq!(digest.to_string(), "bc9eaaf0d850bda3f29dab300091e624dabdace5a1bf86c44ca1f156bf501a93");
}

#[test]
fn every_declared_thing_is_bound() {
    let data = values(5000, 1);
    let digest = |domain: &str, sections: Vec<Section>, parts: &[&[f32]]| {
        state_digest(&Layout::new(domain, sections).unwrap(), parts).unwrap()
    };
    let base = digest("d", vec![Section::new("a", 5000)], &[&data]);
    let mut changed = data.clone();
    changed[4999] = f32::from_bits(changed[4999].to_bits() ^ 1);
    let others = [
        digest("e", vec![Section::new("a", 5000)], &[&data]),
        digest("d", vec![Section::new("b", 5000)], &[&data]),
        digest("d", vec![Section::new("a", 5000)], &[&changed]),
        // the same leaves, cut differently
        digest("d", vec![Section::new("a", 4096), Section::new("", 904)], &[&data[..4096], &data[4096..]]),
        digest("d", vec![Section::new("a", 5000), Section::new("", 0)], &[&data, &[]]),
        // the same bytes of names, divided differently
        digest("da", vec![Section::new("", 5000)], &[&data]),
    ];
    for other in others {
        assert_ne!(base, other);
    }
    // a zero's sign is a bit like any other
    let one = |v: f32| digest("d", vec![Section::new("a", 1)], &[&[v]]);
    assert_ne!(one(0.0), one(-0.0));
}

#[test]
fn every_chunk_of_every_tree_shape_opens_and_no_other_does() {
    for leaves in 1..=17usize {
        let len = leaves * CHUNK_ELEMENTS - 7;
        let (data, layout) = (values(len, 3), layout(&[len]));
        let tree = Tree::new(&layout, leaf_hashes(&layout, &[&data]).unwrap()).unwrap();
        let chunks: Vec<&[f32]> = data.chunks(CHUNK_ELEMENTS).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let opening = tree.open(index as u64).unwrap();
            assert_eq!(verify(&tree.digest(), &layout, index as u64, chunk, &opening), Ok(()));
            for other in 0..leaves {
                if other != index {
                    assert!(verify(&tree.digest(), &layout, other as u64, chunk, &opening).is_err());
                }
            }
        }
    }
}

#[test]
fn hostile_openings_are_refused_with_the_reason() {
    let lengths = [3 * CHUNK_ELEMENTS, 100];
    let (a, b) = (values(lengths[0], 1), values(lengths[1], 2));
    let layout = layout(&lengths);
    let tree = Tree::new(&layout, leaf_hashes(&layout, &[&a, &b]).unwrap()).unwrap();
    let (digest, good) = (tree.digest(), tree.open(3).unwrap());
    assert_eq!(verify(&digest, &layout, 3, &b, &good), Ok(()));

    for index in [4, u64::MAX] {
        let error = MerkleError::IndexOutOfRange { index, leaves: 4 };
        assert_eq!(verify(&digest, &layout, index, &b, &good), Err(error.clone()));
        assert_eq!(tree.open(index), Err(error));
    }
    assert_eq!(
        verify(&digest, &layout, 3, &b[..99], &good),
        Err(MerkleError::ChunkLength { index: 3, expected: 100, got: 99 })
    );
    assert!(matches!(verify(&digest, &layout, 3, &[], &good), Err(MerkleError::ChunkLength { .. })));
    for count in [0, 1, 3, 1000] {
        let opening = Opening { siblings: vec![[7; 32]; count] };
        assert_eq!(
            verify(&digest, &layout, 3, &b, &opening),
            Err(MerkleError::PathLength { index: 3, expected: 2, got: count })
        );
    }
    let mut swapped = good.clone();
    swapped.siblings.swap(0, 1);
    assert!(matches!(
        verify(&digest, &layout, 3, &b, &swapped),
        Err(MerkleError::RootMismatch { index: 3, .. })
    ));
    for bit in 0..256 {
        let mut bent = good.clone();
        bent.siblings[bit & 1][bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(verify(&digest, &layout, 3, &b, &bent), Err(MerkleError::RootMismatch { .. })));
    }
}

#[test]
fn an_inner_node_cannot_be_shown_as_a_leaf() {
    // a state of four chunks, and a layout that claims two: the two inner nodes are a valid tree over two "leaves",
    // but the digest fixes the lengths
    let len = 4 * CHUNK_ELEMENTS;
    let data = values(len, 1);
    let big = layout(&[len]);
    let hashes = leaf_hashes(&big, &[&data]).unwrap();
    let inner: Vec<Hash> = hashes
        .chunks(2)
        .map(|pair| {
            Sha256::digest([b"watershed/state/node/v2".as_slice(), &pair[0], &pair[1]].concat()).into()
        })
        .collect();
    let small = layout(&[2 * CHUNK_ELEMENTS]);
    assert_ne!(Tree::new(&small, inner).unwrap().digest(), Tree::new(&big, hashes).unwrap().digest());
}

#[test]
fn wrong_states_and_leaf_lists_are_refused() {
    let layout = layout(&[5000, 10]);
    let data = values(5000, 1);
    assert_eq!(state_digest(&layout, &[&data]), Err(MerkleError::SectionCount { expected: 2, got: 1 }));
    assert_eq!(
        state_digest(&layout, &[&data, &data[..9]]),
        Err(MerkleError::SectionLength { section: 1, expected: 10, got: 9 })
    );
    assert_eq!(
        Tree::new(&layout, vec![[0; 32]; 4]).map(|t| t.digest()),
        Err(MerkleError::LeafCount { expected: 3, got: 4 })
    );
    let huge = |n| Layout::new("x", vec![Section::new("a", n), Section::new("b", n)]);
    assert_eq!(huge(u64::MAX), Err(MerkleError::TooManyElements));
    assert_eq!(huge(MAX_ELEMENTS), Err(MerkleError::TooManyElements));
    assert_eq!(huge(MAX_ELEMENTS / 2).unwrap().leaves(), MAX_ELEMENTS / 4096);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (data, layout) = (values(700_001, 5), layout(&[700_001]));
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| state_digest(&layout, &[&data]).unwrap())
    };
    assert_eq!(with(1), with(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn places_cover_every_value_once(lengths in prop::collection::vec(0usize..20_000, 0..6)) {
        let layout = layout(&lengths);
        let mut seen = vec![0u64; lengths.len()];
        for index in 0..layout.leaves() {
            let place = layout.place(index).unwrap();
            prop_assert_eq!(place.start, seen[place.section]);
            prop_assert!((1..=CHUNK_ELEMENTS).contains(&place.len));
            seen[place.section] += place.len as u64;
        }
        prop_assert_eq!(seen, lengths.iter().map(|&n| n as u64).collect::<Vec<_>>());
        prop_assert!(layout.place(layout.leaves()).is_err());
    }
}

#[test]
fn pieces_have_the_digest_of_the_whole() {
    let values: Vec<f32> = (0..3 * CHUNK_ELEMENTS + 100).map(|i| i as f32).collect();
    let n = values.len();
    let layout = layout(&[n, 5]);
    let whole = state_digest(&layout, &[&values, &values[..5]]).unwrap();
    let mut cuts = vec![vec![0, n], vec![0, 1, 1, 2, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, n - 1, n]];
    cuts.push((0..=n / 4).map(|i| i * 4).collect());
    cuts.push(vec![0, 0, 2 * CHUNK_ELEMENTS, n, n]);
    for cuts in cuts {
        let pieces = cuts.windows(2).map(|cut| &values[cut[0]..cut[1]]).collect();
        let found = state_digest_of_pieces(&layout, &[pieces, vec![&values[..2], &values[2..5]]]);
        assert_eq!(found, Ok(whole), "{} pieces", cuts.len() - 1);
    }
    assert!(state_digest_of_pieces(&layout, &[vec![&values[..]], vec![&values[..4]]]).is_err());
}
