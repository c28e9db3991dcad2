//! The program as people use it, on real text where WATERSHED_CORPUS names some.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{corpus, json, program};
use serde_json::Value;

/// Everything that is named by a hash on the way from texts to tokens.
fn names(at: &Path, key: &Path, imports: &[Vec<PathBuf>], threads: &str) -> Vec<Value> {
    for paths in imports {
        let mut import = program(at, key);
        import.args(["--threads", threads, "import", "--license", "CC0-1.0", "--language", "en"]).args(paths);
        // The first import of a set may be refused nothing.
        assert_eq!(json(&mut import)["refused"], 0);
    }
    let snapshot = json(program(at, key).arg("snapshot"));
    let tokenizer = at.join("tokenizer.json");
    let train = ["tokenizer", "train", "--vocabulary", "1000", "--out", tokenizer.to_str().unwrap()];
    let trained = json(program(at, key).args(["--threads", threads]).args(train));
    let bytes = json(program(at, key).args(["--threads", threads, "build"]));
    let set = bytes["set"].as_str().unwrap().to_owned();
    let bpe = json(program(at, key).args([
        "--threads",
        threads,
        "build",
        "--tokenizer",
        tokenizer.to_str().unwrap(),
    ]));
    let window =
        ["--mixture", "natural", "--sequence", "128", "--batches", "15", "--batch-size", "2", "--seed", "7"];
    let drawn = json(program(at, key).args(["window", "--set", &set]).args(window));
    let attributed = json(program(at, key).args(["attribution", "--set", &set]).args(window));
    let sum: u64 =
        attributed["deposits"].as_array().unwrap().iter().map(|d| d["tokens"].as_u64().unwrap()).sum();
    assert_eq!((sum, attributed["tokens"].as_u64().unwrap()), (30 * 129, 30 * 129));
    let stats = json(program(at, key).args(["stats", "window", "--set", &set]).args(window));
    assert_eq!(stats["provenance_erasure_rate"], 0.0);
    assert_eq!(stats["total"], 30 * 129);
    let verified = json(program(at, key).args(["verify", "--retokenize"]));
    assert_eq!(verified["findings"], Value::Array(Vec::new()));
    assert!(verified["tokens_compared"].as_u64().unwrap() > bytes["tokens"].as_u64().unwrap());
    vec![
        snapshot["snapshot"].clone(),
        trained["tokenizer"].clone(),
        bytes["set"].clone(),
        bytes["streams"].clone(),
        bpe["set"].clone(),
        bpe["streams"].clone(),
        drawn["window"].clone(),
        drawn["tokens_sha256"].clone(),
        attributed["deposits"].clone(),
    ]
}

#[test]
fn the_same_texts_give_the_same_names_in_any_folder_order_and_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (key, corpus) = (folder.path().join("my.key"), corpus(folder.path()));
    // The key is made on first use, and its backup explained.
    let first = program(&folder.path().join("a"), &key).arg("key").output().unwrap();
    assert!(String::from_utf8_lossy(&first.stderr).contains("back it up"));
    let all = names(&folder.path().join("a"), &key, &[vec![corpus.clone()]], "1");
    let mut registers: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|e| e.unwrap().path()).collect();
    registers.sort();
    registers.reverse();
    let register = |path: &PathBuf| vec![path.clone()];
    // Folder by folder, backwards; each named by its parent, so that the register is still the folder's name.
    let links = folder.path().join("links");
    let one_by_one: Vec<Vec<PathBuf>> = registers
        .iter()
        .map(|path| {
            let parent = links.join(path.file_name().unwrap()).join(path.file_name().unwrap());
            fs::create_dir_all(&parent).unwrap();
            for file in fs::read_dir(path).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), parent.join(file.file_name())).unwrap();
            }
            register(&parent.parent().unwrap().to_owned())
        })
        .collect();
    assert_eq!(names(&folder.path().join("b"), &key, &one_by_one, "2"), all);
}

