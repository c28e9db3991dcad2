//! Licences as people write them.

use watershed_protocol::data::License;

/// An SPDX expression if it is one (SPDX 3, identifiers and operators as listed there), else the words as they are.
pub fn license(text: &str) -> License {
    let text = text.trim();
    match spdx::Expression::parse(text) {
        Ok(_) => License::Spdx(text.to_owned()),
        Err(_) => License::Words(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_from_words() {
        for spdx in ["CC0-1.0", "CC-BY-SA-4.0", "MIT OR Apache-2.0", " CC-BY-4.0 "] {
            assert_eq!(license(spdx), License::Spdx(spdx.trim().to_owned()));
        }
        for words in ["Public domain", "ask me", "cc by"] {
            assert_eq!(license(words), License::Words(words.to_owned()));
        }
    }
}
