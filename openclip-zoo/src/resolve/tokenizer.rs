//! Which tokenizer a model has, and where its files are.

use std::fmt;
use std::path::{Path, PathBuf};

use openclip_core::ModelConfig;
use openclip_text::TokenizerFiles;
use serde_json::{Map, Value};

use super::{Origin, ResolvedModel, Resolver, not_cached};
use crate::hub::{FileName, HubError, HubFile, RepositoryId, Revision};
use crate::{Error, Result};

/// The reference's context length where the configuration has none.
const DEFAULT_CONTEXT_LENGTH: usize = 77;

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenizerInfo {
    /// Which tokenizer.
    pub source: TokenizerSource,
    /// Number of tokens per text.
    pub context_length: usize,
    /// The configuration's `tokenizer_mode`, for Hugging Face tokenizers.
    pub mode: Option<String>,
    /// The configuration's `tokenizer_kwargs`.
    pub options: Map<String, Value>,
}

/// Which tokenizer a model has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerSource {
    /// CLIP's byte-pair tokenizer.
    Clip,
    /// A Hugging Face tokenizer of the hub: that of the first of these repositories that has one.
    Hub(Vec<HubRevision>),
    /// A Hugging Face tokenizer in a folder.
    Folder(PathBuf),
}

/// A repository of the hub at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRevision {
    /// The repository.
    pub repository: RepositoryId,
    /// The branch, tag or commit.
    pub revision: Revision,
}

impl fmt::Display for HubRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)
    }
}

/// Where a model's other files are.
pub(super) enum Home<'a> {
    /// Nowhere in particular.
    Unknown,
    /// A folder, whose own tokenizer counts, as in the reference.
    Folder(&'a Path),
    /// A repository, whose own tokenizer goes before the one that is named: it came with the weights.
    Hub(HubRevision),
}

/// The tokenizer that a configuration names.
pub(super) fn of_config(config: &ModelConfig, home: Home<'_>) -> Result<TokenizerInfo> {
    let text =
        |field: &str| config.text_cfg.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let source = match (text("hf_tokenizer_name"), home) {
        (None, _) => TokenizerSource::Clip,
        (Some(_), Home::Folder(folder)) => TokenizerSource::Folder(folder.to_owned()),
        (Some(name), home) => {
            let named = HubRevision { repository: RepositoryId::parse(name)?, revision: Revision::default() };
            TokenizerSource::Hub(match home {
                Home::Hub(home) if home != named => vec![home, named],
                _ => vec![named],
            })
        }
    };
    let context_length = config.text_cfg.get("context_length").and_then(Value::as_u64);
    Ok(TokenizerInfo {
        source,
        context_length: context_length
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(DEFAULT_CONTEXT_LENGTH),
        mode: text("tokenizer_mode").map(str::to_owned),
        options: config
            .text_cfg
            .get("tokenizer_kwargs")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
    })
}

