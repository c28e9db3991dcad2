//! Statements about text: who gave what, of which kind, for which use, and what is read from it.

mod consent;
mod kind;
mod manifest;
mod mixture;
mod window;

pub use consent::{Consent, ConsentChange, ConsentError, ConsentTier};
pub use kind::{CoreCode, License, Register, Split, UnknownName};
pub use manifest::{Deposit, DepositError, FieldError, Manifest, Receipt};
pub use mixture::{Mixture, MixtureError};
pub use window::{WindowSpec, WindowSpecError};
