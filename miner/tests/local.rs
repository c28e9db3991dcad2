//! The program as a person runs it, on the text of this project's own documentation.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know for tests

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use watershed_engine::model::{Layout, ModelConfig, Preset, hf, init};
use watershed_shards::tokenizer::{TrainOptions, train_bpe};

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
        assert!(line["bytes_per_worker"].as_u64().unwrap() < 4 * 803_968 / 24);
        assert!(line["seconds"].as_f64().unwrap() > 0.0);
    }
    assert_ne!(lines[0]["checkpoint"], lines[1]["checkpoint"]);
    let other = local(&flags).args(["--device", "cpu", "--precision", "16x16"]).output().unwrap();
    assert_ne!(results(&cpu), results(&other), "widths are part of the run");
}

#[test]
fn an_interrupted_run_continues_to_the_same_checkpoint_and_writes_a_model() {
    interrupted(&["--top-k", "1024x1,64", "--outer-lr", "1x1,1.5", "--error-decay", "0.95x2,0.8"]);
}

#[test]
fn so_does_one_that_keeps_everything_in_full() {
    interrupted(&["--dense", "--moments", "full", "--outer-momentum", "0.3"]);
}

fn interrupted(more: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut flags = vec!["--inner-steps", "20x1,40x2", "--workers", "2", "--batch", "2", "--device", "cpu"];
    flags.extend(more);
    let whole = results(&local(&flags).output().unwrap());
    assert_eq!(whole.len(), 3, "a schedule says how many rounds there are");
    let out = dir.path().join("run");
    let mut child =
        local(&flags).arg("--out").arg(&out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut printed = BufReader::new(child.stdout.take().unwrap());
    printed.read_line(&mut first).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["tokens"], 20 * 2 * 2 * 32);
    // Ctrl-C, in the second round, which takes twice as long, while its second worker is at work.
    std::thread::sleep(Duration::from_secs_f64(1.4 * first["seconds"].as_f64().unwrap()));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    // So that a script can tell it from a run that was finished.
    assert!(!child.wait().unwrap().success());
    let refused = local(&flags).arg("--out").arg(&out).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--resume"));
    let other = local(&flags).args(["--seed", "9", "--resume", "--out"]).arg(&out).output().unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("other settings"));
    let rest = results(&local(&flags).args(["--resume", "--out"]).arg(&out).output().unwrap());
    assert!(!rest.is_empty() && rest.len() < 3);
    assert_eq!(rest, whole[3 - rest.len()..]);
    let (config, flat) = hf::load(&out.join("model")).unwrap();
    assert_eq!(flat.len() as u64, config.parameters().unwrap());
}

#[test]
fn a_schedule_is_what_its_rounds_are_however_it_is_written() {
    let run = |flags: &[&str]| {
        let common = ["--workers", "2", "--batch", "1", "--device", "cpu", "--outer-momentum", "0.5"];
        local(&common).args(flags).output().unwrap()
    };
    let a = run(&["--inner-steps", "1x2,2x1", "--top-k", "1024x1,64"]);
    let b = run(&["--rounds", "3", "--inner-steps", "1x1,1x1,2", "--top-k", "1024x1,64x2"]);
    assert_eq!(results(&a), results(&b));
    let lines = lines(&a);
    let tokens: Vec<u64> = lines.iter().map(|l| l["tokens"].as_u64().unwrap()).collect();
    assert_eq!(tokens, [2 * 32, 2 * 32, 2 * 2 * 32]);
    let sent: Vec<u64> = lines.iter().map(|l| l["bytes_per_worker"].as_u64().unwrap()).collect();
    assert!(sent[0] > 8 * sent[1] && sent[1].abs_diff(sent[2]) < 1000, "{sent:?}");
    let other = run(&["--inner-steps", "1x1,2x1,1x1", "--top-k", "1024x1,64"]);
    assert_ne!(results(&a), results(&other), "the order counts");
}

#[test]
fn rates_change_in_the_round_that_their_schedule_names() {
    let run = |rate: &str, decay: &str| {
        let common =
            ["--workers", "2", "--batch", "1", "--device", "cpu", "--inner-steps", "1", "--rounds", "3"];
        results(&local(&common).args(["--outer-lr", rate, "--error-decay", decay]).output().unwrap())
    };
    let plain = run("1", "0.95");
    // The rate of round 2 is that of its own outer step, so the checkpoint after it is the first to differ.
    let faster = run("1x1,1.5", "0.95");
    assert_eq!(plain[0], faster[0]);
    assert_ne!(plain[1], faster[1]);
    // The decay of round 3 meets what round 2 left unsent.
    let forgetful = run("1x2,1x1", "0.95x2,0.5");
    assert_eq!(plain[..2], forgetful[..2]);
    assert_ne!(plain[2], forgetful[2]);
}

