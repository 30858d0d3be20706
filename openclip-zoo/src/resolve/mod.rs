//! From what a user calls a model to everything that is needed to build it: configuration, preprocessing, tokenizer and
//! verified weights. The order of precedence is the reference's `create_model`.

mod folder;
mod preprocess;
mod text_model;
mod tokenizer;
mod transformers;

pub(crate) use folder::{IMAGE_ONNX, TEXT_ONNX, find_checkpoint};
pub use tokenizer::{HubRevision, TokenizerInfo, TokenizerSource};

use tokenizer::Home;

use std::fmt;
use std::path::{Path, PathBuf};

use openclip_core::{CheckpointConfig, ModelConfig};
use serde_json::{Map, Value};

use crate::hub::{FileName, Hub, HubFile, RepositoryId, Revision};
use crate::registry::{self, Architecture, Pretrained, Registry, weight_files};
use crate::{Error, ModelSource, Result};

/// The file that says what a checkpoint is.
pub(crate) const CONFIG_FILE: &str = "open_clip_config.json";

/// A model with everything that is needed to build it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolvedModel {
    /// What the model is called in messages: the architecture's name, or the source as it was given.
    pub name: String,
    /// Where it was found.
    pub origin: Origin,
    /// The architecture, and how its images are prepared. `preprocess_cfg` is complete: `size` is `[height, width]`, and
    /// fields that nobody gave have the reference's defaults.
    pub config: CheckpointConfig,
    /// The weights.
    pub weights: WeightsLocation,
    /// How text becomes tokens.
    pub tokenizer: TokenizerInfo,
    /// What a user should know. They have been logged, too.
    pub warnings: Vec<ResolveWarning>,
}

/// Where a model was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// An architecture of the registry with a pretrained tag.
    Pretrained {
        /// The architecture's name.
        architecture: String,
        /// The tag.
        tag: String,
    },
    /// An architecture of the registry with a checkpoint file.
    ArchitectureAndFile {
        /// The architecture's name.
        architecture: String,
        /// The file.
        file: PathBuf,
    },
    /// A repository of the hub.
    Hub {
        /// The repository.
        repository: RepositoryId,
        /// The branch, tag or commit.
        revision: Revision,
    },
    /// A folder, or a file with its configuration beside it.
    Local(PathBuf),
}

/// Where weights are.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightsLocation {
    /// A checkpoint file; a downloaded one has been verified.
    File(PathBuf),
    /// A safetensors file that is compiled in.
    Bundled {
        /// Its name.
        name: String,
        /// Its contents.
        bytes: &'static [u8],
    },
    /// ONNX files of the towers, in place of weights.
    Onnx {
        /// The image tower.
        image: Option<PathBuf>,
        /// The text tower.
        text: Option<PathBuf>,
    },
}

impl fmt::Debug for WeightsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bundled { name, bytes } => write!(f, "Bundled({name:?}, {} bytes)", bytes.len()),
            Self::Onnx { image, text } => {
                f.debug_struct("Onnx").field("image", image).field("text", text).finish()
            }
        }
    }
}

/// Something that is allowed, and that a user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveWarning {
    /// The weights were trained with another activation than the architecture has; their figures will be off.
    QuickGelu {
        /// The architecture's name.
        architecture: String,
        /// The tag.
        tag: String,
        /// Whether the weights were trained with QuickGELU.
        trained_with: bool,
    },
    /// A pretrained tag was given for a source that has its own weights.
    PretrainedIgnored {
        /// The source.
        source: String,
        /// The tag.
        pretrained: String,
    },
    /// A folder has several checkpoints and none of the usual names.
    SeveralCheckpoints {
        /// The one that is used.
        used: PathBuf,
        /// The names of the others.
        others: Vec<String>,
    },
}

impl fmt::Display for ResolveWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QuickGelu { architecture, tag, trained_with: true } => write!(
                f,
                "the weights `{tag}` were trained with QuickGELU and `{architecture}` uses GELU, so their results will be \
                 off; use `{architecture}-quickgelu`"
            ),
            Self::QuickGelu { architecture, tag, trained_with: false } => write!(
                f,
                "the weights `{tag}` were trained with GELU and `{architecture}` uses QuickGELU, so their results will be \
                 off; use `{}`",
                architecture.trim_end_matches("-quickgelu")
            ),
            Self::PretrainedIgnored { source, pretrained } => {
                write!(f, "`{pretrained}` is ignored: {source} has its own weights")
            }
            Self::SeveralCheckpoints { used, others } => write!(
                f,
                "using {}; the folder also has {}. Name the right one open_clip_model.safetensors",
                used.display(),
                others.join(", ")
            ),
        }
    }
}

