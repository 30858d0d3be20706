//! The configuration of the model that a Hugging Face text tower is: what the reference asks the hub for when it builds one.

use std::path::Path;

use openclip_core::ModelConfig;
use openclip_text::huggingface::known_model;
use serde_json::{Map, Value};

use super::{Origin, ResolvedModel, Resolver};
use crate::Result;
use crate::hub::HubFile;

/// The hub's name for such a configuration.
const FILE: &str = "config.json";
/// Where it stands in a `text_cfg`.
const FIELD: &str = "hf_model_config";

impl Resolver<'_> {
    /// Puts the configuration of `model`'s text encoder into its own, where it isn't there and isn't known anyway: from the
    /// model's folder, else from the hub. A model that can't be had is reported when the text tower is built; images don't
    /// need it.
    pub(super) fn complete_text_model(&self, model: &mut ResolvedModel) -> Result<()> {
        let Some(name) = missing(&model.config.model_cfg) else { return Ok(()) };
        let folder = match &model.origin {
            Origin::Local(path) if path.is_dir() => Some(path.as_path()),
            Origin::Local(path) => path.parent(),
            _ => None,
        };
        let found = match folder.map(|folder| folder.join(FILE)).filter(|path| path.is_file()) {
            Some(path) => Some(path),
            None => match HubFile::new(&name, FILE).and_then(|file| self.hub.fetch(&file)) {
                Ok(path) => Some(path),
                Err(error) => {
                    tracing::warn!(model = name, %error, "the configuration of the text tower's model isn't there");
                    None
                }
            },
        };
        if let Some(path) = found {
            let fields = read(&path)?;
            model.config.model_cfg.text_cfg.set(FIELD, fields);
        }
        Ok(())
    }
}

/// The model whose configuration isn't known.
fn missing(config: &ModelConfig) -> Option<String> {
    let text = &config.text_cfg;
    let name = text.get("hf_model_name")?.as_str()?;
    (text.get(FIELD).is_none() && known_model(name).is_none()).then(|| name.to_owned())
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(|error| openclip_core::Error::io(path, error))?;
    let damaged = |error: serde_json::Error| {
        openclip_core::Error::config(path.display().to_string(), error.to_string())
    };
    Ok(serde_json::from_str(&text).map_err(damaged)?)
}
