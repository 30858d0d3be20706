//! What can go wrong between a dataset, a model and a figure. Every message names the file or the sample concerned.

use std::path::{Path, PathBuf};

/// Result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of whatever computes embeddings or captions.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong between a dataset, a model and a figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A dataset isn't laid out as its format wants it.
    #[error("dataset {}: {message}", path.display())]
    Dataset {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A sample contradicts its dataset, so that no figure would mean anything.
    #[error("sample {name}: {message}")]
    Sample {
        /// The sample, with the file that it is in.
        name: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A name of a dataset can't be understood.
    #[error("dataset `{name}`: {message}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Samples, classes or options for which a metric isn't defined.
    #[error("{0}")]
    Undefined(String),
    /// The model can't be had or run.
    #[error(transparent)]
    Model(ModelError),
    /// A file of the hub can't be had.
    #[error(transparent)]
    Hub(#[from] openclip_zoo::hub::HubError),
    /// A value of the lower crates.
    #[error(transparent)]
    Core(#[from] openclip_core::Error),
}

impl Error {
    /// Makes an I/O error at `path`, for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }

    /// A dataset that isn't laid out as its format wants it.
    pub fn dataset(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Dataset { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A sample that contradicts its dataset.
    pub fn sample(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Sample { name: name.into(), message: message.into() }
    }
}