/// Resolves names with a registry and a hub.
///
/// ```
/// use openclip_zoo::hub::{Hub, HubConfig};
/// use openclip_zoo::{Registry, Resolver};
///
/// let (registry, hub) = (Registry::bundled(), Hub::new(HubConfig::from_env()));
/// # #[cfg(feature = "emoji-clip")] {
/// let model = Resolver::new(&registry, &hub).resolve_text("emoji-clip", None)?;
/// assert_eq!(model.tokenizer.context_length, 32);
/// # }
/// # Ok::<(), openclip_zoo::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Resolver<'a> {
    registry: &'a Registry,
    hub: &'a Hub,
}

impl<'a> Resolver<'a> {
    /// A resolver that looks names up in `registry` and files in `hub`.
    pub fn new(registry: &'a Registry, hub: &'a Hub) -> Self {
        Self { registry, hub }
    }

    /// As [`resolve`](Self::resolve), with the source as text.
    ///
    /// # Errors
    /// Those of [`ModelSource::parse`] and of [`resolve`](Self::resolve).
    pub fn resolve_text(&self, model: &str, pretrained: Option<&str>) -> Result<ResolvedModel> {
        self.resolve(&ModelSource::parse(model)?, pretrained)
    }

    /// Finds a model and downloads what isn't there yet. `pretrained` is a tag or a checkpoint file; it goes with an
    /// architecture's name only, and may be left out where the weights are compiled in.
    ///
    /// # Errors
    /// [`Error::NotCached`] when something would have to be downloaded and downloads are off, and every other [`Error`].
    pub fn resolve(&self, source: &ModelSource, pretrained: Option<&str>) -> Result<ResolvedModel> {
        let pretrained = pretrained.filter(|text| !text.is_empty());
        let resolved = match source {
            ModelSource::Name(name) => self.resolve_name(name, pretrained),
            ModelSource::Hub { repository, revision } => self.resolve_hub(repository, revision),
            ModelSource::Folder(path) => folder::resolve_folder(path),
            ModelSource::File(path) => folder::resolve_file(path),
        };
        let mut model = resolved.map_err(|error| not_cached(error, source, pretrained))?;
        self.complete_text_model(&mut model)?;
        if let (Some(pretrained), false) = (pretrained, matches!(source, ModelSource::Name(_))) {
            let (source, pretrained) = (source.to_string(), pretrained.to_owned());
            model.warnings.push(ResolveWarning::PretrainedIgnored { source, pretrained });
        }
        for warning in &model.warnings {
            tracing::warn!("{warning}");
        }
        Ok(model)
    }

    fn resolve_name(&self, name: &str, pretrained: Option<&str>) -> Result<ResolvedModel> {
        let architecture = match self.registry.architecture(name) {
            Err(error) if Path::new(name).is_dir() => {
                let is_model = |file: &str| Path::new(name).join(file).is_file();
                let hint = if is_model(CONFIG_FILE) || is_model(transformers::MODEL_FILE) {
                    "; give it as `local-dir:PATH`"
                } else {
                    ""
                };
                tracing::debug!(%error, "not an architecture");
                let message = format!("a folder is not an architecture's name{hint}");
                return Err(Error::NotAModel { path: name.into(), message });
            }
            other => other?,
        };
        let tag = match pretrained {
            Some(tag) => tag,
            None => bundled_tag(architecture).ok_or_else(|| Error::NoPretrained {
                architecture: architecture.name.clone(),
                tags: architecture.tags().map(str::to_owned).collect(),
            })?,
        };
        let clean = registry::clean_tag(tag);
        if let Some(record) = architecture.pretrained.iter().find(|record| record.tag == clean) {
            return self.resolve_tag(architecture, record);
        }
        let file = Path::new(tag);
        if !file.is_file() {
            return Err(registry::unknown_tag(architecture, tag));
        }
        let preprocess = preprocess::of_architecture(architecture);
        Ok(ResolvedModel {
            name: architecture.name.clone(),
            origin: Origin::ArchitectureAndFile {
                architecture: architecture.name.clone(),
                file: file.to_owned(),
            },
            tokenizer: tokenizer::of_config(&architecture.config, Home::Unknown)?,
            config: checkpoint_config(&architecture.name, architecture.config.clone(), preprocess.as_ref())?,
            weights: WeightsLocation::File(file.to_owned()),
            warnings: Vec::new(),
        })
    }

    fn resolve_tag(&self, architecture: &Architecture, record: &Pretrained) -> Result<ResolvedModel> {
        let name = &architecture.name;
        let mut warnings = Vec::new();
        if record.quick_gelu != architecture.config.quick_gelu {
            warnings.push(ResolveWarning::QuickGelu {
                architecture: name.clone(),
                tag: record.tag.clone(),
                trained_with: record.quick_gelu,
            });
        }
        let preprocess = preprocess::of_record(&record.preprocess);
        let config = checkpoint_config(name, architecture.config.clone(), Some(&preprocess))?;
        Ok(ResolvedModel {
            name: name.clone(),
            origin: Origin::Pretrained { architecture: name.clone(), tag: record.tag.clone() },
            tokenizer: tokenizer::of_config(&config.model_cfg, record_home(record)?)?,
            config,
            weights: self.weights_of(architecture, record)?,
            warnings,
        })
    }

