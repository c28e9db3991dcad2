//! `export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use watershed_shards::export::{About, export};

use super::args::find_snapshot;
use super::{Context, Outcome};

#[derive(Args)]
#[command(
    after_help = "Texts of tier train+index are in the dataset; of tiers train and federated everything but the text is. \
                        The same snapshot and options give the same bytes."
)]
pub(crate) struct ExportArgs {
    /// The snapshot, or the beginning of its id [default: the newest]
    snapshot: Option<String>,
    /// Folder to write, empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the dataset is called
    #[arg(long, default_value = "watershed")]
    name: String,
    /// What it is
    #[arg(
        long,
        default_value = "Texts whose contributors signed what they may be used for, by register and consent tier."
    )]
    description: String,
    /// Who publishes it
    #[arg(long, default_value = "Watershed contributors")]
    creator: String,
    /// Where it is published
    #[arg(long)]
    url: Option<String>,
    /// Day of publication, YYYY-MM-DD
    #[arg(long, value_name = "DAY")]
    published: Option<String>,
}

/// Exports.
pub(crate) fn run(context: &Context, args: &ExportArgs) -> Outcome {
    let library = context.library()?;
    let snapshot = library.store().snapshot(find_snapshot(context, args.snapshot.as_deref())?)?;
    let about = About {
        name: args.name.clone(),
        description: args.description.clone(),
        creator: args.creator.clone(),
        url: args.url.clone(),
        published: args.published.clone(),
    };
    let exported = export(library.store(), &snapshot, &about, &args.out)?;
    context.print(&exported, |e| {
        vec![
            format!("{} deposits, {} with their text, in {}", e.deposits, e.with_text, e.folder.display()),
            "croissant.json describes deposits.parquet and deposits.jsonl".to_owned(),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}
