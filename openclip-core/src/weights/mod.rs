//! Weights by name: a scoped view of a checkpoint that checks dimensions, keeps account of what was used, and reads
//! only the tensors that are asked for.
//!
//! Model code asks by the reference's own parameter names below a scope ([`Weights::scope`]). The same code run with
//! [`Weights::survey`] compares a whole model with a checkpoint's header and reads nothing.

mod error;
mod report;
mod source;
pub mod synth;
mod view;

pub use error::WeightsError;
pub use report::{LoadReport, MismatchedTensor, MissingTensor};
pub use source::{DType, TensorData, TensorInfo, WeightSource};
pub use view::Weights;
