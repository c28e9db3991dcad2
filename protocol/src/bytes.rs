//! Fixed-length bytes as lowercase hex for people and as they are for machines.

use thiserror::Error;

/// Text that is not the hex form of a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HexError {
    /// Another length.
    #[error("{found} hex digits given, {expected} needed")]
    Length {
        /// Characters needed.
        expected: usize,
        /// Bytes of text given.
        found: usize,
    },
    /// Not a lowercase hex digit.
    #[error("character {position} is not one of 0-9 and a-f")]
    Digit {
        /// Counted from 0.
        position: usize,
    },
}

/// Parses exactly `2 * N` lowercase hex digits: one value has one text.
pub(crate) fn parse<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    if text.len() != 2 * N {
        return Err(HexError::Length { expected: 2 * N, found: text.len() });
    }
    if let Some(position) = text.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(HexError::Digit { position });
    }
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| HexError::Digit { position: 0 })?;
    Ok(out)
}

/// Text, hex and serde for a newtype over `[u8; N]` that has `from_bytes` (fallible or not, see `$check`) and `to_bytes`.
macro_rules! hex_text {
    ($name:ident, $n:literal, $error:ty, $check:expr) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.to_bytes()))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                $check(crate::bytes::parse::<$n>(text)?)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.collect_str(self)
                } else {
                    let mut tuple = serde::ser::Serializer::serialize_tuple(s, $n)?;
                    for byte in self.to_bytes() {
                        serde::ser::SerializeTuple::serialize_element(&mut tuple, &byte)?;
                    }
                    serde::ser::SerializeTuple::end(tuple)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "{} bytes, as lowercase hex in text", $n)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let mut bytes = [0u8; $n];
                        for (i, byte) in bytes.iter_mut().enumerate() {
                            let next = seq.next_element()?;
                            *byte = next.ok_or_else(|| serde::de::Error::invalid_length(i, &self))?;
                        }
                        $check(bytes).map_err(serde::de::Error::custom)
                    }
                }
                if d.is_human_readable() {
                    d.deserialize_str(Visitor)
                } else {
                    d.deserialize_tuple($n, Visitor)
                }
            }
        }
    };
}

pub(crate) use hex_text;
