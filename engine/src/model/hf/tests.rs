//! Whole folders: those that transformers wrote, those we write, and those a stranger might hand us.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::model::init::init;
use crate::model::layout::{Layout, ParamKind};
use crate::model::preset::Preset;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tiny() -> ModelConfig {
    ModelConfig {
        vocab: 20,
        hidden: 12,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 6,
        ffn: 10,
        ..Preset::Nano.config()
    }
}

fn fresh(config: &ModelConfig) -> Vec<f32> {
    init(&Layout::new(config).unwrap(), 5)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A folder with `config` and the tiny model's weights in one file.
fn saved(config: &ModelConfig) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    save(&dir, config, &fresh(config), u64::MAX).unwrap();
    (temp, dir)
}

/// Rewrites the JSON header of a safetensors file, leaving its values alone.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let written = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + len..]].concat();
    fs::write(path, written).unwrap();
}

fn load_error(dir: &Path) -> HfError {
    load(dir).expect_err("a broken folder was accepted")
}

#[test]
fn what_transformers_wrote_is_read_into_the_declared_order() {
    let expected_configs = [
        (
            "llama",
            ModelConfig {
                vocab: 48,
                hidden: 32,
                layers: 2,
                heads: 4,
                kv_heads: 2,
                head_dim: 12,
                ffn: 40,
                ..tiny()
            },
        ),
        (
            "qwen2",
            ModelConfig {
                vocab: 50,
                hidden: 32,
                layers: 2,
                heads: 4,
                kv_heads: 1,
                head_dim: 8,
                ffn: 36,
                rope_theta: 1e6,
                rms_eps: 1e-6,
                qkv_bias: true,
                ..tiny()
            },
        ),
        (
            "smollm",
            ModelConfig {
                vocab: 49,
                hidden: 36,
                layers: 3,
                heads: 6,
                kv_heads: 2,
                head_dim: 6,
                ffn: 44,
                rope_theta: 1e5,
                tied_embeddings: true,
                ..tiny()
            },
        ),
    ];
    for (name, expected) in expected_configs {
        let (config, flat) = load(&golden(name)).unwrap();
        assert_eq!(config, ModelConfig { max_seq: 64, ..expected }, "{name}");
        let facts: Value =
            serde_json::from_slice(&fs::read(golden(name).join("expected.json")).unwrap()).unwrap();
        let mut hash = Sha256::new();
        flat.iter().for_each(|value| hash.update(value.to_le_bytes()));
        assert_eq!(facts["parameters"], flat.len(), "{name}");
        assert_eq!(facts["flat_sha256"], hex::encode(hash.finalize()), "{name}");
    }
}

#[test]
fn every_bit_survives_writing_and_reading_in_any_number_of_shards() {
    for (tied_embeddings, qkv_bias) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = ModelConfig { tied_embeddings, qkv_bias, ..tiny() };
        let mut flat = fresh(&config);
        // Values that a careless conversion would change.
        flat[..4].copy_from_slice(&[-0.0, f32::from_bits(1), f32::MAX, f32::MIN_POSITIVE]);
        for shard_bytes in [u64::MAX, 3000, 1] {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("deep").join("model");
            save(&dir, &config, &flat, shard_bytes).unwrap();
            let (read, values) = load(&dir).unwrap();
            assert_eq!((read, bits(&values)), (config, bits(&flat)), "{shard_bytes}");
            assert_eq!(dir.join(WEIGHTS_FILE).exists(), shard_bytes == u64::MAX);
            assert_eq!(dir.join(INDEX_FILE).exists(), shard_bytes != u64::MAX);
            for entry in fs::read_dir(&dir).unwrap() {
                let (path, bytes) = entry.map(|e| (e.path(), e.metadata().unwrap().len())).unwrap();
                let header = 8 + 2000;
                assert!(
                    shard_bytes != 3000 || bytes <= 3000 + header,
                    "{} has {bytes} bytes",
                    path.display()
                );
            }
            assert_eq!(
                fs::read_dir(temp.path().join("deep")).unwrap().count(),
                1,
                "something was left behind"
            );
        }
    }
}

