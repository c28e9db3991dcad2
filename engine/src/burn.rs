//! The parts of [Burn](https://burn.dev) that the engine uses, under the paths that Burn's own umbrella crate gives them.
//!
//! The umbrella crate brings layers, optimizers, stores and macros that nothing here calls, and with them some twenty more crates to
//! build. Burn's macro for backend extensions writes paths that begin with `burn::backend`, so whoever uses it imports this module
//! under that name.

/// Tensors and devices.
pub mod tensor {
    pub use burn_tensor::*;
}

/// Backends, and what extends them.
pub mod backend {
    pub use burn_backend::*;
    pub use burn_backend_extension::backend_extension;
    pub use burn_dispatch::backends::*;
    pub use burn_dispatch::{backend::*, device::*, tensor::*};
}
