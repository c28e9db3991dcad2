//! A run as it is kept, so that a start need not begin with the first event.

use watershed_protocol::market::RunSpec;

use super::Run;

impl Run {
    /// What [`Run::restored`] reads.
    ///
    /// # Errors
    /// None in practice: a run has a form in JSON.
    pub fn kept(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The run that was kept; none if these bytes are another version's. Then its events are there still.
    pub fn restored(bytes: &[u8]) -> Option<Self> {
        let run: Self = serde_json::from_slice(bytes).ok()?;
        // Decimal digits are not bits; what was signed is.
        let spec = run.signed.open::<RunSpec>().ok()?.into_value();
        Some(Self { spec, ..run })
    }
}
