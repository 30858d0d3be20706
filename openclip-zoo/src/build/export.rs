//! Writing a model as ONNX files, with what a program that runs them needs beside them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use openclip_core::{CheckpointConfig, Error, Result, files::write_atomically, weights::WeightSource};
use openclip_ort::{OnnxModel, WeightStorage};

use super::{Families, logit_parameters, record_image, record_text};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnnxOptions {
    /// The image tower, as `image.onnx`.
    pub image: bool,
    /// The text tower, as `text.onnx`.
    pub text: bool,
    /// Where weights go.
    pub storage: WeightStorage,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self { image: true, text: true, storage: WeightStorage::Automatic }
    }
}

/// Writes `image.onnx` and `text.onnx` into `folder`, which is made if it isn't there, and `open_clip_config.json` beside
/// them: preprocessing, and what selects the tokenizer. Batch size and text length stay open. Embeddings are not
/// normalised; how similarities become scores is in the files' metadata as `logit_scale` (a factor) and `logit_bias`.
/// Returns the files' paths.
///
/// # Errors
/// [`Error::Config`], [`Error::Weights`] with a report of everything that doesn't fit, [`Error::Io`].
pub fn export_onnx(
    families: &Families,
    config: &CheckpointConfig,
    source: &Arc<dyn WeightSource>,
    folder: &Path,
    options: &OnnxOptions,
) -> Result<Vec<PathBuf>> {
    let model_cfg = &config.model_cfg;
    let logits = logit_parameters(model_cfg, source)?;
    // Everything is recorded before anything is written: a model that doesn't fit leaves no files behind.
    let mut models: Vec<(&str, OnnxModel)> = Vec::new();
    if options.image {
        models.push(("image.onnx", record_image(families, model_cfg, source)?));
    }
    if options.text {
        models.push(("text.onnx", record_text(families, model_cfg, source)?));
    }
    let json = serde_json::to_vec_pretty(config)
        .map_err(|error| Error::config("open_clip_config.json", error.to_string()))?;
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let mut written = Vec::new();
    for (name, mut model) in models {
        model = model.with_metadata("logit_scale", logits.scale);
        if let Some(bias) = logits.bias {
            model = model.with_metadata("logit_bias", bias);
        }
        let path = folder.join(name);
        model.save(&path, options.storage)?;
        written.push(path);
    }
    let path = folder.join("open_clip_config.json");
    write_atomically(&path, |file| file.write_all(&json).map_err(|error| Error::io(&path, error)))?;
    written.push(path);
    Ok(written)
}
