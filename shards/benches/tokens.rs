//! Speed of tokenising, against the tokenizer library alone, and of drawing windows: `cargo bench --workspace --bench tokens`.
//! Reads the texts below $WATERSHED_CORPUS.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;
use watershed_protocol::data::{ConsentTier, License, Mixture, Register, Split, WindowSpec};
use watershed_protocol::{BasisPoints, SecretKey};
use watershed_shards::import::{ImportOptions, import};
use watershed_shards::library::Library;
use watershed_shards::reading::{Mapping, list};
use watershed_shards::shard::{OpenSet, build};
use watershed_shards::snapshot::{Policy, take};
use watershed_shards::text::MAX_TEXT;
use watershed_shards::tokenizer::{Separator, Tokenizer, TrainOptions, train_bpe};
use watershed_shards::window::Drawing;

/// Medians of interleaved runs of both, in seconds.
fn medians(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (f64, f64) {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<(f64, f64)> = (0..7).map(|_| (time(&mut ours), time(&mut theirs))).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ours = times[3].0;
    times.sort_by(|a, b| a.1.total_cmp(&b.1));
    (ours, times[3].1)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(corpus) = std::env::var_os("WATERSHED_CORPUS").map(PathBuf::from) else {
        println!("set WATERSHED_CORPUS to a folder of texts with a folder for each register");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut library = Library::open(folder.path())?;
    let options = ImportOptions {
        mapping: Mapping::default(),
        register: Some(Register::Narrative),
        core: Vec::new(),
        license: Some(License::Words("benchmark".to_owned())),
        language: "und".to_owned(),
        author: String::new(),
        source: String::new(),
        tier: ConsentTier::Train,
        limit: MAX_TEXT,
    };
    let key = SecretKey::from_entropy([1; 32])?;
    let files = list(&[corpus])?.files;
    import(&mut library, &key, &files, &options, 0, &mut |_| (), &|| false)?;
    let policy = Policy { leave_out_near: true, held_out: BasisPoints::try_from(0)?, seed: 0 };
    let snapshot = take(&library, &policy)?.snapshot;
    let store = library.store();
    let texts: Vec<String> = snapshot.entries().map(|e| store.text(e.text)).collect::<Result<_, _>>()?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;

    let options = TrainOptions { vocabulary: 8192, min_frequency: 2 };
    let json = train_bpe(texts.iter().cloned().map(Ok::<_, std::convert::Infallible>), &options)?;
    let ours = Tokenizer::from_json(&json, Separator::Auto)?;
    let theirs = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| e.to_string())?;
    println!("tokenising {megabytes:.1} MB with a vocabulary of 8192, MB/s");
    println!("{:>8} {:>10} {:>10} {:>8}", "threads", "ours", "library", "ratio");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let encode = |text: &String| {
            let mut tokens = Vec::new();
            ours.encode_into(text, &mut tokens).map_or(0, |()| tokens.len())
        };
        let raw = |text: &String| theirs.encode_fast(text.as_str(), false).map_or(0, |e| e.get_ids().len());
        let (a, b) = medians(
            || assert!(pool.install(|| texts.par_iter().map(encode).sum::<usize>()) > 0),
            || assert!(pool.install(|| texts.par_iter().map(raw).sum::<usize>()) > 0),
        );
        println!("{threads:>8} {:>10.1} {:>10.1} {:>8.2}", megabytes / a, megabytes / b, b / a);
    }

    println!(
        "\ndrawing windows, one thread: ranges alone, with their tokens copied, and attributed; million tokens/s"
    );
    println!("{:>10} {:>10} {:>10} {:>10}", "sequence", "ranges", "tokens", "attributed");
    let built = build(store, &snapshot, &ours, &|_| (), &|| false)?;
    let set = OpenSet::open(store, built.id)?;
    let mut counts = [0; Register::ALL.len()];
    for (count, register) in counts.iter_mut().zip(Register::ALL) {
        *count = set.set().tokens(*register, Split::Train);
    }
    for sequence_length in [128, 1024] {
        let spec = WindowSpec {
            shards: set.id(),
            split: Split::Train,
            mixture: Mixture::natural(counts)?,
            seed: 1,
            sequence_length,
            first: 0,
            sequences: 20_000_000 / sequence_length,
            max_epochs: u32::MAX,
        };
        let million = f64::from(spec.sequences) * f64::from(sequence_length) / 1e6;
        let (mut tokens, mut sum) = (Vec::new(), 0u64);
        let mut ranges = 0;
        let (alone, copied) = medians(
            || {
                if let Ok(drawing) = Drawing::new(set.set(), &spec) {
                    ranges += drawing.window().flatten().map(|r| r.tokens).sum::<u64>();
                }
            },
            || {
                let Ok(drawing) = Drawing::new(set.set(), &spec) else { return };
                for range in drawing.window().flatten() {
                    tokens.clear();
                    if set.tokens(&range, &mut tokens).is_ok() {
                        sum += u64::from(tokens[0]) + tokens.len() as u64;
                    }
                }
            },
        );
        let start = Instant::now();
        let attributed = watershed_shards::window::attribution(&set, &spec)?;
        let attribution = start.elapsed().as_secs_f64();
        assert!(ranges == 7 * attributed.tokens && sum > attributed.tokens);
        let speed = |seconds: f64| million / seconds;
        println!(
            "{sequence_length:>10} {:>10.0} {:>10.0} {:>10.0}",
            speed(alone),
            speed(copied),
            speed(attribution)
        );
    }
    Ok(())
}
