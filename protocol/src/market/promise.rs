//! What a coordinator signs when it takes a message that belongs into the record.

use serde::{Deserialize, Serialize};

use crate::codec::Wire;
use crate::hash::Digest;
use crate::id::RunId;
use crate::key::PublicKey;

/// That a commitment or a submission was taken, and goes into the record. If it is not there later, this and the record
/// together prove who is to blame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The run.
    pub run: RunId,
    /// Who signed the message.
    pub signer: PublicKey,
    /// What was signed; see [`Verified::digest`](crate::Verified::digest).
    pub message: Digest,
    /// When it was taken, in seconds since 1970.
    pub at: u64,
}

impl Wire for Promise {
    const NAME: &'static str = "watershed/promise";
    const VERSION: u8 = 1;
    const MAX_BYTES: usize = 128;
}
