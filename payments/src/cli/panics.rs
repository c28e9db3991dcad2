//! A panic inside LDK.

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

/// Whether a source file is of LDK or LDK Node, whose folders have name and version.
fn is_ldk(file: &str) -> bool {
    file.split(['/', '\\']).any(|part| part.starts_with("lightning-") || part.starts_with("ldk-node-"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
