//! What crosses the wire or is hashed: ids, amounts, keys, signed envelopes, and the one codec. No I/O.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use watershed_protocol::{Envelope, RoundNumber, SecretKey, Wire};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Joined { round: RoundNumber, name: String }
//! impl Wire for Joined {
//!     const NAME: &'static str = "example/joined";
//!     const VERSION: u8 = 1;
//!     const MAX_BYTES: usize = 1024;
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SecretKey::from_entropy([7; 32])?;
//! let sent = Envelope::sign(&Joined { round: RoundNumber(3), name: "ada".into() }, &key)?;
//! let bytes = watershed_protocol::encode(&sent)?;
//!
//! let received: Envelope = watershed_protocol::decode(&bytes)?;
//! let joined = received.open::<Joined>()?;
//! assert_eq!(joined.signer(), key.public());
//! assert_eq!(joined.value().name, "ada");
//! # Ok(())
//! # }
//! ```

mod amount;
mod bytes;
mod codec;
pub mod data;
mod envelope;
mod hash;
mod id;
mod key;
pub mod market;
mod payment;
pub mod trouble;

pub use amount::{AmountError, Msat};
pub use bytes::HexError;
pub use codec::{DecodeError, EncodeError, Wire, decode, encode, list};
pub use envelope::{Envelope, EnvelopeError, Verified};
pub use hash::{Digest, Domain, TaggedHasher};
pub use id::{
    AssignmentId, BasisPoints, BasisPointsError, CheckpointId, ManifestId, RoundNumber, RunId, ShardSetId,
    SnapshotId, SubmissionId, TextId, TokenizerId, WindowId,
};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use payment::{PaymentHash, Preimage, Receipt, Subject};
pub use trouble::{SystemTrouble, causes, told, without_paths};
