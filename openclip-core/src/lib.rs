//! The seam of OpenCLIP in Rust: backend and encoder traits, configuration, weights and errors.

mod config;
mod error;
mod tensor;
pub mod weights;

pub use config::{CheckpointConfig, ModelConfig, TowerConfig};
pub use error::{Error, Result};
pub use tensor::{HostTensor, TokenBatch};
pub use weights::Weights;
