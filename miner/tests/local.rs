//! The program as a person runs it, on the text of this project's own documentation.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn miner(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watershed-miner"));
    command.args(arguments);
    command
}

fn local(arguments: &[&str]) -> Command {
    let mut command = miner(&["local", "--json", "--seq", "32", "--text"]);
    command.arg(text()).args(arguments);
    command
}

/// One JSON object per line of stdout.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What must not depend on the machine.
fn results(output: &Output) -> Vec<(Value, Value, Value)> {
    lines(output)
        .iter()
        .map(|l| (l["checkpoint"].clone(), l["eval_loss"].clone(), l["train_loss"].clone()))
        .collect()
}

#[test]
fn two_rounds_have_the_same_checkpoints_on_the_cpu_and_behind_wgpu() {
    let flags = ["--rounds", "2", "--workers", "2", "--inner-steps", "2", "--batch", "1", "--seed", "3"];
    let run = |device: &str| local(&flags).args(["--device", device]).output().unwrap();
    let (cpu, gpu) = (run("cpu"), run("gpu"));
    assert_eq!(results(&cpu), results(&gpu));
    let lines = lines(&cpu);
    assert_eq!(lines.len(), 2);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["round"], i + 1);
        assert_eq!(line["tokens"], 2 * 2 * 32);
        assert_eq!(line["checkpoint"].as_str().unwrap().len(), 64);
        assert!(line["bytes_per_worker"].as_u64().unwrap() < 4 * 803_968 / 30);
        assert!(line["seconds"].as_f64().unwrap() > 0.0);
    }
    assert_ne!(lines[0]["checkpoint"], lines[1]["checkpoint"]);
    let other = local(&flags).args(["--device", "cpu", "--precision", "16x16"]).output().unwrap();
    assert_ne!(results(&cpu), results(&other), "widths are part of the run");
}

#[test]
fn an_interrupted_run_continues_to_the_same_checkpoint_and_writes_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--rounds", "3", "--workers", "2", "--inner-steps", "40", "--batch", "2", "--device", "cpu"];
    let whole = results(&local(&flags).output().unwrap());
    let out = dir.path().join("run");
    let mut child =
        local(&flags).arg("--out").arg(&out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // Ctrl-C, somewhere within the run.
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    let refused = local(&flags).arg("--out").arg(&out).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--resume"));
    let other = local(&flags).args(["--seed", "9", "--resume", "--out"]).arg(&out).output().unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("other settings"));
    let rest = results(&local(&flags).args(["--resume", "--out"]).arg(&out).output().unwrap());
    assert!(!rest.is_empty() && rest.len() <= 3);
    assert_eq!(rest.last(), whole.last());
    let (config, flat) = watershed_engine::model::hf::load(&out.join("model")).unwrap();
    assert_eq!(flat.len() as u64, config.parameters().unwrap());
}

#[test]
fn the_self_test_speaks_json_and_passes_on_every_device() {
    let digest = |device: &str| {
        let found = lines(&miner(&["selftest", "--json", "--device", device]).output().unwrap()).remove(0);
        assert_eq!(found["passed"], true);
        found["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("cpu"), digest("gpu"));
}

#[test]
fn mistakes_are_explained() {
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&mut miner(&["local", "--text", "/nonexistent"])).contains("cannot read /nonexistent"));
    assert!(said(&mut local(&["--preset", "giant"])).contains("nano"));
    assert!(said(&mut local(&["--precision", "4x4"])).contains('8'));
    assert!(said(&mut local(&["--device", "gpu:99"])).contains("no graphics device 99"));
    assert!(said(&mut local(&["--lr", "nan"])).contains("--lr"));
    assert!(said(&mut local(&["--resume"])).contains("--out"));
    assert!(said(&mut local(&["--workers", "0"])).contains("1..=256"));
}
