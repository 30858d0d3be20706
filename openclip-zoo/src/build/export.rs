//! Writing a model as ONNX files, with what a program that runs them needs beside them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use openclip_core::{
    CheckpointConfig, Error, Precision, Result, files::write_atomically, weights::WeightSource,
};
use openclip_ort::{OnnxModel, RecordOptions, WeightStorage};

use crate::resolve::{CONFIG_FILE, IMAGE_ONNX, TEXT_ONNX};

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
    /// Element type of weights and arithmetic.
    pub precision: Precision,
}

impl Default for OnnxOptions {
    fn default() -> Self {
        Self { image: true, text: true, storage: WeightStorage::Automatic, precision: Precision::F32 }
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
    let record = RecordOptions { precision: options.precision, taps: None };
    let mut models: Vec<(&str, OnnxModel)> = Vec::new();
    if options.image {
        models.push((IMAGE_ONNX, record_image(families, model_cfg, source, &record)?));
    }
    if options.text {
        models.push((TEXT_ONNX, record_text(families, model_cfg, source, &record)?));
    }
    let json =
        serde_json::to_vec_pretty(config).map_err(|error| Error::config(CONFIG_FILE, error.to_string()))?;
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
    let path = folder.join(CONFIG_FILE);
    write_atomically(&path, |file| file.write_all(&json).map_err(|error| Error::io(&path, error)))?;
    written.push(path);
    Ok(written)
}
