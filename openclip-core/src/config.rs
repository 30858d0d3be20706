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

    /// Checks that sizes of a section are such that a model of them could exist: from 1 to 2^24. This keeps a damaged or
    /// hostile configuration from overflowing arithmetic or filling the memory before any tensor is looked at.
    ///
    /// # Errors
    /// [`Error::Config`] naming `section` and the field.
    pub fn check_sizes(section: &str, sizes: &[(&str, usize)]) -> Result<()> {
        const LARGEST: usize = 1 << 24;
        match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
            Some((field, size)) => {
                Err(Error::config(section, format!("`{field}` is {size}; it must be from 1 to {LARGEST}")))
            }
            None => Ok(()),
        }
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

/// Changes to a configuration that a user may force, by the reference's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigOverrides {
    /// Another input size; the position embedding is resized.
    #[serde(rename = "force_image_size", skip_serializing_if = "Option::is_none")]
    pub image_size: Option<HeightWidth>,
    /// Another number of tokens per text; the position embedding is resized.
    #[serde(rename = "force_context_length", skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// QuickGELU in the native towers.
    #[serde(rename = "force_quick_gelu", skip_serializing_if = "std::ops::Not::not")]
    pub quick_gelu: bool,
    /// The text tower's parameters under `text.`.
    #[serde(rename = "force_custom_text", skip_serializing_if = "std::ops::Not::not")]
    pub custom_text: bool,
}

impl ConfigOverrides {
    /// Makes the changes.
    pub fn apply(&self, config: &mut ModelConfig) {
        if let Some(HeightWidth { height, width }) = self.image_size {
            config.vision_cfg.set("image_size", vec![height, width]);
        }
        if let Some(context_length) = self.context_length {
            config.text_cfg.set("context_length", context_length);
        }
        config.quick_gelu |= self.quick_gelu;
        config.custom_text |= self.custom_text;
    }
}

/// A height and a width, which JSON may give as one number for both: `224` or `[224, 336]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HeightWidthForm", into = "HeightWidthForm")]
pub struct HeightWidth {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum HeightWidthForm {
    Square(usize),
    Pair([usize; 2]),
}

impl From<HeightWidthForm> for HeightWidth {
    fn from(form: HeightWidthForm) -> Self {
        match form {
            HeightWidthForm::Square(size) => Self::square(size),
            HeightWidthForm::Pair([height, width]) => Self { height, width },
        }
    }
}

impl From<HeightWidth> for HeightWidthForm {
    fn from(size: HeightWidth) -> Self {
        match size {
            HeightWidth { height, width } if height == width => Self::Square(height),
            HeightWidth { height, width } => Self::Pair([height, width]),
        }
    }
}

impl HeightWidth {
    /// Equal height and width.
    pub const fn square(size: usize) -> Self {
        Self { height: size, width: size }
    }

    /// Height and width in this order.
    pub const fn to_array(self) -> [usize; 2] {
        [self.height, self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 64}, "text_cfg": {}}"#;

    #[test]
    fn both_forms_of_the_file_are_read() {
        let bare = CheckpointConfig::from_json("bare", MODEL).unwrap();
        let whole = format!(r#"{{"model_cfg": {MODEL}, "preprocess_cfg": {{"size": 64}}}}"#);
        let whole = CheckpointConfig::from_json("whole", &whole).unwrap();
        assert_eq!(bare.model_cfg, whole.model_cfg);
        assert_eq!(whole.preprocess_cfg.unwrap()["size"], 64);
    }

    #[test]
    fn a_bad_file_is_named() {
        for text in ["", "[]", "{", r#"{"embed_dim": 8}"#, r#"{"model_cfg": {"embed_dim": -1}}"#] {
            let error = CheckpointConfig::from_json("some.json", text).unwrap_err().to_string();
            assert!(error.starts_with("configuration some.json: "), "{error}");
        }
    }

    #[test]
    fn sizes_are_one_number_or_two() {
        let sizes: Vec<HeightWidth> = serde_json::from_str("[224, [224, 336]]").unwrap();
        assert_eq!(sizes, [HeightWidth::square(224), HeightWidth { height: 224, width: 336 }]);
        assert_eq!(serde_json::to_string(&sizes).unwrap(), "[224,[224,336]]");
        assert!(serde_json::from_str::<HeightWidth>("[1, 2, 3]").is_err());
    }
}