#[test]
fn the_same_model_is_written_as_the_same_bytes() {
    let files = |dir: &Path| {
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files.iter().map(|p| (p.file_name().unwrap().to_owned(), fs::read(p).unwrap())).collect::<Vec<_>>()
    };
    let temp = tempfile::tempdir().unwrap();
    let (config, [a, b]) = (tiny(), ["a", "b"].map(|name| temp.path().join(name)));
    for dir in [&a, &b] {
        save(dir, &config, &fresh(&config), 3000).unwrap();
    }
    assert!(files(&a).len() > 3);
    assert_eq!(files(&a), files(&b));
    let (name, bytes) = &files(&a)[1];
    assert!(name.to_string_lossy().starts_with("model-00001-of-"), "{name:?}");
    assert_eq!(&bytes[8..42], br#"{"__metadata__":{"format":"pt"},"m"#);
    assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
}

#[test]
fn an_existing_model_is_never_overwritten_and_a_failed_save_leaves_nothing() {
    let (_temp, dir) = saved(&tiny());
    let before = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    let zeros = vec![0.0; fresh(&tiny()).len()];
    assert!(matches!(save(&dir, &tiny(), &zeros, u64::MAX), Err(HfError::NotEmpty { .. })));
    assert_eq!(fs::read(dir.join(WEIGHTS_FILE)).unwrap(), before);

    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let short = save(&dir, &tiny(), &zeros[1..], u64::MAX);
    assert!(matches!(short, Err(HfError::WrongLength { found, expected }) if found + 1 == expected));
    let mut poisoned = zeros.clone();
    poisoned[20 * 12 + 3] = f32::NAN;
    let error = save(&dir, &tiny(), &poisoned, u64::MAX).unwrap_err();
    assert!(
        matches!(&error, HfError::NotFinite { tensor, index: 3 } if tensor.contains("input_layernorm")),
        "{error}"
    );
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    assert!(matches!(save(Path::new("/"), &tiny(), &zeros, u64::MAX), Err(HfError::NoFolderName { .. })));
}

#[test]
fn an_empty_folder_and_the_remains_of_an_interrupted_save_are_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    fs::create_dir(&dir).unwrap();
    let remains = temp.path().join(".model.partial");
    fs::create_dir(&remains).unwrap();
    fs::write(remains.join(WEIGHTS_FILE), b"half a file").unwrap();
    save(&dir, &tiny(), &fresh(&tiny()), u64::MAX).unwrap();
    assert_eq!(bits(&load(&dir).unwrap().1), bits(&fresh(&tiny())));
    assert!(!remains.exists());
}

#[test]
fn more_shards_than_can_be_read_are_not_written() {
    let config = ModelConfig { layers: 40, ..tiny() };
    let temp = tempfile::tempdir().unwrap();
    let error = save(&temp.path().join("model"), &config, &fresh(&config), 1).unwrap_err();
    assert!(matches!(error, HfError::TooManyShards { found: 363 }), "{error}");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_named() {
    let (_temp, dir) = saved(&tiny());
    let path = dir.join(WEIGHTS_FILE);
    let intact = fs::read(&path).unwrap();
    let q = "model.layers.1.self_attn.q_proj.weight";
    let rename = |to: &'static str| {
        move |header: &mut Value| {
            let info = header.as_object_mut().unwrap().remove(q).unwrap();
            header[to] = info;
        }
    };

    edit_header(&path, rename("model.layers.1.self_attn.q_norm.weight"));
    assert!(matches!(load_error(&dir), HfError::Missing { tensor } if tensor == q));

    fs::write(&path, &intact).unwrap();
    edit_header(&path, |header| header[q]["shape"] = json!([144]));
    assert!(
        matches!(load_error(&dir), HfError::Shape { tensor, expected, .. } if tensor == q && expected == [12; 2])
    );

    // The transposed shape of a matrix that is not square has as many values, and is still wrong.
    fs::write(&path, &intact).unwrap();
    edit_header(&path, |header| header["model.layers.0.mlp.down_proj.weight"]["shape"] = json!([10, 12]));
    assert!(matches!(load_error(&dir), HfError::Shape { expected, .. } if expected == [12, 10]));

    fs::write(&path, &intact).unwrap();
    edit_header(&path, |header| header[q]["dtype"] = json!("I32"));
    assert!(matches!(load_error(&dir), HfError::Dtype { tensor, found } if tensor == q && found == "I32"));

    // The same file under a configuration with one layer fewer: the last layer is too much.
    fs::write(&path, &intact).unwrap();
    let layout = Layout::new(&ModelConfig { layers: 1, ..tiny() }).unwrap();
    let error = read_weights(&dir, &layout).unwrap_err();
    assert!(matches!(&error, HfError::Extra { tensor, .. } if tensor.contains("model.layers.1.")), "{error}");
}

#[test]
fn rotary_frequencies_of_old_files_are_passed_over() {
    let (_temp, dir) = saved(&tiny());
    let path = dir.join(WEIGHTS_FILE);
    let values = fs::read(&path).unwrap().len() as u64;
    let mut end = 0;
    edit_header(&path, |header| {
        let ends = header.as_object().unwrap().values().filter_map(|info| info["data_offsets"][1].as_u64());
        end = ends.max().unwrap();
        header["model.layers.0.self_attn.rotary_emb.inv_freq"] =
            json!({"dtype": "F32", "shape": [3], "data_offsets": [end, end + 12]});
    });
    assert!(end < values);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 12]);
    fs::write(&path, bytes).unwrap();
    assert_eq!(bits(&load(&dir).unwrap().1), bits(&fresh(&tiny())));
}

