//! What ends a process: a panic inside LDK, and output that nobody reads.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::wallet::ldk::condemn;

/// The folder of the wallet that runs here, for a panic that says something of its files.
static RUNNING: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Notes whose files a panic would be about.
pub(super) fn running_in(folder: &Path) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}

/// Ends the process when LDK panics, wherever. Its locks are poisoned then and the node does nothing any more, while the process
/// looks alive. What it says depends on the panic: started again it mostly goes on from what is on its disk, but an old copy of a
/// folder must not be started again, and is not. For `main` only, before anything else.
pub fn end_if_ldk_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| is_ldk(at.file())) {
            return report(info);
        }
        let cause = Cause::of(info.payload_as_str().unwrap_or_default());
        // What is known by its name needs no backtrace.
        if matches!(cause, Cause::Unknown) {
            report(info);
        }
        eprintln!("{}", cause.advice());
        if let Cause::OldCopy = cause {
            let folder = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(Err(e)) = folder
                .map(|folder| condemn(&folder, "a peer proved that it knows a newer state of a channel"))
            {
                eprintln!("that this folder is an old copy could not be noted in it: {e}");
            }
        }
        std::process::abort();
    }));
}

/// Ends the process quietly when it prints and whoever reads is gone, as `head` is after its lines. The standard library panics
/// there. For `main` only, before anything else.
pub fn end_if_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some_and(is_closed_pipe) {
            #[allow(clippy::exit)] // whoever prints has no way to return an error
            std::process::exit(0);
        }
        report(info);
    }));
}

/// Whether a panic says that standard output or standard error is a pipe that nobody reads any more.
fn is_closed_pipe(message: &str) -> bool {
    message.starts_with("failed printing to std") && message.contains("Broken pipe")
}

/// What LDK panics about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A peer proved that this node's state is old.
    OldCopy,
    /// The log, or the state, could not be written for want of room.
    DiskFull,
    /// The log, or the state, could not be written.
    NotWritten,
    /// The chain source has another chain.
    OtherChain,
    /// Anything else.
    Unknown,
}

/// Words of LDK's panics, and what each is about; the first that fits counts.
const WORDS: [(&str, Cause); 8] = [
    ("We have fallen behind", Cause::OldCopy),
    ("StorageFull", Cause::DiskFull),
    ("No space left", Cause::DiskFull),
    ("database or disk is full", Cause::DiskFull),
    ("log file", Cause::NotWritten),
    ("ersist", Cause::NotWritten),
    ("UnrecoverableError", Cause::NotWritten),
    ("cannot replace genesis block", Cause::OtherChain),
];

impl Cause {
    fn of(message: &str) -> Self {
        WORDS.iter().find(|(said, _)| message.contains(said)).map_or(Self::Unknown, |(_, cause)| *cause)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::OldCopy => {
                "this folder is an old copy of the wallet: a peer has proved that it knows a newer state of a channel, so the Lightning \
                 node ends here, before it does any harm. Use the newer folder, and never start this one again: the peer could take \
                 all that is in its channels. If the newer folder is lost, `restore` the 24 words in a new one: what is on chain comes \
                 back, and the rest when the peers close their channels"
            }
            Self::DiskFull => {
                "the disk is full, so the Lightning node ends here. What it wrote before is whole: make room first, then start it \
                 again, soon"
            }
            Self::NotWritten => {
                "the Lightning node could not write to its folder, so it ends here. What it wrote before is whole: see that the disk \
                 has room and the folder can be written to, then start it again, soon"
            }
            Self::OtherChain => {
                "the chain source has another chain than this wallet, so the Lightning node ends here. Nothing was changed: name a \
                 source of the wallet's own network as `chain` in wallet.toml"
            }
            Self::Unknown => {
                "the Lightning node failed inside its library, so this process ends. Started again, it goes on from what is on its \
                 disk; tell the project what stands above. If it ends so again, do not keep trying: ask first"
            }
        }
    }
}

/// Whether a source file is of LDK, LDK Node or the on-chain wallet in it, whose folders have name and version.
fn is_ldk(file: &str) -> bool {
    let ours = ["lightning-", "ldk-node-", "bdk_"];
    file.split(['/', '\\']).any(|part| ours.iter().any(|name| part.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the standard library says is not promised to stay, so it is asked.
    #[test]
    fn a_pipe_that_nobody_reads_ends_a_program_quietly() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let failed = std::io::Write::write(&mut &writer, b"x").unwrap_err();
        assert!(is_closed_pipe(&format!("failed printing to stdout: {failed}")));
        assert!(!is_closed_pipe("failed printing to stdout: No space left on device (os error 28)"));
        assert!(!is_closed_pipe("Broken pipe"));
    }

    #[test]
    fn only_files_of_ldk_are_taken_for_its_own() {
        let registry = "/home/ada/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/";
        for file in [
            "lightning-0.2.7/src/chain/channelmonitor.rs",
            "ldk-node-0.7.1/src/logger.rs",
            "bdk_core-0.6.4/src/checkpoint.rs",
        ] {
            assert!(is_ldk(&format!("{registry}{file}")), "{file}");
        }
        for file in ["wgpu-30.0.0/src/lib.rs", "tokio-1.50.0/src/lightning.rs"] {
            assert!(!is_ldk(&format!("{registry}{file}")), "{file}");
        }
        assert!(!is_ldk("payments/src/wallet/ldk/node.rs"));
    }

    #[test]
    fn each_panic_of_ldk_has_its_own_advice() {
        for (message, cause) in [
            (
                "We have fallen behind - we have received proof that if we broadcast our counterparty is going to",
                Cause::OldCopy,
            ),
            (
                "Failed to write to log file: Os { code: 28, kind: StorageFull, message: \"No space left on device\" }",
                Cause::DiskFull,
            ),
            ("Failed to open log file: Os { code: 13, kind: PermissionDenied }", Cause::NotWritten),
            ("Failed to persist channel monitor", Cause::NotWritten),
            ("assertion `left != right` failed: cannot replace genesis block", Cause::OtherChain),
            ("called `Option::unwrap()` on a `None` value", Cause::Unknown),
            ("", Cause::Unknown),
        ] {
            assert_eq!(Cause::of(message), cause, "{message}");
        }
        let old = Cause::OldCopy.advice();
        assert!(old.contains("never start this one again") && !old.contains("start it again"), "{old}");
    }
}
