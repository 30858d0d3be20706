//! Folders and repositories as Hugging Face transformers saves them: `config.json` and `preprocessor_config.json` of a `CLIPModel` or a
//! `SiglipModel` become the reference's configuration. Every field either is taken over, or has no influence on
//! embeddings, or is refused by name.

mod fields;
mod model;
mod processor;
mod tokenizer;

use std::path::Path;

use openclip_core::{CheckpointConfig, Error};
use serde_json::{Map, Value};

use crate::Result;

/// The file that says what model the weights are.
pub(super) const MODEL_FILE: &str = "config.json";
/// The file that says how its images are prepared.
const PROCESSOR_FILE: &str = "preprocessor_config.json";

/// The files that may hold the weights.
pub(super) const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// The models that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Clip,
    Siglip,
}

/// The files beside [`MODEL_FILE`] that [`read_config`] looks at, where they are there.
pub(super) fn other_files() -> impl Iterator<Item = &'static str> {
    [PROCESSOR_FILE].into_iter().chain(tokenizer::FILES)
}

/// The configuration of the model in `folder`, if transformers saved one there, and what error messages call it. A
/// tokenizer that came with it is called `name`.
///
/// # Errors
/// [`Error::Config`] naming the file and field for a model that isn't one of [`Kind`], or that the reference's
/// architectures can't express; [`Error::Io`].
pub(super) fn read_config(folder: &Path, name: &str) -> Result<Option<(String, CheckpointConfig)>> {
    let path = folder.join(MODEL_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let (origin, config) = read(&path)?;
    let kind = match config.get("model_type").and_then(Value::as_str) {
        Some("clip") => Kind::Clip,
        Some("siglip") => Kind::Siglip,
        Some(other) => {
            let message = format!(
                "`model_type` is `{other}`; of transformers' models `clip` and `siglip` can be read (which the \
                 fixed-resolution models of SigLIP 2 are, too)"
            );
            return Err(Error::config(origin, message).into());
        }
        None => {
            return Err(
                Error::config(origin, "it has no `model_type`, so it isn't known what model it is").into()
            );
        }
    };
    let (mut model_cfg, image_size) = model::convert(&origin, kind, config)?;
    tokenizer::choose(folder, name, kind, &mut model_cfg.text_cfg)?;
    let path = folder.join(PROCESSOR_FILE);
    if !path.is_file() {
        let message =
            format!("the folder has no {PROCESSOR_FILE} beside it, which says how images are prepared");
        return Err(Error::config(origin, message).into());
    }
    let (processor, config) = read(&path)?;
    let preprocess_cfg = Some(processor::convert(&processor, kind, config, image_size)?);
    Ok(Some((origin, CheckpointConfig { model_cfg, preprocess_cfg })))
}

/// A JSON object, and what error messages call its file.
fn read(path: &Path) -> Result<(String, Map<String, Value>)> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let object = serde_json::from_str(&text).map_err(|error| Error::config(&origin, error.to_string()))?;
    Ok((origin, object))
}