    fn weights_of(&self, architecture: &Architecture, record: &Pretrained) -> Result<WeightsLocation> {
        if let Some(name) = &record.bundled {
            return bundled_weights(name);
        }
        let files = record.hub_files()?;
        let path = if files.is_empty() {
            let url = record.url.as_ref().ok_or_else(|| Error::Registry {
                origin: architecture.name.clone(),
                message: format!("`{}` has neither a repository nor an address", record.tag),
            })?;
            self.hub.fetch_address(&url.address, url.sha256.as_ref())?
        } else {
            self.hub.fetch_first(&files)?
        };
        Ok(WeightsLocation::File(path))
    }

    fn resolve_hub(&self, repository: &RepositoryId, revision: &Revision) -> Result<ResolvedModel> {
        let file = |name: &str| -> Result<HubFile> {
            let (repository, revision) = (repository.clone(), revision.clone());
            Ok(HubFile { repository, revision, file: FileName::parse(name)?, sha256: None })
        };
        let (own, other) = (file(CONFIG_FILE)?, file(transformers::MODEL_FILE)?);
        let path = match self.hub.fetch_optional(&own) {
            Ok(Some(path)) => path,
            Ok(None) => self.hub.fetch_first(&[other, own])?,
            // Without the network nobody knows whether the repository has one: what was downloaded says what it is.
            Err(error) if error.is_offline() => self.hub.cached(&other)?.ok_or(error)?,
            Err(error) => return Err(error.into()),
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let (origin, config, weights) = match path.ends_with(CONFIG_FILE) {
            true => (path.display().to_string(), folder::read_config(&path)?, weight_files(None)),
            false => {
                for name in transformers::other_files() {
                    self.hub.fetch_optional(&file(name)?)?;
                }
                let found = transformers::read_config(folder, &repository.to_string())?;
                let (origin, config) = found.ok_or_else(|| Error::NotAModel {
                    path: path.clone(),
                    message: "it has gone".to_owned(),
                })?;
                (origin, config, transformers::WEIGHT_FILES.map(str::to_owned).to_vec())
            }
        };
        let candidates = weights.iter().map(|name| file(name)).collect::<Result<Vec<_>>>()?;
        let source = ModelSource::Hub { repository: repository.clone(), revision: revision.clone() };
        let home = Home::Hub(HubRevision { repository: repository.clone(), revision: revision.clone() });
        Ok(ResolvedModel {
            name: source.to_string(),
            origin: Origin::Hub { repository: repository.clone(), revision: revision.clone() },
            tokenizer: tokenizer::of_config(&config.model_cfg, home)?,
            config: checkpoint_config(&origin, config.model_cfg, config.preprocess_cfg.as_ref())?,
            weights: WeightsLocation::File(self.hub.fetch_first(&candidates)?),
            warnings: Vec::new(),
        })
    }
}

/// The repository of a record's weights.
fn record_home(record: &Pretrained) -> Result<Home<'static>> {
    let first = record.hub_files()?.into_iter().next();
    Ok(first.map_or(Home::Unknown, |file| {
        Home::Hub(HubRevision { repository: file.repository, revision: file.revision })
    }))
}

/// The tag that needs no choice: the weights are compiled in.
fn bundled_tag(architecture: &Architecture) -> Option<&str> {
    architecture.pretrained.iter().find(|record| record.bundled.is_some()).map(|record| record.tag.as_str())
}

fn bundled_weights(name: &str) -> Result<WeightsLocation> {
    #[cfg(feature = "emoji-clip")]
    if name == crate::emoji_clip::NAME {
        return Ok(WeightsLocation::Bundled { name: name.to_owned(), bytes: crate::emoji_clip::WEIGHTS });
    }
    let message = "its weights are not compiled into this program".to_owned();
    Err(Error::Registry { origin: name.to_owned(), message })
}

/// Says what to run, when all that is missing is a download.
fn not_cached(error: Error, source: &(impl fmt::Display + ?Sized), pretrained: Option<&str>) -> Error {
    match error {
        Error::Hub(missing) if missing.is_offline() => {
            let pretrained = pretrained.map(|tag| format!(" --pretrained {tag}")).unwrap_or_default();
            let command = format!("openclip pull --model {source}{pretrained}");
            Error::NotCached { missing: Box::new(missing), command }
        }
        other => other,
    }
}

fn checkpoint_config(
    origin: &str,
    model_cfg: ModelConfig,
    preprocess: Option<&Map<String, Value>>,
) -> Result<CheckpointConfig> {
    let preprocess_cfg = Some(preprocess::complete(origin, &model_cfg, preprocess)?);
    Ok(CheckpointConfig { model_cfg, preprocess_cfg })
}
