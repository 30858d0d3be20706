//! The records of the registry, as they stand in its TOML files: `registry/README.md` says what each field is.

use openclip_core::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::hub::{FileName, HubFile, RepositoryId, Revision, Sha256Digest};

/// The reference's names of the files with a model's weights, the safe one first.
const DEFAULT_FILES: [&str; 2] = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];

/// A family of architectures: one file of the registry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Family {
    pub family: String,
    pub architecture: Vec<Architecture>,
}

/// An architecture and its pretrained tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Architecture {
    /// The name, as in the reference: `ViT-B-32`.
    pub name: String,
    /// The family that it is listed under; empty for one that was added at run time.
    #[serde(default)]
    pub family: String,
    /// Published sizes and costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The reference's `model_cfg`.
    pub config: ModelConfig,
    /// The weights that there are, in the reference's order.
    #[serde(default)]
    pub pretrained: Vec<Pretrained>,
}

impl Architecture {
    /// The tags, in the reference's order.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.pretrained.iter().map(|pretrained| pretrained.tag.as_str())
    }
}

/// Published sizes and costs of an architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    /// Parameters of the whole model, in millions.
    pub mparams: f64,
    /// Parameters of the image tower, in millions.
    pub image_mparams: f64,
    /// Parameters of the text tower, in millions.
    pub text_mparams: f64,
    /// Floating point operations for one image and one text, in billions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
    /// Floating point operations for one image, in billions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_gflops: Option<f64>,
    /// Floating point operations for one text, in billions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_gflops: Option<f64>,
}

/// Pretrained weights and everything that goes with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pretrained {
    /// The tag, in the form that [`clean_tag`] gives.
    pub tag: String,
    /// The repository on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The file in the repository, where it isn't one of the usual names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The branch, tag or commit; `main` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SHA-256 of `file` in the repository, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// Size of `file` in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A direct address, used where there is no repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Address>,
    /// The weights are compiled in under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundled: Option<String>,
    /// `clip`, or the name of a Hugging Face tokenizer.
    pub tokenizer: String,
    /// The activation that the weights were trained with: QuickGELU, or GELU.
    pub quick_gelu: bool,
    /// How the weights want their images prepared.
    pub preprocess: Preprocess,
    /// The licence of the weights, where it is known for a fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Published zero-shot top-1 accuracy on ImageNet-1k, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imagenet_zero_shot: Option<f64>,
}

/// A file outside the hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Address {
    /// The address.
    pub address: String,
    /// Its SHA-256, or the first digits of it, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
}

/// How images are prepared, in the reference's terms. Their size is the architecture's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Preprocess {
    /// Mean per channel, subtracted from values in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation per channel, divided by.
    pub std: [f64; 3],
    /// `bicubic`, `bilinear` or `nearest`.
    pub interpolation: String,
    /// `shortest`, `longest` or `squash`.
    pub resize_mode: String,
}

impl Pretrained {
    /// The files of the hub that can be these weights, best first: the safetensors form of the file before the pickled one.
    /// Empty for weights that aren't on the hub.
    ///
    /// # Errors
    /// [`Error::Hub`] when a name in the record isn't one.
    pub fn hub_files(&self) -> Result<Vec<HubFile>, Error> {
        let Some(repository) = &self.repository else { return Ok(Vec::new()) };
        let repository = RepositoryId::parse(repository)?;
        let revision = self.revision.as_deref().map_or_else(|| Ok(Revision::default()), Revision::parse)?;
        let named = self.file.as_deref();
        let mut files = Vec::new();
        for name in weight_files(named) {
            files.push(HubFile {
                repository: repository.clone(),
                revision: revision.clone(),
                // A digest is of the file that the record names, not of another form of it.
                sha256: self.sha256.clone().filter(|_| named == Some(name.as_str())),
                file: FileName::parse(&name)?,
            });
        }
        Ok(files)
    }
}

/// The files to look for: those with the usual names, or the named one, and before it its safetensors form.
pub(crate) fn weight_files(named: Option<&str>) -> Vec<String> {
    let Some(name) = named else { return DEFAULT_FILES.map(str::to_owned).to_vec() };
    let mut files = Vec::new();
    if name == DEFAULT_FILES[1] {
        files.push(DEFAULT_FILES[0].to_owned());
    } else if let Some(stem) = name.strip_suffix(".bin").or_else(|| name.strip_suffix(".pth")) {
        files.push(format!("{stem}.safetensors"));
    }
    files.push(name.to_owned());
    files
}

/// A tag as the registry writes it: in lower case, with `_` for `-`.
///
/// ```
/// assert_eq!(openclip_zoo::clean_tag("LAION2B-s34B-b79K"), "laion2b_s34b_b79k");
/// ```
pub fn clean_tag(tag: &str) -> String {
    tag.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_safe_form_of_the_weights_comes_first() {
        for (named, expected) in [
            (None, vec!["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]),
            (
                Some("open_clip_pytorch_model.bin"),
                vec!["open_clip_model.safetensors", "open_clip_pytorch_model.bin"],
            ),
            (Some("pytorch_model.bin"), vec!["pytorch_model.safetensors", "pytorch_model.bin"]),
            (Some("sub/a.pth"), vec!["sub/a.safetensors", "sub/a.pth"]),
            (Some("a.pt"), vec!["a.pt"]),
            (Some("a.safetensors"), vec!["a.safetensors"]),
        ] {
            assert_eq!(weight_files(named), expected, "{named:?}");
        }
    }
}