#[test]
fn a_tied_head_may_be_stored_but_only_if_it_is_the_embedding() {
    let config = tiny();
    let layout = Layout::new(&config).unwrap();
    let mut flat = fresh(&config);
    let embed = layout.view(&flat, ParamKind::Embed, None).unwrap().to_vec();
    layout.view_mut(&mut flat, ParamKind::Head, None).unwrap().copy_from_slice(&embed);
    let tied = Layout::new(&ModelConfig { tied_embeddings: true, ..config }).unwrap();

    let temp = tempfile::tempdir().unwrap();
    let equal = temp.path().join("equal");
    save(&equal, &config, &flat, u64::MAX).unwrap();
    assert_eq!(bits(&read_weights(&equal, &tied).unwrap()), bits(&flat[..tied.total()]));

    layout.view_mut(&mut flat, ParamKind::Head, None).unwrap()[17] += 1.0;
    let other = temp.path().join("other");
    save(&other, &config, &flat, u64::MAX).unwrap();
    assert!(matches!(read_weights(&other, &tied), Err(HfError::HeadNotTied { index: 17 })));
}

#[test]
fn a_tied_model_is_read_from_either_of_its_matrix_s_names() {
    let config = ModelConfig { tied_embeddings: true, ..tiny() };
    for shard_bytes in [u64::MAX, 3000] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        save(&dir, &config, &fresh(&config), shard_bytes).unwrap();
        for file in fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "safetensors") {
                edit_header(&file, |header| {
                    if let Some(embed) = header.as_object_mut().unwrap().remove("model.embed_tokens.weight") {
                        header["lm_head.weight"] = embed;
                    }
                });
            } else {
                let text = fs::read_to_string(&file).unwrap();
                fs::write(&file, text.replace("model.embed_tokens.weight", "lm_head.weight")).unwrap();
            }
        }
        assert_eq!(bits(&load(&dir).unwrap().1), bits(&fresh(&config)), "{shard_bytes}");
    }
}

#[test]
fn a_pointer_of_git_lfs_is_told_as_such_in_place_of_any_file() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    save(&dir, &tiny(), &fresh(&tiny()), 3000).unwrap();
    for file in fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()) {
        let intact = fs::read(&file).unwrap();
        fs::write(&file, pointer).unwrap();
        let error = load_error(&dir);
        assert!(matches!(&error, HfError::LfsPointer { path } if *path == file), "{error}");
        assert!(error.to_string().contains("git lfs pull"), "{error}");
        fs::write(&file, intact).unwrap();
    }
    load(&dir).unwrap();
}

