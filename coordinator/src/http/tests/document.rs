//! The document: what it says is what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::NoMoney;
use crate::http::codes::CODES;
use crate::http::openapi::describe;
use crate::http::routes::operations;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `WATERSHED_UPDATE=1` writes the file anew; whoever reviews a change of the API sees it there.
#[test]
fn the_document_is_the_one_that_was_agreed() {
    let found = serde_json::to_string_pretty(&describe::<NoMoney>()).unwrap() + "\n";
    let path = project().join("docs/openapi.json");
    if std::env::var_os("WATERSHED_UPDATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(agreed == found, "the API has changed; if that is meant, run this test with WATERSHED_UPDATE=1");
}

#[test]
fn every_operation_has_a_name_and_every_code_a_meaning() {
    let mut ids = BTreeSet::new();
    let mut used = BTreeSet::new();
    for operation in operations::<NoMoney>() {
        let about = operation.about;
        assert!(ids.insert(about.id), "{} twice", about.id);
        assert!(!about.summary.is_empty(), "{}", about.id);
        for code in about.codes {
            assert!(CODES.iter().any(|(known, ..)| *known == code), "{}: {code}", about.id);
            used.insert(code);
        }
    }
    // What may come from any path.
    used.extend(["bad-method", "too-many", "too-slow"]);
    for (code, ..) in CODES {
        assert!(used.contains(code), "no operation refuses with {code}");
    }
}

/// Every code that stands in the sources is in the table.
#[test]
fn no_code_is_forgotten() {
    let mut files = vec![project().join("coordinator/src/machine/refusal.rs")];
    let folder = std::fs::read_dir(project().join("coordinator/src/http")).unwrap();
    files.extend(folder.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "rs")));
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for before in ["::of(\"", "::of(\n                \"", "=> \""] {
            for rest in text.split(before).skip(1) {
                let code = rest.split('"').next().unwrap_or_default();
                if before != "=> \"" || file.ends_with("refusal.rs") {
                    found.insert(code.to_owned());
                }
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
    for code in found {
        assert!(CODES.iter().any(|(known, ..)| *known == code), "{code} is not in the table of codes");
    }
}

#[test]
fn codes_are_told_in_the_documentation() {
    let text = std::fs::read_to_string(project().join("docs/MARKET.md")).unwrap();
    for (code, status, meaning) in CODES {
        assert!(
            text.contains(&format!("| `{code}` | {status} | {meaning} |")),
            "{code} is not in docs/MARKET.md"
        );
    }
}
