//! Model configuration in the reference's own JSON form: `open_clip_config.json` of a checkpoint folder or hub
//! repository, and the bare architecture files of the registry. The tower sections stay untyped here; each
//! architecture family parses its own section into its own struct with [`TowerConfig::parse`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// An architecture: the `model_cfg` section of `open_clip_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Width `D` of the joint embedding space.
    pub embed_dim: usize,
    /// The image tower.
    pub vision_cfg: TowerConfig,
    /// The text tower.
    pub text_cfg: TowerConfig,
    /// The multimodal decoder of CoCa models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multimodal_cfg: Option<TowerConfig>,
    /// QuickGELU instead of GELU in the native towers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quick_gelu: bool,
    /// The checkpoint keeps the text tower under `text.`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub custom_text: bool,
    /// Initial value of `logit_scale` (natural logarithm of the inverse temperature) in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_scale: Option<f32>,
    /// Initial value of `logit_bias` in training; its presence means that the model has one and scores with a sigmoid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f32>,
    /// `logit_scale` and `logit_bias` have shape `[1]` instead of `[]`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nonscalar_logit_scale: bool,
}

/// One tower's section (`vision_cfg`, `text_cfg`, `multimodal_cfg`), as it stands in the JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TowerConfig(pub Map<String, Value>);

impl TowerConfig {
    /// The value of `field`, if the section has it and it isn't `null`.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// Sets or replaces `field`.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.0.insert(field.to_owned(), value.into());
    }

    /// The section as a family's own configuration struct.
    ///
    /// # Errors
    /// [`Error::Config`] naming `section` when a field is unknown, missing or of another type.
    pub fn parse<T: DeserializeOwned>(&self, section: &str) -> Result<T> {
        serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|error| Error::config(section, error.to_string()))
    }
}

/// A whole `open_clip_config.json`: the architecture and how its images are prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointConfig {
    /// The architecture.
    pub model_cfg: ModelConfig,
    /// Image preprocessing; fields that are absent take the reference's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess_cfg: Option<Map<String, Value>>,
}

impl CheckpointConfig {
    /// Reads either form that the reference accepts: `{"model_cfg": .., "preprocess_cfg": ..}` or a bare architecture.
    ///
    /// # Errors
    /// [`Error::Config`] naming `origin` when the text isn't JSON or doesn't describe a model.
    pub fn from_json(origin: &str, text: &str) -> Result<Self> {
        let error = |error: serde_json::Error| Error::config(origin, error.to_string());
        let value: Value = serde_json::from_str(text).map_err(error)?;
        if value.get("model_cfg").is_some() {
            serde_json::from_value(value).map_err(error)
        } else {
            let model_cfg = serde_json::from_value(value).map_err(error)?;
            Ok(Self { model_cfg, preprocess_cfg: None })
        }
    }
}