#[test]
fn a_run_starts_from_the_model_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let common =
        ["--workers", "2", "--batch", "2", "--rounds", "1", "--inner-steps", "25", "--device", "cpu"];
    let run =
        |model: &Path, flags: &[&str]| local(&common).arg("--model").arg(model).args(flags).output().unwrap();
    let first = local(&common).arg("--out").arg(dir.path().join("a")).output().unwrap();
    let model = dir.path().join("a/model");
    let second = run(&model, &[]);
    let loss = |output: &Output| lines(output)[0]["train_loss"].as_f64().unwrap();
    assert!(loss(&second) < loss(&first) - 0.1, "{} after {}", loss(&second), loss(&first));
    // What the same model is called and how it is split does not matter.
    let (config, flat) = hf::load(&model).unwrap();
    let split = dir.path().join("split");
    hf::save(&split, &config, &flat, 400_000).unwrap();
    assert!(!split.join("model.safetensors").exists());
    assert_eq!(results(&run(&split, &[])), results(&second));
    // Its weights are part of the run.
    let out = dir.path().join("b").to_str().unwrap().to_owned();
    assert_eq!(results(&run(&split, &["--out", &out])), results(&second));
    let other = dir.path().join("other");
    hf::save(&other, &config, &init(&Layout::new(&config).unwrap(), 8), u64::MAX).unwrap();
    let refused = run(&other, &["--out", &out, "--resume"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other settings"));
    let spoken = miner(&["local", "--seq", "32", "--text"])
        .arg(text())
        .args(common)
        .arg("--model")
        .arg(&model)
        .output()
        .unwrap();
    let checkpoint = lines(&first)[0]["checkpoint"].as_str().unwrap().to_owned();
    let said = String::from_utf8(spoken.stdout).unwrap();
    assert!(said.contains(&format!("starts from {}", &checkpoint[..16])), "{said}");
}

#[test]
fn a_models_tokenizer_cuts_the_text_and_goes_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let config =
        ModelConfig { vocab: 300, layers: 1, qkv_bias: true, kv_heads: 2, ffn: 64, ..Preset::Nano.config() };
    hf::save(&model, &config, &init(&Layout::new(&config).unwrap(), 1), u64::MAX).unwrap();
    let run = |flags: &[&str]| {
        let common = ["--rounds", "1", "--inner-steps", "2", "--batch", "1", "--device", "cpu"];
        local(&common).arg("--model").arg(&model).args(flags).output().unwrap()
    };
    let bare = String::from_utf8(run(&[]).stderr).unwrap();
    assert!(bare.contains("tokenizer.json"), "{bare}");
    let texts = std::fs::read_to_string(text().join("MARKET.md"));
    let json = train_bpe([texts].into_iter(), &TrainOptions { vocabulary: 300, min_frequency: 2 }).unwrap();
    std::fs::write(model.join("tokenizer.json"), &json).unwrap();
    let out = dir.path().join("out");
    let of_tokens = run(&["--out", out.to_str().unwrap()]);
    assert!(!results(&of_tokens).is_empty());
    assert_eq!(std::fs::read(out.join("model/tokenizer.json")).unwrap(), json);
    // A tokenizer of more tokens than the model has is of another model.
    let small = ModelConfig { vocab: 299, ..config };
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    std::fs::remove_file(model.join("config.json")).unwrap();
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    hf::save(&model, &small, &init(&Layout::new(&small).unwrap(), 1), u64::MAX).unwrap();
    std::fs::write(model.join("tokenizer.json"), &json).unwrap();
    let refused = String::from_utf8(run(&[]).stderr).unwrap();
    assert!(refused.contains("300 tokens, the model 299"), "{refused}");
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
    assert!(said(&mut local(&["--inner-steps", "5*40"])).contains("5x40,15x20"));
    assert!(said(&mut local(&["--top-k", "5000"])).contains("1..=4096"));
    assert!(said(&mut local(&["--rounds", "7", "--inner-steps", "5x4,15x4"])).contains("8 rounds"));
    assert!(said(&mut local(&["--rounds", "7", "--outer-lr", "1x4,1.5x4"])).contains("--outer-lr"));
    assert!(said(&mut local(&["--error-decay", "1.1"])).contains("0..=1"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/llama");
    let golden = golden.to_str().unwrap();
    assert!(said(&mut local(&["--model", golden])).contains("tokenizer.json"));
    assert!(said(&mut local(&["--model", golden, "--preset", "nano"])).contains("--preset"));
    assert!(said(&mut local(&["--model", "/nonexistent"])).contains("/nonexistent"));
}
