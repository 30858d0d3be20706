//! What can be wrong with a checkpoint.

use std::path::PathBuf;

/// A damaged checkpoint, or one that doesn't fit the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file isn't what its name says, or is damaged.
    #[error("{}: not a readable {format} file: {message}", path.display())]
    Malformed {
        /// The checkpoint.
        path: PathBuf,
        /// The file format that was expected.
        format: &'static str,
        /// What is wrong, and where.
        message: String,
    },
    /// A pickle asks for something other than tensors and plain containers. Nothing of it was run.
    #[error("{}: the pickle asks for `{global}`, which is not needed to build tensors; nothing was run. Convert the file to safetensors with a tool that you trust, or get another copy", path.display())]
    UnsafePickle {
        /// The checkpoint.
        path: PathBuf,
        /// The Python name that the pickle asks for.
        global: String,
    },
    /// A tensor that the model needs isn't in the checkpoint.
    #[error("{origin}: tensor `{name}` {dims:?} is missing{}", hint.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Missing {
        /// The checkpoint.
        origin: String,
        /// The tensor's name.
        name: String,
        /// The dimensions that the model needs.
        dims: Vec<usize>,
        /// The nearest name that the checkpoint has.
        hint: Option<String>,
    },
    /// A tensor has other dimensions than the model needs.
    #[error("{origin}: tensor `{name}` has dimensions {found:?}, the model needs {expected:?}")]
    Mismatched {
        /// The checkpoint.
        origin: String,
        /// The tensor's name.
        name: String,
        /// The dimensions that the model needs.
        expected: Vec<usize>,
        /// The dimensions in the checkpoint.
        found: Vec<usize>,
    },
    /// A tensor has an element type that no model here uses (8-bit floats, complex numbers, quantised storage).
    #[error(
        "{origin}: tensor `{name}` has elements of type {dtype}, which can't be read; convert it to f32, f16 or bf16"
    )]
    UnsupportedDType {
        /// The checkpoint.
        origin: String,
        /// The tensor's name.
        name: String,
        /// The element type, as the checkpoint's format calls it.
        dtype: String,
    },
    /// A tensor that is or should be stored in integers with scales can't be.
    #[error("{origin}: quantised tensor `{name}`: {message}")]
    Quantization {
        /// The checkpoint.
        origin: String,
        /// The tensor's name.
        name: String,
        /// What is wrong with it or its scales.
        message: String,
    },
    /// The checkpoint as a whole doesn't fit the model; the report says tensor by tensor why.
    #[error("{origin}: the checkpoint doesn't fit the model\n{report}")]
    Incompatible {
        /// The checkpoint.
        origin: String,
        /// Missing, mismatched and unused tensors.
        report: Box<super::LoadReport>,
    },
}

impl WeightsError {
    /// A missing tensor, with no guess at which one was meant.
    pub(super) fn missing(origin: String, name: &str, dims: &[usize]) -> Self {
        Self::Missing { origin, name: name.to_owned(), dims: dims.to_vec(), hint: None }
    }
}
