//! `tokenizer train` and `tokenizer show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use watershed_protocol::TokenizerId;
use watershed_shards::library::LibraryError;
use watershed_shards::tokenizer::{Separator, Tokenizer, TrainOptions, pieces, train_bpe};

use super::args::find_snapshot;
use super::build::TokenizerArgs;
use super::{Context, Outcome, counted, progress};

#[derive(Subcommand)]
pub(crate) enum TokenizerCommand {
    /// Train a byte-level BPE tokenizer on the training texts of a snapshot
    Train(TrainArgs),
    /// Show a tokenizer, and what it makes of a text
    Show(ShowArgs),
}

#[derive(Args)]
pub(crate) struct TrainArgs {
    /// The snapshot, or the beginning of its id [default: the newest]
    snapshot: Option<String>,
    /// Tokens wanted
    #[arg(long, default_value_t = 8192)]
    vocabulary: u32,
    /// How often a pair must occur to become a token
    #[arg(long, default_value_t = 2)]
    min_frequency: u64,
    /// Where to write it
    #[arg(long, default_value = "tokenizer.json", value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    tokenizer: TokenizerArgs,
    /// A text to tokenise
    #[arg(long)]
    text: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    tokenizer: TokenizerId,
    vocabulary: u32,
    separator: Option<u32>,
    separator_name: Option<String>,
    tokens: Option<Vec<u32>>,
    pieces: Option<Vec<String>>,
    lost_characters: Option<u64>,
    file: Option<PathBuf>,
}

fn shown(tokenizer: &Tokenizer) -> Shown {
    Shown {
        tokenizer: tokenizer.id(),
        vocabulary: tokenizer.vocab_size(),
        separator: tokenizer.separator(),
        separator_name: tokenizer.separator().and_then(|s| tokenizer.token(s)),
        tokens: None,
        pieces: None,
        lost_characters: None,
        file: None,
    }
}

/// Trains or shows.
pub(crate) fn run(context: &Context, command: &TokenizerCommand) -> Outcome {
    let shown = match command {
        TokenizerCommand::Train(args) => train(context, args)?,
        TokenizerCommand::Show(args) => show(args)?,
    };
    context.print(&shown, |s| {
        let mut lines = vec![format!("tokenizer {}", s.tokenizer), format!("{} tokens", s.vocabulary)];
        if let Some(separator) = s.separator {
            lines.push(format!(
                "a text ends with token {separator} {}",
                s.separator_name.clone().unwrap_or_default()
            ));
        }
        if let (Some(tokens), Some(pieces)) = (&s.tokens, &s.pieces) {
            lines.push(tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            lines.push(pieces.join("|"));
        }
        if let Some(lost) = s.lost_characters.filter(|lost| *lost > 0) {
            lines.push(format!("{} lost: there is no token for them", counted(lost, "character")));
        }
        if let Some(file) = &s.file {
            lines.push(format!("next: watershed-shards build --tokenizer {}", file.display()));
        }
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}

fn train(context: &Context, args: &TrainArgs) -> Result<Shown, Box<dyn std::error::Error>> {
    let library = context.library()?;
    let snapshot = library.store().snapshot(find_snapshot(context, args.snapshot.as_deref())?)?;
    let store = library.store();
    // Held-out text does not shape the tokenizer: it is there to measure with.
    let training = || {
        snapshot
            .entries()
            .filter(|e| e.consent.tier.trains() && e.split == watershed_protocol::data::Split::Train)
    };
    let bar = progress(training().map(|e| e.bytes).sum(), "reading");
    let texts = training().map(|e| {
        bar.inc(e.bytes);
        store.text(e.text)
    });
    let options = TrainOptions { vocabulary: args.vocabulary, min_frequency: args.min_frequency };
    let json = train_bpe::<LibraryError>(texts, &options)?;
    bar.finish_and_clear();
    std::fs::write(&args.out, &json).map_err(|e| format!("cannot write {}: {e}", args.out.display()))?;
    let tokenizer = Tokenizer::from_json(&json, Separator::Auto)?;
    Ok(Shown { file: Some(args.out.clone()), ..shown(&tokenizer) })
}

fn show(args: &ShowArgs) -> Result<Shown, Box<dyn std::error::Error>> {
    let tokenizer = args.tokenizer.open()?;
    let mut shown = shown(&tokenizer);
    if let Some(text) = &args.text {
        let mut tokens = Vec::new();
        for piece in pieces(text) {
            tokenizer.encode_into(piece, &mut tokens)?;
        }
        let each = tokens.iter().map(|t| tokenizer.decode(&[*t])).collect::<Result<_, _>>()?;
        (shown.tokens, shown.pieces) = (Some(tokens), Some(each));
        shown.lost_characters = Some(tokenizer.lost(text)?);
    }
    Ok(shown)
}
