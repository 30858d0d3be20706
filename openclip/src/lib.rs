//! OpenCLIP in Rust: embed, classify and compare images and texts with any OpenCLIP checkpoint, without Python.
//!
//! ```
//! use openclip::{Clip, DecodedImage};
//! # fn cat() -> &'static [u8] { openclip::zoo::emoji_clip::SAMPLE_IMAGES[0].png }
//!
//! let clip = Clip::builder("emoji-clip").build()?;
//! let image = DecodedImage::from_bytes("cat.png", cat())?;
//! let scores = clip.classify(&image, &["an emoji of cat face", "an emoji of rocket"])?;
//! assert!(scores[0] > 0.9);
//!
//! let similarity = clip.encode_image(&image)?.cosine(&clip.encode_text(["an emoji of cat face"])?[0]);
//! assert!(similarity > 0.25);
//! # Ok::<(), openclip::Error>(())
//! ```
//!
//! A hub model is loaded by name and tag, and a tower by itself with [`ClipBuilder::image_only`] or
//! [`ClipBuilder::text_only`]:
//!
//! ```no_run
//! # use openclip::Clip;
//! let clip = Clip::builder("ViT-B-32").pretrained("laion2b_s34b_b79k").text_only().build()?;
//! let embeddings = clip.encode_text(["a dog", "a cat"])?;
//! # Ok::<(), openclip::Error>(())
//! ```

#[cfg(not(any(feature = "candle", feature = "tch", feature = "ort")))]
compile_error!("openclip runs models on a backend: enable one of the cargo features `candle`, `tch`, `ort`");

#[cfg(feature = "cli")]
pub mod cli;
mod clip;
mod error;

pub use clip::{AsImage, AttentionMap, Clip, ClipBuilder, Embedding, Scoring, Stage, ZeroShotClassifier};
pub use error::{Error, Result};
pub use openclip_coca as coca;
pub use openclip_core as core;
pub use openclip_core::{ConfigOverrides, HeightWidth, Indices, Precision, backend::DeviceSpec};
#[cfg(feature = "eval")]
pub use openclip_eval as eval;
pub use openclip_text as text;
pub use openclip_text::prompts;
pub use openclip_vision as vision;
pub use openclip_vision::preprocess::{DecodedImage, PreprocessOverrides};
pub use openclip_zoo as zoo;
pub use openclip_zoo::build::BackendKind;

/// The guides, so that their code is compiled and run with the documentation tests.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../docs/adding-an-architecture.md")]
    struct AddingAnArchitecture;
}
