//! Keys and their text.

use proptest::prelude::*;

use super::*;

// The example of the signed-note format's own documentation.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

proptest! {
    #[test]
    fn a_verifier_survives_its_text(entropy: [u8; 32], origin in "[a-z]{1,9}\\.example(/[a-z0-9+é]{0,5})?") {
        prop_assume!(!origin.contains('+'));
        let verifier = LogKey::new(&origin, &entropy).unwrap().verifier();
        let read: LogVerifier = verifier.to_string().parse().unwrap();
        prop_assert_eq!(&read, &verifier);
        prop_assert_eq!(read.to_string(), verifier.to_string());
        prop_assert_eq!(read.origin(), origin);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = text.parse::<LogVerifier>();
    }
}

#[test]
fn the_known_key_pair_is_one() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let secret: [u8; 32] = BASE64_STANDARD.decode(PETER_SECRET).unwrap()[1..].try_into().unwrap();
    assert_eq!(LogKey::new("PeterNeumann", &secret).unwrap().verifier().to_string(), PETER);
    assert_eq!(format!(" {PETER}\n").parse::<LogVerifier>().unwrap().to_string(), PETER);
}

#[test]
fn upper_case_digits_give_the_same_verifier() {
    let upper = PETER.replace("c74f20a3", "C74F20A3");
    assert_eq!(upper.parse::<LogVerifier>().unwrap(), PETER.parse().unwrap());
}

#[test]
fn bad_texts_and_origins_are_refused() {
    for text in ["", "a+b", "a+00000000+", &PETER.replace("c74f", "c74e"), &PETER[..60]] {
        assert!(matches!(text.parse::<LogVerifier>(), Err(KeyError::Verifier(_))), "{text}");
    }
    for origin in ["", "a b", "a+b", "a\nb", "a\u{1}b", &"a".repeat(256)] {
        assert!(matches!(LogKey::new(origin, &[1; 32]), Err(KeyError::Origin(_))), "{origin:?}");
    }
}

#[test]
fn the_secret_does_not_show() {
    let shown = format!("{:?}", LogKey::new(ORIGIN, &[0xa7; 32]).unwrap());
    assert!(shown.contains(ORIGIN) && !shown.contains("167") && !shown.contains("a7, a7"));
}
