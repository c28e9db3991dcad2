//! Ctrl-C and SIGTERM as a flag that long work looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the person asks to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A flag that Ctrl-C and SIGTERM set. A second Ctrl-C while the first is being honoured changes nothing: the step
    /// under way ends within seconds and everything is saved.
    pub(crate) fn on_signals() -> Result<Self, ctrlc::Error> {
        let stop = Self::default();
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if !flag.0.swap(true, Ordering::SeqCst) {
                eprintln!("\nstopping after this step");
            }
        })?;
        Ok(stop)
    }

    /// Whether to stop.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
