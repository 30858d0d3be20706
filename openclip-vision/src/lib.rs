//! Image preprocessing and image towers of OpenCLIP models.
//!
//! [`vit`] is the native vision transformer, written over the backend seam of `openclip-core`.

pub mod vit;

pub use vit::{VisionTransformer, VisionTransformerConfig, VisionTransformerFamily};
