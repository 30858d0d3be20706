//! Running graphs on ONNX Runtime, which is loaded while the program runs: recorded towers, and ONNX files.
//!
//! ```no_run
//! use openclip_core::{HostTensor, ImageEncoder, ImageInfo};
//! use openclip_ort::runtime::{OrtImageEncoder, OrtOptions};
//!
//! let info = ImageInfo { image_size: [224, 224], embed_dim: 512 };
//! let encoder = OrtImageEncoder::from_file("vit-b-32/image.onnx".as_ref(), info, &OrtOptions::default())?;
//! let embeddings = encoder.encode(&HostTensor::zeros([1, 3, 224, 224]))?;
//! # Ok::<(), openclip_core::Error>(())
//! ```

mod caption;
mod image;
mod interface;
mod library;
mod model;
mod pool;
mod rows;
mod session;
mod text;

pub use caption::OrtCaptioner;
pub use image::OrtImageEncoder;
pub use library::adopt;
use openclip_core::{Error, Precision, Result, backend::DeviceSpec};
pub use ort::environment::Environment;
pub use text::OrtTextEncoder;

use crate::OnnxRecorder;

/// What graphs run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrtOptions {
    /// The device: `cpu`, `cuda` through ONNX Runtime's CUDA provider, `metal` through its CoreML provider.
    pub device: DeviceSpec,
    /// Threads that share the work of one operation; all cores where nothing is said.
    pub threads: Option<usize>,
}

/// Whether ONNX Runtime is there and graphs compute in `precision`. Whether it has the device is found out when a model is
/// built.
///
/// # Errors
/// [`Error::Unsupported`] with the reason.
pub fn check(precision: Precision, options: &OrtOptions) -> Result<()> {
    OnnxRecorder::new(precision)?;
    library::runtime(options.threads).map(drop)
}

/// An error of ONNX Runtime during `op`.
fn failed<R>(op: impl Into<String>) -> impl FnOnce(ort::Error<R>) -> Error {
    let op = op.into();
    move |error| Error::backend(op, error.message().to_owned())
}
