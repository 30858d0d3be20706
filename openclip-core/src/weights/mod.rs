//! Weights by name: a scoped view of a checkpoint that checks dimensions, keeps account of what was used, and reads
//! only the tensors that are asked for.
//!
//! Model code asks by the reference's own parameter names below a scope ([`Weights::scope`]). The same code run with
//! [`Weights::survey`] compares a whole model with a checkpoint's header and reads nothing.
//!
//! [`open_checkpoint`] opens a file of any supported format, [`CanonicalLayout`] presents it under the names that
//! model code asks for.
//!
//! ```no_run
//! use std::sync::Arc;
//! use openclip_core::weights::{CanonicalLayout, Weights, open_checkpoint};
//!
//! let checkpoint = open_checkpoint("open_clip_pytorch_model.bin")?;
//! let weights = Weights::new(Arc::new(CanonicalLayout::new(checkpoint)));
//! let norm = weights.scope("text").scope("ln_final");
//! println!("{:?}", norm.read("weight", &[512])?.to_f32());
//! # Ok::<(), openclip_core::Error>(())
//! ```

mod bytes;
mod counting;
mod error;
#[cfg(test)]
mod fixture;
mod layout;
mod npz;
mod open;
mod pickle;
mod quantized;
mod report;
mod safetensors;
mod source;
mod strided;
pub mod synth;
mod table;
mod view;
mod writer;
mod zip;

pub use self::safetensors::SafetensorsFile;
pub use counting::CountingSource;
pub use error::WeightsError;
pub use layout::CanonicalLayout;
pub use npz::{NpzFile, read_npy};
pub use open::{open_checkpoint, open_embedded_checkpoint};
pub use pickle::PickleCheckpoint;
pub use quantized::{ChannelAxis, channel_scale, quantize, quantized_metadata, quantized_value, scale_name};
pub use report::{LoadReport, MismatchedTensor, MissingTensor};
pub use source::{DType, TensorData, TensorInfo, WeightSource};
pub use table::Table;
pub use view::Weights;
pub use writer::save_safetensors;
