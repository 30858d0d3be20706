//! The error type of the seam: what can go wrong while a configuration is read, a model is built from weights, or a
//! backend computes. Every message names the file, field or tensor concerned.

use std::path::{Path, PathBuf};

use crate::weights::WeightsError;

/// Result of an operation of the core crate and of everything that implements its traits.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a configuration, its weights and an embedding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model configuration is not valid JSON, has an unknown or missing field, or values that contradict each other.
    #[error("configuration {origin}: {message}")]
    Config {
        /// The file or registry name that the configuration came from, or the section of it (`vision_cfg`).
        origin: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A checkpoint is damaged, or doesn't fit the model.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An input or an intermediate tensor has dimensions that the operation can't take.
    #[error("{op}: expected dimensions {expected}, found {found}")]
    Shape {
        /// The operation, with the scope of its weights where it has any.
        op: String,
        /// The dimensions that the operation takes, as axes by name or numbers.
        expected: String,
        /// The dimensions that it was given.
        found: String,
    },
    /// A backend can't do what was asked of it: a precision on a device, an operation, a missing native library.
    #[error("backend {backend}: {message}")]
    Unsupported {
        /// The backend's name.
        backend: &'static str,
        /// What it can't do, and what to do about it.
        message: String,
    },
    /// A backend's library reported a failure.
    #[error("{op}: {source}")]
    Backend {
        /// The operation, with the scope of its weights where it has any.
        op: String,
        /// The library's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A caller gave an argument that makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
}

impl Error {
    /// An I/O error at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// A configuration error found in `origin`.
    pub fn config(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { origin: origin.into(), message: message.into() }
    }

    /// A shape error of `op`.
    pub fn shape(op: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Shape { op: op.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// A failure that a backend's library reported during `op`.
    pub fn backend(
        op: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { op: op.into(), source: source.into() }
    }
}