#[test]
fn a_killed_import_and_a_killed_build_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("my.key");
    let lines = folder.path().join("texts.jsonl");
    let line = |i| {
        serde_json::json!({"text": common::words(i, 400), "title": i, "register": "oral"}).to_string() + "\n"
    };
    fs::write(&lines, (0..4000).map(line).collect::<String>()).unwrap();
    let import = |at: &Path| {
        let mut import = program(at, &key);
        import.args(["import", "--license", "CC0-1.0"]).arg(&lines);
        import
    };
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    json(&mut import(&whole));
    let in_force = || json(program(&killed, &key).arg("stats"))["in_force"].as_u64().unwrap();
    let mut stored = 0;
    for _ in 0..3 {
        let mut child = import(&killed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = std::time::Instant::now();
        while in_force() == stored && stored < 4000 {
            assert!(started.elapsed() < Duration::from_secs(60), "the import does not get on");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        stored = in_force();
    }
    let rest = json(&mut import(&killed));
    assert_eq!(rest["stored"].as_u64().unwrap() + stored, 4000);
    assert_eq!(rest["known"], stored);
    let snapshot = |at| json(program(at, &key).arg("snapshot"))["snapshot"].clone();
    assert_eq!(snapshot(&killed), snapshot(&whole));
    for wait in [15, 30] {
        let mut build = program(&killed, &key);
        let mut child = build.arg("build").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let set = |at| json(program(at, &key).arg("build"))["set"].clone();
    assert_eq!(set(&killed), set(&whole));
    assert!(
        json(program(&killed, &key).args(["verify", "--retokenize"]))["findings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["severity"] == "leftover")
    );
}

#[test]
fn what_is_refused_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (at, key) = (folder.path().join("library"), folder.path().join("my.key"));
    let texts = folder.path().join("texts");
    for (name, bytes) in [
        ("oral/good.txt", b"a good text\r\n".as_slice()),
        ("oral/binary.txt", b"\x7fELF\0\0"),
        ("oral/latin1.txt", b"caf\xe9"),
        ("oral/empty.txt", b"  \n"),
        ("nowhere.txt", b"a text without a register"),
        ("picture.png", b"not read"),
    ] {
        let path = texts.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let report = folder.path().join("report.jsonl");
    let mut import = program(&at, &key);
    let output = import
        .args(["import", "--license", "CC0-1.0", "--report"])
        .arg(&report)
        .arg(&texts)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "refusals show in the exit code");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["stored"], &summary["refused"], &summary["normalized"]),
        (&1.into(), &4.into(), &1.into())
    );
    assert_eq!(summary["skipped_files"], 1);
    let report = fs::read_to_string(report).unwrap();
    for said in [
        "byte 0 is the control character",
        "byte 3 is not UTF-8",
        "no text in it",
        "no register",
        "line feeds",
    ] {
        assert!(report.contains(said), "{said}: {report}");
    }
    for (arguments, said) in [
        (vec!["build"], "watershed-shards snapshot"),
        (vec!["window"], "watershed-shards build"),
        (vec!["withdraw", "abcdef"], "there is no deposit"),
        (vec!["deposit", "absent.txt", "--register", "oral", "--license", "MIT"], "cannot read absent.txt"),
        (vec!["deposit", "x", "--register", "poem", "--license", "MIT"], "lyric"),
    ] {
        let output = program(&at, &key).args(&arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_person_deposits_changes_their_mind_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (at, mine, theirs) =
        (folder.path().join("library"), folder.path().join("my.key"), folder.path().join("their.key"));
    let text = folder.path().join("song.txt");
    fs::write(&text, "a song of my own").unwrap();
    let deposit = |key: &Path, more: &[&str]| {
        let mut command = program(&at, key);
        command.arg("deposit").arg(&text).args(["--register", "lyric", "--license", "all mine"]).args(more);
        command
    };
    let first = json(&mut deposit(&mine, &[]));
    let id = first["deposit"].as_str().unwrap().to_owned();
    let again = json(&mut deposit(&mine, &["--title", "Another title"]));
    assert_eq!((again["status"].as_str(), again["deposit"].as_str()), (Some("known"), Some(id.as_str())));
    assert_eq!(again["receipt"], first["receipt"]);
    let refused = deposit(&theirs, &[]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another key deposited this text first"));
    let refused = program(&at, &theirs).args(["withdraw", &id[..12]]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("only"));
    let shown = json(program(&at, &mine).args(["consent", &id[..12], "--tier", "train+index"]));
    assert_eq!(shown["tier"], "train+index");
    let withdrawn = json(program(&at, &mine).args(["withdraw", &id[..12]]));
    assert_eq!((&withdrawn["tier"], &withdrawn["statement"]), (&"none".into(), &2.into()));
    let refused = deposit(&mine, &[]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--again"));
    let back = json(&mut deposit(&mine, &["--again"]));
    assert_ne!(back["deposit"].as_str(), Some(id.as_str()));
    let stats = json(program(&at, &mine).args(["stats", "library"]));
    assert_eq!(
        (&stats["in_force"], &stats["withdrawn"], &stats["conflicts"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(json(program(&at, &mine).arg("verify"))["findings"], Value::Array(Vec::new()));
}
