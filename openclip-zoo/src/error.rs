//! What can go wrong between a model's name and its configuration and weights. Every message says what to do.

use std::path::PathBuf;

use crate::hub::HubError;

/// Result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A name that can't be resolved, or a model that can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry has no architecture of this name.
    #[error(
        "there is no architecture `{name}`{}. `openclip models list` shows all; a checkpoint folder is given as `local-dir:PATH`, a hub repository as `hf-hub:ORG/NAME`",
        list("; did you mean ", nearest)
    )]
    UnknownArchitecture {
        /// The name that was asked for.
        name: String,
        /// The nearest names that there are, best first.
        nearest: Vec<String>,
    },
    /// The architecture has no such pretrained tag, and there is no such file.
    #[error(
        "`{architecture}` has no pretrained tag `{tag}`, and there is no file of this name; {}",
        tags_of(tags)
    )]
    UnknownTag {
        /// The architecture.
        architecture: String,
        /// The tag that was asked for.
        tag: String,
        /// The tags that it has, nearest first.
        tags: Vec<String>,
    },
    /// An architecture alone has no weights.
    #[error(
        "`{architecture}` is an architecture without weights: give a pretrained tag or a checkpoint file; {}",
        tags_of(tags)
    )]
    NoPretrained {
        /// The architecture.
        architecture: String,
        /// The tags that it has.
        tags: Vec<String>,
    },
    /// A model name is malformed.
    #[error("`{}` is not a model name: {message}", name.escape_debug())]
    ModelName {
        /// The name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A folder or file that was given as a model isn't one.
    #[error("{}: {message}", path.display())]
    NotAModel {
        /// The folder or file.
        path: PathBuf,
        /// What is missing and what to do.
        message: String,
    },
    /// A registry file is malformed.
    #[error("registry {origin}: {message}")]
    Registry {
        /// The file.
        origin: String,
        /// What is wrong, and where.
        message: String,
    },
    /// The weights aren't in the cache and downloads are off.
    #[error("{missing}: run `{command}`")]
    NotCached {
        /// What is missing.
        missing: Box<HubError>,
        /// What downloads it.
        command: String,
    },
    /// The hub, the network or the cache.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A configuration that can't be read.
    #[error(transparent)]
    Core(#[from] openclip_core::Error),
}

fn list(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}?", quoted(names)) }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn tags_of(tags: &[String]) -> String {
    if tags.is_empty() {
        "it has no tags, so give a checkpoint file".to_owned()
    } else {
        format!("its tags are {}", quoted(tags))
    }
}
