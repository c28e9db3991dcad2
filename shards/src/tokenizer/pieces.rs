//! Cutting a text into pieces that are tokenised one by one.

/// Most bytes of a piece.
pub const PIECE: usize = 64 << 10;

/// The pieces of a text, which joined are the text again: each ends behind the last line feed within [`PIECE`] bytes; if there
/// is none, before the last space; if there is none either, at the last character boundary. A piece is its own only piece.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(cut(rest));
        rest = after;
        Some(piece)
    })
}

/// Where the first piece ends; never 0.
fn cut(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let head = text.get(..text.floor_char_boundary(PIECE)).unwrap_or(text);
    let line = head.rfind('\n').map(|i| i + 1);
    // Tokens of many vocabularies begin with the space before a word.
    let word = || head.rfind(' ').filter(|i| *i > 0);
    line.or_else(word).unwrap_or(head.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_fall_behind_lines_before_words_or_between_characters() {
        let line = "a line of a text\n".repeat(2 * PIECE / 17);
        assert!(pieces(&line).all(|p| p.ends_with('\n') && p.len() <= PIECE && p.len() > PIECE - 17));
        let words = " word".repeat(PIECE);
        assert!(pieces(&words).all(|p| p.starts_with(" w") && p.len() <= PIECE));
        let none = "é".repeat(PIECE);
        assert_eq!(pieces(&none).map(str::len).collect::<Vec<_>>(), [PIECE, PIECE]);
        assert_eq!(pieces("").count(), 0);
        // A space at the very beginning is no place to cut.
        let long = format!(" {}", "x".repeat(2 * PIECE));
        assert_eq!(pieces(&long).map(str::len).collect::<Vec<_>>(), [PIECE, PIECE, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn joined_pieces_are_the_text(parts in prop::collection::vec("[a-zé\u{1f409} \n]{1,9}", 1..20), times in 1usize..4000) {
            let text = parts.concat().repeat(times);
            let cut: Vec<&str> = pieces(&text).collect();
            prop_assert_eq!(cut.concat(), text.as_str());
            prop_assert!(cut.iter().all(|p| !p.is_empty() && p.len() <= PIECE && pieces(p).count() == 1));
        }
    }
}
