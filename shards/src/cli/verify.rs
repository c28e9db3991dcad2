//! `verify`.

use std::process::ExitCode;

use clap::Args;
use watershed_shards::verify::{Severity, verify};

use super::{Context, Outcome, counted};

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Tokenise every text again and compare with the shards
    #[arg(long)]
    retokenize: bool,
}

/// Verifies the library. Exit code 1 if anything is damaged or could not be read.
pub(crate) fn run(context: &Context, args: &VerifyArgs) -> Outcome {
    let library = context.library()?;
    let bar = indicatif::ProgressBar::new_spinner();
    let verified = verify(&library, args.retokenize, &|what| bar.set_message(format!("checking {what}")))?;
    bar.finish_and_clear();
    context.print(&verified, |v| {
        let mut lines: Vec<String> = Vec::new();
        for finding in &v.findings {
            let kind = match finding.severity {
                Severity::Damage => "DAMAGED ",
                Severity::Unread => "NOT READ",
                Severity::Leftover => "leftover",
            };
            lines.push(format!("{kind} {}: {}", finding.path.display(), finding.problem));
        }
        lines.push(format!(
            "checked {}, {}, {}, {}",
            counted(v.deposits, "deposit"),
            counted(v.texts, "text"),
            counted(v.snapshots, "snapshot"),
            counted(v.sets, "shard set")
        ));
        if v.tokens_compared > 0 {
            lines.push(format!("tokenised again and compared {} tokens", v.tokens_compared));
        }
        let lost = counted(v.lost_characters, "character");
        let damaged = v.findings.iter().any(|f| f.severity == Severity::Damage);
        lines.push(match (v.sound(), damaged, v.lost_characters) {
            (true, _, 0) => "all sound".to_owned(),
            (true, _, _) => format!(
                "the files are sound, but {lost} of their texts are NOT in the shards: the tokenizer they were built with has no \
                 token for them"
            ),
            (false, true, _) => "NOT sound: see above".to_owned(),
            (false, false, _) => "NOT all was checked: see above".to_owned(),
        });
        lines
    })?;
    Ok(if verified.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
