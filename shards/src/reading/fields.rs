//! The mapped fields of one JSON object. Whatever else it holds is passed over without being built in memory, and
//! without recursion: only the names of the mapping are descended into.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::mapping::{FIELDS, Names};

/// What a field was found to be.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Found {
    /// It is not there.
    #[default]
    Missing,
    /// It is `null`.
    Null,
    /// A string.
    Text(String),
    /// A number, as it is written out: years are often given so.
    Number(String),
    /// Something else.
    Other(&'static str),
    /// It, or an object it is in, is there more than once.
    Twice,
}

/// The fields called `names` of the JSON object `line`.
pub(super) fn find(line: &[u8], names: &Names) -> Result<[Found; FIELDS], serde_json::Error> {
    let mut found: [Found; FIELDS] = Default::default();
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let wanted = names.0.iter().map(Vec::as_slice).enumerate().filter(|(_, path)| !path.is_empty()).collect();
    deserializer.deserialize_map(Here { wanted, found: &mut found })?;
    deserializer.end()?;
    Ok(found)
}

/// The value that is read now: which fields lie at or below it, with what is left of their paths.
struct Here<'a> {
    wanted: Vec<(usize, &'a [String])>,
    found: &'a mut [Found; FIELDS],
}

impl Here<'_> {
    /// The fields that are this very value are `value`.
    fn set(&mut self, value: &Found) {
        for (field, path) in &self.wanted {
            if let (true, Some(found)) = (path.is_empty(), self.found.get_mut(*field)) {
                *found = value.clone();
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Here<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Here<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.set(&Found::Null);
        Ok(())
    }

    fn visit_bool<E>(mut self, _: bool) -> Result<(), E> {
        self.set(&Found::Other("a boolean"));
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.set(&Found::Number(value.to_string()));
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.set(&Found::Number(value.to_string()));
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.set(&Found::Number(value.to_string()));
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.set(&Found::Text(value.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.set(&Found::Other("a list"));
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.set(&Found::Other("an object"));
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let below: Vec<(usize, &[String])> = self
                .wanted
                .iter()
                .filter_map(|(field, path)| {
                    let (first, rest) = path.split_first()?;
                    (*first == key).then_some((*field, rest))
                })
                .collect();
            if below.is_empty() {
                entries.next_value::<IgnoredAny>()?;
            } else if seen.contains(&key) {
                for (field, _) in below {
                    if let Some(found) = self.found.get_mut(field) {
                        *found = Found::Twice;
                    }
                }
                entries.next_value::<IgnoredAny>()?;
            } else {
                entries.next_value_seed(Here { wanted: below, found: self.found })?;
                seen.push(key);
            }
        }
        Ok(())
    }
}
