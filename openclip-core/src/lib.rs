//! The seam of OpenCLIP in Rust: backend and encoder traits, configuration, weights and errors.
//!
//! Model crates describe towers over the [`Backend`] trait, backend crates implement it, and applications hold
//! [`ImageEncoder`]s, [`TextEncoder`]s and [`Captioner`]s, in which the backend's type is erased. This crate has no model and no
//! numerics of its own.

pub mod backend;
mod caption;
mod config;
mod dims;
mod encoder;
mod error;
pub mod files;
mod groups;
pub mod nn;
pub mod panics;
mod taps;
mod tensor;
pub mod weights;

pub use backend::{Backend, Precision};
pub use caption::{
    CaptionFamily, CaptionInfo, CaptionSession, CaptionTower, Captioner, EagerCaptioner, Growth,
    ReaderSession, Reading, TextReader, TextTree, TreeNode, TreeStep,
};
pub use config::{CheckpointConfig, ConfigOverrides, HeightWidth, ModelConfig, TowerConfig};
pub use dims::{Dim, Dims, DisplayDims, Expression, Symbol};
pub use encoder::{
    EagerImageEncoder, EagerTextEncoder, ImageEncoder, ImageFamily, ImageInfo, ImageTower, TextEncoder,
    TextFamily, TextInfo, TextReach, TextTower, TowerOutput,
};
pub use error::{Error, Result};
pub use taps::{EXTRA_TOKENS, ExtraTokens, Indices, StageView, Taps};
pub use tensor::{HostTensor, TokenBatch};
pub use weights::Weights;
