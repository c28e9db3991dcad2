//! The model: configuration, parameter layout, initialisation, Hugging Face files, and the forward pass in two profiles.

pub mod config;
pub mod decoder;
pub mod hf;
mod init;
mod layout;
mod native;
mod preset;
pub mod rope;

pub use config::{ConfigError, ModelConfig};
pub use decoder::{Decoder, Profile, TokenError, Tokens};
pub use init::init;
pub use layout::{Layout, LayoutError, ParamKind, ParamSpec};
pub use preset::{Preset, UnknownPreset};