#[test]
fn values_that_are_not_finite_are_refused_with_their_place() {
    let (_temp, dir) = saved(&tiny());
    let path = dir.join(WEIGHTS_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = load_error(&dir);
    assert!(
        matches!(&error, HfError::NotFinite { tensor, index: 239 } if tensor == "lm_head.weight"),
        "{error}"
    );
}

#[test]
fn a_file_cut_short_anywhere_or_made_longer_is_refused() {
    let (_temp, dir) = saved(&tiny());
    let path = dir.join(WEIGHTS_FILE);
    let intact = fs::read(&path).unwrap();
    for len in (0..intact.len()).step_by(97).chain(intact.len() - 9..intact.len()) {
        fs::write(&path, &intact[..len]).unwrap();
        assert!(matches!(load_error(&dir), HfError::Header { .. }), "{len} bytes");
    }
    fs::write(&path, [&intact[..], &[0]].concat()).unwrap();
    assert!(matches!(load_error(&dir), HfError::Header { .. }));
}

#[test]
fn headers_that_lie_are_refused_without_allocating_what_they_claim() {
    let (_temp, dir) = saved(&tiny());
    let path = dir.join(WEIGHTS_FILE);
    let with_header = |len: u64, header: &str| [&len.to_le_bytes(), header.as_bytes()].concat();
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"model.norm.weight":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let huge = u64::MAX - 7;
    let headers = [
        one("[4611686018427387902]", &format!("[0,{huge}]")),
        one(&format!("[{0},{0}]", u64::MAX), "[0,16]"),
        one("[4]", "[16,0]"),
        one("[4]", "[8,24]"),
        one("[0]", &format!("[{huge},{huge}]")),
        one("[-1]", "[0,16]"),
        "{}".to_owned(),
        "[]".to_owned(),
        "{".repeat(50_000),
        "\u{1F980}".repeat(50),
    ];
    for header in headers {
        for values in ["", "0123456789abcdef"] {
            fs::write(&path, with_header(header.len() as u64, &(header.clone() + values))).unwrap();
            let error = load_error(&dir);
            assert!(
                matches!(error, HfError::Header { .. } | HfError::Missing { .. }),
                "{}: {error}",
                header.chars().take(80).collect::<String>()
            );
        }
    }
    for claimed in [u64::MAX, huge, 1 << 40, 100] {
        fs::write(&path, with_header(claimed, "{}")).unwrap();
        assert!(matches!(load_error(&dir), HfError::Header { .. }), "{claimed}");
    }
    // A header that is really there, but larger than any real one.
    fs::write(&path, with_header(MAX_JSON_BYTES + 1, &" ".repeat(MAX_JSON_BYTES as usize + 1))).unwrap();
    assert!(matches!(load_error(&dir), HfError::JsonTooLarge { .. }));
}

#[test]
fn an_index_cannot_reach_outside_its_folder_or_contradict_its_shards() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    save(&dir, &tiny(), &fresh(&tiny()), 3000).unwrap();
    let index = dir.join(INDEX_FILE);
    let intact: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let norm = "model.norm.weight";
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut index_json = intact.clone();
        edit(&mut index_json["weight_map"]);
        fs::write(&index, index_json.to_string()).unwrap();
        load_error(&dir)
    };

    let outside = [
        "../secret.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:b",
        "a\0b",
        "./model-00001-of-00003.safetensors",
    ];
    for file in outside {
        let error = edited(&|map| map[norm] = json!(file));
        assert!(matches!(error, HfError::ShardPath { .. }), "{file:?}: {error}");
    }
    assert!(matches!(edited(&|map| map[norm] = json!("absent.safetensors")), HfError::Io { .. }));
    assert!(matches!(
        edited(&|map| map[norm] = map["model.embed_tokens.weight"].clone()),
        HfError::IndexMismatch { .. }
    ));
    assert!(matches!(edited(&|map| map["more"] = map[norm].clone()), HfError::IndexMismatch { .. }));
    assert!(matches!(edited(&|map| map[norm] = json!(7)), HfError::Index { .. }));
    assert!(matches!(edited(&|map| *map = json!({})), HfError::Index { .. }));
    let crowd = |map: &mut Value| {
        *map = (0..=MAX_SHARDS).map(|i| (i.to_string(), json!(format!("{i}.safetensors")))).collect();
    };
    assert!(matches!(edited(&crowd), HfError::TooManyShards { found: 257 }));
    fs::write(&index, intact.to_string()).unwrap();
    assert_eq!(bits(&load(&dir).unwrap().1), bits(&fresh(&tiny())));
}

#[test]
fn folders_without_the_right_files_say_so() {
    let temp = tempfile::tempdir().unwrap();
    assert!(matches!(load_error(temp.path()), HfError::Io { .. }));
    fs::write(temp.path().join(CONFIG_FILE), render_config(&tiny()).unwrap()).unwrap();
    assert!(matches!(load_error(temp.path()), HfError::NoWeights { .. }));
    fs::create_dir(temp.path().join(WEIGHTS_FILE)).unwrap();
    assert!(matches!(load_error(temp.path()), HfError::NotAFile { .. }));
    fs::write(temp.path().join(CONFIG_FILE), vec![b' '; MAX_CONFIG_BYTES as usize + 1]).unwrap();
    assert!(matches!(load_error(temp.path()), HfError::JsonTooLarge { .. }));
}

#[test]
fn half_and_bf16_files_are_widened_in_place() {
    for (dtype, one, minus_two) in [("F16", 0x3C00u16, 0xC000u16), ("BF16", 0x3F80, 0xC000)] {
        let (_temp, dir) = saved(&tiny());
        let path = dir.join(WEIGHTS_FILE);
        let total = fresh(&tiny()).len();
        edit_header(&path, |header| {
            for info in header.as_object_mut().unwrap().values_mut().filter(|info| info["dtype"].is_string())
            {
                info["dtype"] = json!(dtype);
                for side in 0..2 {
                    info["data_offsets"][side] = json!(info["data_offsets"][side].as_u64().unwrap() / 2);
                }
            }
        });
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 4 * total);
        bytes.extend((0..total).flat_map(|i| if i % 2 == 0 { one } else { minus_two }.to_le_bytes()));
        fs::write(&path, bytes).unwrap();
        let (_, flat) = load(&dir).unwrap();
        assert!(
            flat.len() == total && flat.iter().enumerate().all(|(i, &x)| x == [1.0, -2.0][i % 2]),
            "{dtype}"
        );
    }
}
