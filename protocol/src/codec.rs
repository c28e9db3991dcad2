//! The one codec: bincode behind a version byte and a size limit. Nothing else in the project names bincode.
//!
//! Integers are fixed-width little-endian: every value then has exactly one encoding by construction, where variable
//! lengths would admit several. What bincode still leaves open (a `bool` of 2, say, it refuses; a map in another order it
//! does not) is closed by encoding again after decoding and comparing.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// A type that crosses the wire.
pub trait Wire: Serialize + DeserializeOwned {
    /// Its name; part of what is signed.
    const NAME: &'static str;
    /// The first byte of its encoding; raised when the encoding changes.
    const VERSION: u8;
    /// Most bytes an encoding may have, version included.
    const MAX_BYTES: usize;
}

/// A value that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Larger than its type allows.
    #[error("{name} has {found} bytes, at most {max} may be sent")]
    TooLarge {
        /// The type.
        name: &'static str,
        /// Bytes of the encoding.
        found: usize,
        /// [`Wire::MAX_BYTES`].
        max: usize,
    },
    /// Something the codec has no form for.
    #[error("{name} cannot be encoded: {reason}")]
    Unsupported {
        /// The type.
        name: &'static str,
        /// What bincode says.
        reason: String,
    },
}

/// Bytes that are not the encoding of a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than the type allows; nothing was read.
    #[error("{found} bytes are too many for {name}, which has at most {max}")]
    TooLarge {
        /// The type.
        name: &'static str,
        /// Bytes given.
        found: usize,
        /// [`Wire::MAX_BYTES`].
        max: usize,
    },
    /// No bytes.
    #[error("no bytes where {0} was expected")]
    Empty(&'static str),
    /// Another version.
    #[error("version {found} of {name} where {expected} is spoken; one side needs an update")]
    Version {
        /// The type.
        name: &'static str,
        /// The version byte.
        found: u8,
        /// [`Wire::VERSION`].
        expected: u8,
    },
    /// Not an encoding of this type.
    #[error("not a {name}: {reason}")]
    Malformed {
        /// The type.
        name: &'static str,
        /// What bincode says.
        reason: String,
    },
    /// Bytes behind the value.
    #[error("{extra} bytes behind a {name}")]
    Trailing {
        /// The type.
        name: &'static str,
        /// How many.
        extra: usize,
    },
    /// A second encoding of a value.
    #[error("not the one encoding of this {0}")]
    NotCanonical(&'static str),
}

fn config() -> bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Fixint> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding()
}

/// Largest [`Wire::MAX_BYTES`].
const LARGEST: usize = 1 << 24;

/// Reads a value under the smallest power of two that holds `body`. Without a limit bincode believes a claimed length and
/// allocates it; its limits are part of a type, hence the steps.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    macro_rules! steps {
        ($($bits:literal)*) => {
            match body.len() {
                $(n if n <= 1 << $bits => bincode::serde::borrow_decode_from_slice(body, config().with_limit::<{ 1 << $bits }>()),)*
                _ => bincode::serde::borrow_decode_from_slice(body, config().with_limit::<LARGEST>()),
            }
        };
    }
    steps!(6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23)
}

/// A list that allocates for the elements that come, not for the number that is claimed: for
/// `#[serde(deserialize_with = "watershed_protocol::list")]` on every field that is a `Vec`.
///
/// # Errors
/// Those of an element.
pub fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(List(PhantomData))
}

/// Bytes that are copied once they are known to be there. In text they are a list of numbers.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    if deserializer.is_human_readable() {
        return list(deserializer);
    }
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    deserializer.deserialize_bytes(Bytes)
}

/// The encoding of `value`: its version, then its fields.
///
/// # Errors
/// [`EncodeError`] if it is larger than its type allows.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, EncodeError> {
    encode_into(value, Vec::new())
}

/// [`encode`] behind what a buffer has room for.
fn encode_into<T: Wire>(value: &T, mut bytes: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    let unsupported =
        |e: bincode::error::EncodeError| EncodeError::Unsupported { name: T::NAME, reason: e.to_string() };
    bytes.push(T::VERSION);
    bincode::serde::encode_into_std_write(value, &mut bytes, config()).map_err(unsupported)?;
    if bytes.len() > T::MAX_BYTES {
        return Err(EncodeError::TooLarge { name: T::NAME, found: bytes.len(), max: T::MAX_BYTES });
    }
    Ok(bytes)
}

