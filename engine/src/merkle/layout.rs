//! What a state consists of, as far as its digest is concerned: a domain, and sections with names and lengths. A layout
//! says where each chunk lies; it never holds values.

use sha2::{Digest, Sha256};

use super::{CHUNK_ELEMENTS, Hash, MAX_ELEMENTS, MerkleError, StateDigest};

const ROOT_TAG: &[u8] = b"watershed/state/root/v2";

/// A named run of values, for example all parameters in the model's declared order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name, part of the digest.
    pub name: String,
    /// Number of `f32` values.
    pub elements: u64,
}

impl Section {
    /// A section of `elements` values called `name`.
    pub fn new(name: impl Into<String>, elements: u64) -> Self {
        Self { name: name.into(), elements }
    }

    fn leaves(&self) -> u64 {
        self.elements.div_ceil(CHUNK_ELEMENTS as u64)
    }
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Position of its section in the layout.
    pub section: usize,
    /// Position of its first value in the section.
    pub start: u64,
    /// Number of its values, from 1 to [`CHUNK_ELEMENTS`].
    pub len: usize,
}

/// The sections of a state, and the domain that keeps digests of different kinds of state apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    domain: String,
    sections: Vec<Section>,
}

impl Layout {
    /// A layout with the given domain (what the state is, for example `inner-state` or `error-feedback`) and sections.
    ///
    /// # Errors
    /// [`MerkleError::TooManyElements`] if the sections have more than [`MAX_ELEMENTS`] values in all.
    pub fn new(domain: impl Into<String>, sections: Vec<Section>) -> Result<Self, MerkleError> {
        let total = sections.iter().try_fold(0u64, |sum, section| sum.checked_add(section.elements));
        match total {
            Some(total) if total <= MAX_ELEMENTS => Ok(Self { domain: domain.into(), sections }),
            _ => Err(MerkleError::TooManyElements),
        }
    }

    /// The sections, in the order in which they are hashed.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Number of values in all sections.
    pub fn elements(&self) -> u64 {
        self.sections.iter().map(|section| section.elements).sum()
    }

    /// Number of chunks in all sections.
    pub fn leaves(&self) -> u64 {
        self.sections.iter().map(Section::leaves).sum()
    }

    /// Where chunk `index` lies.
    ///
    /// # Errors
    /// [`MerkleError::IndexOutOfRange`] if there is no such chunk.
    pub fn place(&self, index: u64) -> Result<Place, MerkleError> {
        let mut first = 0;
        for (position, section) in self.sections.iter().enumerate() {
            if index - first < section.leaves() {
                let start = (index - first) * CHUNK_ELEMENTS as u64;
                let len = (section.elements - start).min(CHUNK_ELEMENTS as u64) as usize;
                return Ok(Place { section: position, start, len });
            }
            first += section.leaves();
        }
        Err(MerkleError::IndexOutOfRange { index, leaves: first })
    }

    /// Refuses a state whose sections do not have the declared lengths.
    pub(super) fn check(&self, sections: &[u64]) -> Result<(), MerkleError> {
        if sections.len() != self.sections.len() {
            return Err(MerkleError::SectionCount { expected: self.sections.len(), got: sections.len() });
        }
        for (position, (declared, given)) in self.sections.iter().zip(sections).enumerate() {
            if declared.elements != *given {
                return Err(MerkleError::SectionLength {
                    section: position,
                    expected: declared.elements,
                    got: *given,
                });
            }
        }
        Ok(())
    }

    /// Binds the layout to the root of the tree over the leaves.
    pub(super) fn bind(&self, tree_root: &Hash) -> StateDigest {
        let mut hasher = Sha256::new();
        let text = |hasher: &mut Sha256, value: &str| {
            hasher.update((value.len() as u64).to_le_bytes());
            hasher.update(value);
        };
        hasher.update(ROOT_TAG);
        text(&mut hasher, &self.domain);
        hasher.update((self.sections.len() as u64).to_le_bytes());
        for section in &self.sections {
            text(&mut hasher, &section.name);
            hasher.update(section.elements.to_le_bytes());
        }
        hasher.update(self.leaves().to_le_bytes());
        hasher.update(tree_root);
        StateDigest(hasher.finalize().into())
    }
}
