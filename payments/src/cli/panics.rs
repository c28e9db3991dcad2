//! What ends a process: a panic inside LDK, and output that nobody reads.

/// Ends the process when LDK panics, wherever. Its locks are poisoned then and the node does nothing any more, while the process
/// looks alive; started again, it goes on from what is on its disk. For `main` only, before anything else.
pub fn end_if_ldk_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if info.location().is_some_and(|at| is_ldk(at.file())) {
            eprintln!(
                "the Lightning node failed inside its library, so this process ends. Nothing is lost: start it again, and \
                 tell the project what stands above"
            );
            std::process::abort();
        }
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

/// Whether a source file is of LDK or LDK Node, whose folders have name and version.
fn is_ldk(file: &str) -> bool {
    file.split(['/', '\\']).any(|part| part.starts_with("lightning-") || part.starts_with("ldk-node-"))
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
        for file in ["lightning-0.2.7/src/chain/channelmonitor.rs", "ldk-node-0.7.1/src/logger.rs"] {
            assert!(is_ldk(&format!("{registry}{file}")), "{file}");
        }
        for file in ["wgpu-30.0.0/src/lib.rs", "tokio-1.50.0/src/lightning.rs"] {
            assert!(!is_ldk(&format!("{registry}{file}")), "{file}");
        }
        assert!(!is_ldk("payments/src/wallet/ldk/node.rs"));
    }
}
