//! `import`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use watershed_protocol::data::Register;
use watershed_shards::import::{ImportOptions, ImportReport, Progress, Remark, Status, import};
use watershed_shards::license::license;
use watershed_shards::reading::{Mapping, list};

use super::args::TextArgs;
use super::{Context, Outcome, Stop, counted, now, progress};

/// Remarks that are printed; all of them go to the report.
const SHOWN: usize = 20;

#[derive(Args)]
#[command(
    after_help = "The register of a text is what the text says (a field of JSONL or Parquet, the front matter of \
                        Markdown), else the name of its first folder below PATH if that is a register, else --register. An \
                        import that was stopped is taken up by running it again: what the library has is passed over."
)]
pub(crate) struct ImportArgs {
    /// Folders and files: txt, md, jsonl, parquet
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Register of texts that name none
    #[arg(long)]
    register: Option<Register>,
    /// Licence of texts that name none: an SPDX expression, or your own words
    #[arg(long)]
    license: Option<String>,
    /// Where a field stands in JSONL and Parquet, such as text=content or register=meta.kind; may be given again. Fields:
    /// text, title, register, license, author, language, source
    #[arg(long, value_name = "FIELD=NAME")]
    map: Vec<String>,
    /// Write a line of JSON for every text that is refused, known, changed or nearly a duplicate
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    text: TextArgs,
}

#[derive(Serialize)]
struct Imported {
    #[serde(flatten)]
    report: ImportReport,
    skipped_files: usize,
    stopped: bool,
    seconds: f64,
    remarks: Vec<Remark>,
}

fn mapping(pairs: &[String]) -> Result<Mapping, String> {
    let mut mapping = Mapping::default();
    for pair in pairs {
        let (field, name) = pair.split_once('=').ok_or_else(|| format!("--map {pair}: write FIELD=NAME"))?;
        let slot = match field {
            "text" => {
                name.clone_into(&mut mapping.text);
                continue;
            }
            "title" => &mut mapping.title,
            "register" => &mut mapping.register,
            "license" => &mut mapping.license,
            "author" => &mut mapping.author,
            "language" => &mut mapping.language,
            "source" => &mut mapping.source,
            _ => return Err(format!("--map {pair}: {field} is no field")),
        };
        *slot = Some(name.to_owned());
    }
    Ok(mapping)
}

/// Imports.
pub(crate) fn run(context: &Context, args: &ImportArgs) -> Outcome {
    let key = context.key()?;
    let mut library = context.library()?;
    let listing = list(&args.paths)?;
    let options = ImportOptions {
        mapping: mapping(&args.map)?,
        register: args.register,
        core: args.text.core(),
        license: args.license.as_deref().map(license),
        language: args.text.language.clone(),
        author: args.text.author.clone(),
        source: args.text.source.clone(),
        tier: args.text.tier,
        limit: args.text.limit(),
    };
    let open =
        |path: &PathBuf| File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()));
    let mut report_file = args.report.as_ref().map(open).transpose()?.map(BufWriter::new);
    let mut report_error = None;
    let bar = progress(listing.files.iter().map(|f| f.bytes).sum(), "importing");
    let started = std::time::Instant::now();
    let mut remarks = Vec::new();
    let mut tell = |progress: Progress<'_>| match progress {
        Progress::Bytes(done) => bar.set_position(done),
        Progress::Remark(remark) => {
            if let Some(file) = &mut report_file {
                let line = serde_json::to_string(remark).map_err(std::io::Error::other);
                if let Err(e) = line.and_then(|line| writeln!(file, "{line}")) {
                    report_error = Some(e);
                }
            }
            if remark.status != Status::Known && remarks.len() < SHOWN {
                remarks.push(remark.clone());
            }
        }
    };
    let stop = Stop::on_signals()?;
    let report = import(&mut library, &key, &listing.files, &options, now(), &mut tell, &|| stop.asked())?;
    bar.finish_and_clear();
    if let Some(mut file) = report_file {
        file.flush()?;
    }
    if let Some(e) = report_error {
        return Err(format!("the report could not be written: {e}").into());
    }
    let imported = Imported {
        report,
        skipped_files: listing.skipped.len(),
        stopped: stop.asked(),
        seconds: started.elapsed().as_secs_f64(),
        remarks,
    };
    context.print(&imported, human)?;
    let clean = report.refused + report.unreadable + report.conflicts == 0 && !imported.stopped;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn human(imported: &Imported) -> Vec<String> {
    let r = &imported.report;
    let mut lines: Vec<String> = Vec::new();
    for remark in &imported.remarks {
        let record = remark.record.filter(|n| *n > 0).map(|n| format!(" #{n}")).unwrap_or_default();
        lines.push(format!("{}{record}: {}", remark.file.display(), remark.detail));
    }
    let all = r.normalized.max(r.near_duplicates) + r.conflicts + r.withdrawn + r.refused + r.unreadable;
    if all as usize > imported.remarks.len() {
        lines.push("... and more: --report FILE lists them all".to_owned());
    }
    lines.push(format!(
        "{} in {}: {} stored ({} bytes), {} known, {} refused",
        counted(r.records, "text"),
        counted(r.files, "file"),
        r.stored,
        r.bytes,
        r.known,
        r.refused
    ));
    for (n, thing, what) in [
        (r.normalized, "stored text", "normalised"),
        (r.near_duplicates, "stored text", "nearly the same as another: snapshots keep one of each"),
        (r.conflicts, "text", "deposited by another key first"),
        (r.withdrawn, "text", "withdrawn by you before"),
        (r.unreadable, "file", "not readable to the end"),
        (imported.skipped_files as u64, "other file", "passed over (of another kind, or a link)"),
    ] {
        if n > 0 {
            lines.push(format!("{}: {what}", counted(n, thing)));
        }
    }
    if imported.stopped {
        lines.push("stopped; the same command goes on from here".to_owned());
    } else if r.stored > 0 {
        lines.push("next: watershed-shards snapshot".to_owned());
    }
    lines
}
