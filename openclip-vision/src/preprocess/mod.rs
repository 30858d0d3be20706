//! Images to tensors, equal to the reference's preprocessing of a Pillow image.
//!
//! [`DecodedImage`] opens a file in the mode that Pillow would open it in (see [`decode`] for the formats),
//! [`Preprocessor`] resizes, crops, converts and normalises it as a [`PreprocessConfig`] says, and [`BatchLoader`] does
//! both for many files on background threads. 8-bit pixels after resizing and cropping are identical to Pillow's for
//! every image whose decoding is exact.
//!
//! ```
//! use openclip_vision::preprocess::{DecodedImage, PreprocessConfig, Preprocessor};
//!
//! let file = b"P3 2 1 255  255 0 0  0 0 255";
//! let image = DecodedImage::from_bytes("red and blue", file)?;
//! let preprocessor = Preprocessor::new(PreprocessConfig::default())?;
//! let pixels = preprocessor.resize_and_crop(&image)?;
//! assert_eq!(pixels.data.len(), 224 * 224 * 3);
//! let tensor = preprocessor.prepare(&image)?;
//! assert_eq!(tensor.dims(), [3, 224, 224]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod convert;
pub mod decode;
mod error;
pub(crate) mod filter;
mod geometry;
mod image;
mod loader;
mod pipeline;
mod resample;
mod resample_wide;
mod scratch;

pub use config::{
    ColorMode, ImageSize, Interpolation, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, PreprocessConfig,
    PreprocessOverrides, ResizeMode,
};
pub use decode::{DEFAULT_MAX_PIXELS, DecodeOptions};
pub use error::ImageError;
pub use image::{DecodedImage, Mode};
pub use loader::{Batch, BatchLoader, ImageSource, LoaderOptions};
pub use pipeline::{Preprocessor, RgbPixels};
