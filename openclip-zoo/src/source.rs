//! What a user calls a model: a name of the registry, a repository of the hub, a folder, or a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::hub::{RepositoryId, Revision};
use crate::{Error, Result};

const HUB_PREFIX: &str = "hf-hub:";
const FOLDER_PREFIX: &str = "local-dir:";

/// Endings of files with weights.
const WEIGHT_EXTENSIONS: [&str; 5] = ["safetensors", "bin", "pt", "pth", "npz"];

/// Where a model's configuration and weights are, as a user says it.
///
/// ```
/// use openclip_zoo::ModelSource;
///
/// assert_eq!(ModelSource::parse("ViT-B-32")?, ModelSource::Name("ViT-B-32".into()));
/// assert_eq!(ModelSource::parse("local-dir:./mine")?, ModelSource::Folder("./mine".into()));
/// assert!(matches!(ModelSource::parse("hf-hub:org/name@v1")?, ModelSource::Hub { .. }));
/// assert!(ModelSource::parse("hf-hub:").is_err());
/// # Ok::<(), openclip_zoo::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// An architecture of the registry; its weights are a pretrained tag or a file.
    Name(String),
    /// `hf-hub:org/name[@revision]`: a repository of the hub with `open_clip_config.json` and weights.
    Hub {
        /// The repository.
        repository: RepositoryId,
        /// The branch, tag or commit.
        revision: Revision,
    },
    /// `local-dir:path`: a folder with `open_clip_config.json` and weights, or one that transformers saved.
    Folder(PathBuf),
    /// A file with weights, with `open_clip_config.json` or the files of transformers beside it.
    File(PathBuf),
}

impl ModelSource {
    /// Reads `text`. Nothing is looked up.
    ///
    /// # Errors
    /// [`Error::ModelName`] when nothing follows a prefix; [`Error::Hub`] when the name of the repository or the revision
    /// isn't one.
    pub fn parse(text: &str) -> Result<Self> {
        let fail =
            |message: &str| Err(Error::ModelName { name: text.to_owned(), message: message.to_owned() });
        if let Some(path) = text.strip_prefix(FOLDER_PREFIX) {
            return if path.is_empty() {
                fail("no path follows `local-dir:`")
            } else {
                Ok(Self::Folder(path.into()))
            };
        }
        if let Some(identifier) = text.strip_prefix(HUB_PREFIX) {
            let (repository, revision) = match identifier.split_once('@') {
                Some((repository, revision)) => (repository, Some(revision)),
                None => (identifier, None),
            };
            if repository.is_empty() {
                return fail("no repository follows `hf-hub:`");
            }
            return Ok(Self::Hub {
                // The reference's own records end with a slash.
                repository: RepositoryId::parse(repository.strip_suffix('/').unwrap_or(repository))?,
                revision: revision.map_or_else(|| Ok(Revision::default()), Revision::parse)?,
            });
        }
        if text.trim().is_empty() {
            return fail("it is empty");
        }
        let extension = Path::new(text).extension().and_then(|extension| extension.to_str());
        let is_file = extension.is_some_and(|extension| {
            WEIGHT_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
        });
        Ok(if is_file { Self::File(text.into()) } else { Self::Name(text.to_owned()) })
    }
}

impl FromStr for ModelSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Hub { repository, revision } if *revision == Revision::default() => {
                write!(f, "{HUB_PREFIX}{repository}")
            }
            Self::Hub { repository, revision } => write!(f, "{HUB_PREFIX}{repository}@{revision}"),
            Self::Folder(path) => write!(f, "{FOLDER_PREFIX}{}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_as_they_were_written() {
        for text in [
            "ViT-B-32",
            "ViT-B/32",
            "hf-hub:org/name",
            "hf-hub:gpt2",
            "hf-hub:org/name@v1.0",
            "hf-hub:org/name@refs/pr/1",
            "local-dir:/a/b",
            "local-dir:./c d",
            "local-dir:hf-hub:x",
            "x.safetensors",
            "/a/b.PT",
            "C:\\models\\m.bin",
        ] {
            assert_eq!(ModelSource::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ModelSource::parse("hf-hub:org/name/").unwrap().to_string(), "hf-hub:org/name");
        assert_eq!(ModelSource::parse("hf-hub:org/name@main").unwrap().to_string(), "hf-hub:org/name");
    }

    #[test]
    fn malformed_sources_are_refused() {
        for text in [
            "",
            " ",
            "hf-hub:",
            "local-dir:",
            "hf-hub:@main",
            "hf-hub:a/b/c",
            "hf-hub:../x",
            "hf-hub:a/b@",
            "hf-hub:a/b@../x",
            "hf-hub:a/b@x\\y",
            "hf-hub:/",
            "hf-hub:/a",
        ] {
            assert!(ModelSource::parse(text).is_err(), "{text:?}");
        }
    }
}
