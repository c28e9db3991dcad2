//! Running the programs of the project.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use thiserror::Error;
use watershed_commons::client::ClientError;
use watershed_payments::regtest::RegtestError;

/// Why the market does not go on.
#[derive(Debug, Error)]
pub enum Failed {
    /// A process.
    #[error(transparent)]
    Regtest(#[from] RegtestError),
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A command that failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// As it was given.
        command: String,
        /// What it said.
        output: String,
    },
    /// It took too long.
    #[error("{what} did not happen within {seconds} s; logs are in {}", logs.display())]
    Late {
        /// What.
        what: String,
        /// How long.
        seconds: u64,
        /// Where to look.
        logs: PathBuf,
    },
    /// An answer that cannot be read.
    #[error("{0}")]
    Answer(String),
}

impl Failed {
    /// For files.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Beside this program; for a test, which Cargo builds elsewhere, where Cargo and nextest say that this package's own
    /// programs are.
    ///
    /// # Errors
    /// If it cannot be found.
    pub fn here() -> Result<Self, Failed> {
        let said = ["CARGO_BIN_EXE_watershed-demo", "NEXTEST_BIN_EXE_watershed-demo"];
        let said = said.into_iter().find_map(std::env::var_os).map(PathBuf::from);
        let exe = said.map_or_else(std::env::current_exe, Ok).map_err(Failed::io("this program"))?;
        Ok(Self(exe.parent().map(Path::to_owned).unwrap_or_default()))
    }

    /// One of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs one to its end; what it printed.
    ///
    /// # Errors
    /// [`Failed::Command`].
    pub async fn output(&self, name: &str, arguments: &[&str]) -> Result<String, Failed> {
        let mut command = tokio::process::Command::new(self.path(name));
        let done = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
        let done = done.map_err(Failed::io(name))?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let text = [done.stdout, done.stderr].concat();
        Err(Failed::Command {
            command: format!("{name} {}", arguments.join(" ")),
            output: String::from_utf8_lossy(&text).trim().to_owned(),
        })
    }

    /// The same for one that prints JSON.
    ///
    /// # Errors
    /// [`Failed::Command`] and [`Failed::Answer`].
    pub async fn json(&self, name: &str, arguments: &[&str]) -> Result<Value, Failed> {
        let text = self.output(name, arguments).await?;
        serde_json::from_str(&text)
            .map_err(|e| Failed::Answer(format!("{name} {}: {e}", arguments.join(" "))))
    }
}
