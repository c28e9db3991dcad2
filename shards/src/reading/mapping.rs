//! Under which names a file's fields hold the text and what is said about it.

use serde::Deserialize;

use super::{ReadError, Record};

/// The names of the fields of a JSON lines file, the columns of a Parquet file and the keys of a Markdown file's front
/// matter.
///
/// A dot descends: `meta.register` is the field `register` of the object or struct `meta`. A field with no name (`None`
/// or the empty string) is not read. Fields a file does not have are simply not known, but for the text.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// The text. Of plain files it is the content.
    pub text: String,
    /// What it is called.
    pub title: Option<String>,
    /// Its register.
    pub register: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Its language.
    pub language: Option<String>,
    /// Where it comes from.
    pub source: Option<String>,
}

impl Default for Mapping {
    fn default() -> Self {
        let name = |name: &str| Some(name.to_owned());
        Self {
            text: "text".to_owned(),
            title: name("title"),
            register: name("register"),
            license: name("license"),
            author: name("author"),
            language: name("language"),
            source: name("source"),
        }
    }
}

/// How many fields a record may have.
pub(super) const FIELDS: usize = 7;

/// The text's place among the fields.
pub(super) const TEXT: usize = 0;

/// What the fields are called in messages, in order.
pub(super) const CALLED: [&str; FIELDS] =
    ["text", "title", "register", "licence", "author", "language", "source"];

/// The names of the fields, split at their dots; no parts: not read.
#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) [Vec<String>; FIELDS]);

impl Names {
    /// The name of a field as it was given.
    pub(super) fn whole(&self, field: usize) -> String {
        self.0.get(field).map(|parts| parts.join(".")).unwrap_or_default()
    }
}

impl Mapping {
    pub(super) fn names(&self) -> Result<Names, ReadError> {
        let given = [
            Some(&self.text),
            self.title.as_ref(),
            self.register.as_ref(),
            self.license.as_ref(),
            self.author.as_ref(),
            self.language.as_ref(),
            self.source.as_ref(),
        ];
        let mut names = Names(Default::default());
        for (field, ((parts, name), called)) in names.0.iter_mut().zip(given).zip(CALLED).enumerate() {
            let name = name.map_or("", String::as_str);
            if name.is_empty() && field != TEXT {
                continue;
            }
            *parts = name.split('.').map(str::to_owned).collect();
            if parts.iter().any(String::is_empty) {
                return Err(ReadError::Name { field: called, name: name.to_owned() });
            }
        }
        Ok(names)
    }
}

/// A record of the values that were found, in the order of the fields; the text's own place is not looked at.
pub(super) fn record(index: u64, bytes: Vec<u8>, values: [Option<String>; FIELDS]) -> Record {
    let [_, title, register, license, author, language, source] = values;
    Record { index, bytes, title, register, license, author, language, source }
}
