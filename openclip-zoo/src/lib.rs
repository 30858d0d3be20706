//! The OpenCLIP model zoo: which architectures and pretrained weights there are, where they are, and how a name becomes a
//! configuration and a verified file.
//!
//! - [`Registry`] knows the architectures, their pretrained tags and everything that goes with the weights.
//! - [`ModelSource`] is what a user calls a model: `ViT-B-32`, `hf-hub:org/name`, `local-dir:path`, or a file.
//! - [`Resolver`] turns that into a [`ResolvedModel`]: configuration, preprocessing, tokenizer and weights.
//! - [`build`] makes encoders of it, on the backends that are compiled in.
//! - [`hub`] downloads into the shared Hugging Face cache, and verifies.
//! - [`emoji_clip`] is a small model that is compiled in (cargo feature `emoji-clip`, on by default).
//!
//! ```
//! use openclip_zoo::Registry;
//!
//! let registry = Registry::bundled();
//! let (architecture, pretrained) = registry.pretrained("ViT-B-32", "laion2b_s34b_b79k")?;
//! assert_eq!(architecture.config.embed_dim, 512);
//! assert_eq!(pretrained.repository.as_deref(), Some("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"));
//!
//! let error = registry.architecture("vitb32").unwrap_err();
//! assert!(error.to_string().contains("did you mean `ViT-B-32`"));
//! # Ok::<(), openclip_zoo::Error>(())
//! ```

// Without a backend nothing can be built, and what builds is never reached.
#![cfg_attr(
    not(any(feature = "candle", feature = "tch", feature = "ort")),
    allow(unreachable_code, unused_imports, unused_variables, reason = "there is no backend")
)]

pub mod build;
#[cfg(feature = "emoji-clip")]
pub mod emoji_clip;
mod error;
pub mod hub;
mod registry;
mod resolve;
mod source;

pub use error::{Error, Result};
pub use registry::{Address, Architecture, Preprocess, Pretrained, Profile, Registry, clean_tag};
pub use resolve::{
    HubRevision, Origin, ResolveWarning, ResolvedModel, Resolver, TokenizerInfo, TokenizerSource,
    WeightsLocation,
};
pub use source::ModelSource;
