//! `deposit`, `consent` and `withdraw`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use watershed_protocol::data::{ConsentChange, ConsentTier, Deposit, Manifest, Register};
use watershed_protocol::{Envelope, ManifestId, ShardSetId, encode};
use watershed_shards::library::{Content, Outcome as Stored};
use watershed_shards::license::license;
use watershed_shards::shard::sets_with;
use watershed_shards::text::{Changes, normalize};

use super::args::TextArgs;
use super::{Context, Outcome, now};

#[derive(Args)]
pub(crate) struct DepositArgs {
    /// The text; - reads standard input
    file: PathBuf,
    /// Kind of text: narrative, conversational, technical, sacred, oral, pedagogical or lyric
    #[arg(long)]
    register: Register,
    /// Licence: an SPDX expression such as CC-BY-4.0, or your own words
    #[arg(long)]
    license: String,
    /// What it is called [default: the name of the file]
    #[arg(long)]
    title: Option<String>,
    /// Deposit a text again that you withdrew
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    text: TextArgs,
}

#[derive(Serialize)]
struct Deposited {
    status: &'static str,
    deposit: ManifestId,
    title: String,
    bytes: u64,
    tier: ConsentTier,
    changes: Changes,
    near_duplicates: Vec<(ManifestId, u16)>,
    /// The signed manifest and the receipt, as hex.
    manifest: Option<String>,
    receipt: Option<String>,
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(limit + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(bytes)
}

/// Deposits one text.
pub(crate) fn deposit(context: &Context, args: &DepositArgs) -> Outcome {
    let key = context.key()?;
    let mut library = context.library()?;
    let bytes = read(&args.file, args.text.limit())?;
    let normalized =
        normalize(&bytes, args.text.limit()).map_err(|e| format!("{}: {e}", args.file.display()))?;
    let stem = args.file.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut manifest = Manifest {
        contributor: key.public(),
        text: normalized.id(),
        bytes: normalized.text.len() as u64,
        revision: 0,
        title: args.title.clone().or(stem).unwrap_or_default(),
        author: args.text.author.clone(),
        language: args.text.language.clone(),
        register: args.register,
        core: args.text.core(),
        license: license(&args.license),
        tier: args.text.tier,
        source: args.text.source.clone(),
    };
    let content = if args.text.tier == ConsentTier::Federated {
        if args.file == Path::new("-") {
            return Err("a federated text stays where it is, so it must be in a file".into());
        }
        Content::Local { text: normalized.text, path: std::fs::canonicalize(&args.file)? }
    } else {
        Content::Text(normalized.text)
    };
    let mut deposit = Deposit::sign(manifest.clone(), &key)?;
    let mut outcome = library.deposit(&[(deposit.clone(), content.clone())], now())?.pop();
    if let (true, Some(Stored::Withdrawn { revision, .. })) = (args.again, &outcome) {
        manifest.revision = *revision;
        deposit = Deposit::sign(manifest, &key)?;
        outcome = library.deposit(&[(deposit.clone(), content)], now())?.pop();
    }
    let done =
        |status, id, near, receipt: Option<Envelope>| -> Result<Deposited, Box<dyn std::error::Error>> {
            Ok(Deposited {
                status,
                deposit: id,
                title: deposit.manifest().title.clone(),
                bytes: deposit.manifest().bytes,
                tier: library.consent(id)?.tier,
                changes: normalized.changes,
                near_duplicates: near,
                manifest: library.store().manifest(id).ok().map(|d| hex::encode(d.bytes())),
                receipt: receipt.map(|r| encode(&r).map(hex::encode)).transpose()?,
            })
        };
    let deposited = match outcome {
        Some(Stored::Stored { receipt, near }) => done("stored", deposit.id(), near, Some(receipt))?,
        Some(Stored::Known { id, receipt }) => done("known", id, Vec::new(), Some(receipt))?,
        Some(Stored::Conflict { first }) => {
            return Err(format!(
                "another key deposited this text first, as {first}. The conflict is recorded; the first deposit stays in force"
            )
            .into());
        }
        Some(Stored::Withdrawn { id, .. }) => {
            return Err(format!(
                "you withdrew this text, which was deposit {id}. Use --again if you want it used"
            )
            .into());
        }
        Some(Stored::Mismatch) | None => return Err("manifest and text do not fit".into()),
    };
    context.print(&deposited, |d| {
        let first = match d.status {
            "known" => format!("deposited before as {}, with consent {}", d.deposit, d.tier),
            _ => format!("deposit {}", d.deposit),
        };
        let mut lines = vec![first, format!("{} bytes, {}; consent {}", d.bytes, d.changes, d.tier)];
        for (other, similarity) in &d.near_duplicates {
            lines.push(format!(
                "{:.0} % alike to deposit {other}: snapshots keep one of them",
                f64::from(*similarity) / 100.0
            ));
        }
        lines.push(format!("to withdraw it: watershed-shards withdraw {}", &d.deposit.to_string()[..12]));
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub(crate) struct ConsentArgs {
    /// The deposit, or the beginning of its id
    id: String,
    /// What it may be used for from the next snapshot on: train or train+index (none: use withdraw)
    #[arg(long)]
    tier: ConsentTier,
}

#[derive(Args)]
pub(crate) struct WithdrawArgs {
    /// The deposit, or the beginning of its id
    id: String,
}

#[derive(Serialize)]
struct Changed {
    deposit: ManifestId,
    tier: ConsentTier,
    /// Number of the signed statement.
    statement: u32,
    /// Shard sets of earlier snapshots that still hold the text.
    still_in: Vec<ShardSetId>,
}

/// Changes consent.
pub(crate) fn consent(context: &Context, args: &ConsentArgs) -> Outcome {
    change(context, &args.id, args.tier)
}

/// Withdraws consent.
pub(crate) fn withdraw(context: &Context, args: &WithdrawArgs) -> Outcome {
    change(context, &args.id, ConsentTier::None)
}

fn change(context: &Context, id: &str, tier: ConsentTier) -> Outcome {
    let key = context.key()?;
    let mut library = context.library()?;
    let id = library.find(id)?;
    let sequence = library.consent(id)?.sequence.saturating_add(1);
    let statement = Envelope::sign(&ConsentChange { manifest: id, sequence, tier }, &key)?;
    let consent = library.change_consent(&statement)?;
    let still_in = if tier == ConsentTier::None { sets_with(library.store(), id)? } else { Vec::new() };
    let changed = Changed { deposit: id, tier: consent.tier, statement: consent.sequence, still_in };
    context.print(&changed, |c| {
        let mut lines =
            vec![format!("the consent of deposit {} is {} from the next snapshot on", c.deposit, c.tier)];
        if c.tier == ConsentTier::None {
            lines.push("its text was deleted; its hash and your statement are kept".to_owned());
        }
        if !c.still_in.is_empty() {
            let sets = c.still_in.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "its tokens are still in shard set {sets}: `watershed-shards prune` deletes those"
            ));
        }
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
