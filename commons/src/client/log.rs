//! A coordinator's public log, and whether it stays the same.

use std::time::Duration;

use super::{Client, ClientError};
use crate::log::{Log, LogVerifier, PinError, Pins, Source, SourceError};

/// The log of a coordinator over HTTP, for code that waits: not for a thread that runs other tasks.
#[derive(Clone, Debug)]
pub struct WebLog {
    client: Client,
    runtime: tokio::runtime::Handle,
}

impl WebLog {
    /// The log of this coordinator, read with the help of a runtime.
    pub fn new(client: &Client, runtime: &tokio::runtime::Handle) -> Self {
        Self { client: client.clone(), runtime: runtime.clone() }
    }

    /// Whose log it is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// For whatever else has to be waited for.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

impl Source for WebLog {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        match self.runtime.block_on(self.client.log_file(path, limit)) {
            Ok(found) => Ok(found),
            Err(ClientError::TooLong { limit, .. }) => Err(SourceError::TooLong { limit }),
            Err(e) => Err(SourceError::other(e)),
        }
    }
}

/// Looks at a coordinator's log every now and then, for as long as it is the one that was seen before; what it returns says
/// why it is not. Whatever passes (no network, a coordinator that restarts) is waited out.
pub async fn watch(client: &Client, pins: Pins, every: Duration) -> PinError {
    let source = WebLog::new(client, &tokio::runtime::Handle::current());
    let mut said: Option<String> = None;
    loop {
        if let Ok(info) = client.info().await {
            let verifier: LogVerifier = match info.log.parse() {
                Ok(verifier) => verifier,
                Err(e) => return PinError::Key(e),
            };
            let (source, pins) = (source.clone(), pins.clone());
            let looked = tokio::task::spawn_blocking(move || {
                let log = Log::open(source, &verifier)?;
                pins.check(&log, &verifier)
            });
            match looked.await {
                Ok(Err(e)) if e.is_fault() => return e,
                // Files of the log that do not arrive, or not yet, say nothing against it; nor does a disk that is full here.
                Ok(Ok(_) | Err(PinError::Log(_))) | Err(_) => {}
                Ok(Err(e)) => {
                    let trouble = watershed_protocol::told(&e);
                    if said.as_ref() != Some(&trouble) {
                        eprintln!("the coordinator's record cannot be watched now: {trouble}");
                        said = Some(trouble);
                    }
                }
            }
        }
        tokio::time::sleep(every).await;
    }
}
