//! Weights by name: a scoped view of a checkpoint that checks dimensions, keeps account of what was used, and reads
//! only the tensors that are asked for.
//!
//! Model code asks by the reference's own parameter names below a scope ([`Weights::scope`]). The same code run with
//! [`Weights::survey`] compares a whole model with a checkpoint's header and reads nothing.
//!
//! [`open_checkpoint`] opens a file of any supported format, [`CanonicalLayout`] presents it under the names that
//! model code asks for.

mod bytes;
mod counting;
mod error;
#[cfg(test)]
mod fixture;
mod layout;
mod open;
mod pickle;
mod report;
mod safetensors;
mod source;
pub mod synth;
mod view;
mod writer;

pub use self::safetensors::SafetensorsFile;
pub use counting::CountingSource;
pub use error::WeightsError;
pub use layout::CanonicalLayout;
pub use open::{open_checkpoint, open_embedded_checkpoint};
pub use pickle::PickleCheckpoint;
pub use report::{LoadReport, MismatchedTensor, MissingTensor};
pub use source::{DType, TensorData, TensorInfo, WeightSource};
pub use view::Weights;
pub use writer::save_safetensors;
