//! `key`: the person's key.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use watershed_protocol::{PublicKey, SecretKey};
use watershed_shards::library::load_or_create;

use super::{Context, Outcome};

const PURPOSE: &str = "Watershed contributor key: whoever has it can deposit and withdraw in your name.";

/// Reads the key, or makes one and says what to do with it.
pub(crate) fn load(path: &Path) -> Result<SecretKey, Box<dyn std::error::Error>> {
    let (key, new) = load_or_create(path, PURPOSE)?;
    if new {
        eprintln!("A new key was made for you: {}", path.display());
        for line in advice(path) {
            eprintln!("{line}");
        }
    }
    Ok(key)
}

fn advice(path: &Path) -> [String; 3] {
    [
        "Only this key can withdraw what it deposits, and nobody can restore it: keep a copy.".to_owned(),
        format!("To back it up, copy the file to a safe place: cp {} /media/backup/", path.display()),
        "To use it elsewhere, copy it back, chmod 600 it, and name it with --key or WATERSHED_KEY."
            .to_owned(),
    ]
}

#[derive(Serialize)]
struct Shown {
    public_key: PublicKey,
    file: std::path::PathBuf,
}

/// Shows the public key.
pub(crate) fn show(context: &Context) -> Outcome {
    let key = load(&context.key)?;
    let shown = Shown { public_key: key.public(), file: context.key.clone() };
    context.print(&shown, |s| {
        let mut lines =
            vec![format!("public key  {}", s.public_key), format!("secret key  in {}", s.file.display())];
        lines.extend(advice(&s.file));
        lines
    })?;
    Ok(ExitCode::SUCCESS)
}