impl Resolver<'_> {
    /// The files of a model's Hugging Face tokenizer, downloaded where they aren't there yet; nothing for CLIP's own.
    ///
    /// # Errors
    /// [`Error::NotAModel`] for a folder without a tokenizer; [`Error::Hub`] when no repository has one, and
    /// [`Error::NotCached`] when downloads are off.
    pub fn tokenizer_files(&self, model: &ResolvedModel) -> Result<Option<TokenizerFiles>> {
        match &model.tokenizer.source {
            TokenizerSource::Clip => Ok(None),
            TokenizerSource::Folder(path) => {
                let files = TokenizerFiles::in_folder(path);
                if !files.has_vocabulary() {
                    let message = format!(
                        "the model wants a Hugging Face tokenizer, and the folder has none: put its {} there",
                        vocabularies()
                    );
                    return Err(Error::NotAModel { path: path.clone(), message });
                }
                Ok(Some(files))
            }
            TokenizerSource::Hub(repositories) => {
                let mut offline = None;
                for repository in repositories {
                    match self.tokenizer_of_repository(repository) {
                        Ok(None) => {}
                        // Another repository may be there, and without the network nobody knows what this one has.
                        Err(error) if error.is_offline() => offline = offline.or(Some(error)),
                        found => return Ok(found?),
                    }
                }
                let error = offline.unwrap_or_else(|| self.no_tokenizer(repositories)).into();
                Err(match &model.origin {
                    Origin::Pretrained { architecture, tag } => not_cached(error, architecture, Some(tag)),
                    Origin::Hub { .. } => not_cached(error, &model.name, None),
                    Origin::ArchitectureAndFile { .. } | Origin::Local(_) => error,
                })
            }
        }
    }

    /// The files of the tokenizer in one repository, if it has one.
    fn tokenizer_of_repository(&self, at: &HubRevision) -> Result<Option<TokenizerFiles>, HubError> {
        let fetch = |name: &str| {
            let (repository, revision) = (at.repository.clone(), at.revision.clone());
            let file = HubFile { repository, revision, file: FileName::parse(name)?, sha256: None };
            self.hub.fetch_optional(&file)
        };
        let mut files = TokenizerFiles::default();
        // What is absent is remembered of a commit, which the first file that is there makes known.
        for name in TokenizerFiles::SETTINGS {
            if let Some(path) = fetch(name)? {
                files.insert(name, path);
            }
        }
        for names in TokenizerFiles::VOCABULARIES {
            for name in *names {
                match fetch(name)? {
                    Some(path) => files.insert(name, path),
                    None => break,
                }
            }
            if files.has_vocabulary() {
                break;
            }
        }
        Ok(Some(files).filter(TokenizerFiles::has_vocabulary))
    }

    fn no_tokenizer(&self, repositories: &[HubRevision]) -> HubError {
        let endpoint = self.hub.config().endpoint.clone();
        let files = repositories.iter().map(|at| format!("{} of {at}", vocabularies())).collect();
        HubError::NotFound { endpoint, files }
    }
}

/// What a tokenizer can be made of, for messages.
fn vocabularies() -> String {
    let names: Vec<String> = TokenizerFiles::VOCABULARIES.iter().map(|names| names.join(" with ")).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use openclip_core::CheckpointConfig;

    use super::*;

    fn source(text_cfg: &str, home: Home<'_>) -> Result<TokenizerSource> {
        let json = format!(r#"{{"embed_dim": 8, "vision_cfg": {{}}, "text_cfg": {text_cfg}}}"#);
        let config = CheckpointConfig::from_json("test", &json)?.model_cfg;
        Ok(of_config(&config, home)?.source)
    }

    fn at(name: &str) -> HubRevision {
        HubRevision { repository: RepositoryId::parse(name).unwrap(), revision: Revision::default() }
    }

    #[test]
    fn a_tokenizer_is_looked_for_beside_the_weights_first() {
        let named = r#"{"hf_tokenizer_name": "org/tokenizer"}"#;
        let folder = Path::new("/folder");
        let hub = |names: &[&str]| TokenizerSource::Hub(names.iter().map(|name| at(name)).collect());
        for (text_cfg, home, expected) in [
            ("{}", Home::Folder(folder), TokenizerSource::Clip),
            (r#"{"hf_tokenizer_name": ""}"#, Home::Hub(at("org/model")), TokenizerSource::Clip),
            (named, Home::Folder(folder), TokenizerSource::Folder(folder.to_owned())),
            (named, Home::Unknown, hub(&["org/tokenizer"])),
            (named, Home::Hub(at("org/model")), hub(&["org/model", "org/tokenizer"])),
            (named, Home::Hub(at("org/tokenizer")), hub(&["org/tokenizer"])),
        ] {
            assert_eq!(source(text_cfg, home).unwrap(), expected, "{text_cfg}");
        }
        assert!(source(r#"{"hf_tokenizer_name": "../x"}"#, Home::Unknown).is_err());
    }
}