/// The value that `bytes` encode.
///
/// No allocation is larger than twice what the elements that are there take, whatever lengths the bytes claim, if every `Vec`
/// in `T` is read by [`list`].
///
/// # Errors
/// [`DecodeError`] for anything but the one encoding of a value.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    const { assert!(T::MAX_BYTES <= LARGEST, "the codec is not for blobs") };
    if bytes.len() > T::MAX_BYTES {
        return Err(DecodeError::TooLarge { name: T::NAME, found: bytes.len(), max: T::MAX_BYTES });
    }
    let Some((version, body)) = bytes.split_first() else { return Err(DecodeError::Empty(T::NAME)) };
    if *version != T::VERSION {
        return Err(DecodeError::Version { name: T::NAME, found: *version, expected: T::VERSION });
    }
    let (value, used): (T, usize) =
        read(body).map_err(|e| DecodeError::Malformed { name: T::NAME, reason: e.to_string() })?;
    if used != body.len() {
        return Err(DecodeError::Trailing { name: T::NAME, extra: body.len() - used });
    }
    match encode_into(&value, Vec::with_capacity(bytes.len())) {
        Ok(again) if again == bytes => Ok(value),
        _ => Err(DecodeError::NotCanonical(T::NAME)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        flag: bool,
        number: u64,
        text: String,
        #[serde(deserialize_with = "list")]
        list: Vec<u16>,
        map: BTreeMap<u8, Option<i32>>,
    }
    impl Wire for Sample {
        const NAME: &'static str = "sample";
        const VERSION: u8 = 3;
        const MAX_BYTES: usize = 400;
    }

    fn sample() -> Sample {
        let map = BTreeMap::from([(1, Some(-2)), (9, None)]);
        Sample { flag: true, number: 258, text: "sat".to_owned(), list: vec![7], map }
    }

    #[test]
    fn the_encoding_is_these_bytes() {
        let expected = "03010201000000000000030000000000000073617401000000000000000700\
                        02000000000000000101feffffff0900";
        assert_eq!(hex::encode(encode(&sample()).unwrap()), expected.replace(' ', ""));
    }

    #[test]
    fn each_kind_of_bad_bytes_has_its_error() {
        let good = encode(&sample()).unwrap();
        assert_eq!(decode::<Sample>(&good).unwrap(), sample());
        assert_eq!(decode::<Sample>(&[]), Err(DecodeError::Empty("sample")));
        assert!(matches!(decode::<Sample>(&[0; 401]), Err(DecodeError::TooLarge { found: 401, .. })));
        let mut other = good.clone();
        other[0] = 4;
        assert!(matches!(decode::<Sample>(&other), Err(DecodeError::Version { found: 4, .. })));
        assert!(matches!(decode::<Sample>(&good[..9]), Err(DecodeError::Malformed { .. })));
        let longer = [good.as_slice(), &[0]].concat();
        assert!(matches!(decode::<Sample>(&longer), Err(DecodeError::Trailing { extra: 1, .. })));
        // The entries of the map in the other order: the same value, written differently.
        let mut swapped = good.clone();
        let at = good.len() - 8;
        swapped[at..].copy_from_slice(&[9, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(decode::<Sample>(&swapped), Err(DecodeError::NotCanonical("sample")));
        let large = Sample { list: vec![0; 400], ..sample() };
        assert!(matches!(encode(&large), Err(EncodeError::TooLarge { .. })));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A text, and behind an empty one a list, of 2^60 elements, in a message of a few bytes.
        for before in [8, 16] {
            let mut bytes = vec![3, 0];
            bytes.extend(vec![0; before]);
            bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
            assert!(matches!(decode::<Sample>(&bytes), Err(DecodeError::Malformed { .. })));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_decode_to_what_encodes_to_them(mut bytes in prop::collection::vec(any::<u8>(), 1..120)) {
            bytes[0] = Sample::VERSION;
            if let Ok(value) = decode::<Sample>(&bytes) {
                prop_assert_eq!(encode(&value).unwrap(), bytes);
            }
        }

        #[test]
        fn values_read_back(flag: bool, number: u64, text in ".{0,20}", list in prop::collection::vec(any::<u16>(), 0..20)) {
            let value = Sample { flag, number, text, list, map: BTreeMap::new() };
            prop_assert_eq!(decode::<Sample>(&encode(&value).unwrap()).unwrap(), value);
        }
    }
}
