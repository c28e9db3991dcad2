//! What holds for all routes of a layer: its location, its limits and its patience.

use std::time::Duration;

use thiserror::Error;

/// What holds for all routes. Made with [`Settings::new`]; the fields may then be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    location: String,
    /// How long an invoice can be paid, in seconds.
    pub invoice_expiry_s: u32,
    /// The longest `Authorization` header that is looked into, in bytes. It leaves room for caveats that holders add.
    pub max_header_bytes: usize,
    /// How long one call of the cashier or of the store may take.
    pub cashier_timeout: Duration,
    /// How often more to ask whether an invoice is settled, for a client that has its preimage: the payer learns it
    /// before the payee's node has written down that it was paid.
    pub settle_retries: u32,
    /// How long to wait before each of these.
    pub settle_pause: Duration,
}

/// A location that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a location takes 1 to {max} bytes, this one has {found}; give the address of the service")]
pub struct SettingsError {
    /// The most.
    pub max: usize,
    /// In bytes.
    pub found: usize,
}

impl Settings {
    /// The longest location, in bytes.
    pub const MAX_LOCATION: usize = 256;

    /// The usual limits for the service at this location, which is what its tokens name as theirs: an hour to pay, headers
    /// up to 4 KiB, 5 s for the cashier, and 2 s for an invoice to settle.
    ///
    /// # Errors
    /// [`SettingsError`] for an empty or a very long location.
    pub fn new(location: impl Into<String>) -> Result<Self, SettingsError> {
        let location = location.into();
        if location.is_empty() || location.len() > Self::MAX_LOCATION {
            return Err(SettingsError { max: Self::MAX_LOCATION, found: location.len() });
        }
        Ok(Self {
            location,
            invoice_expiry_s: 3600,
            max_header_bytes: 4096,
            cashier_timeout: Duration::from_secs(5),
            settle_retries: 10,
            settle_pause: Duration::from_millis(200),
        })
    }

    /// Where the tokens are good.
    pub fn location(&self) -> &str {
        &self.location
    }
}
