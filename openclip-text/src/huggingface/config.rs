//! The `text_cfg` of Hugging Face towers, field by field as the reference has it, and the model's own configuration.

use openclip_core::{Error, ModelConfig, Result, TowerConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::encoder::EncoderConfig;

/// Section name in error messages.
pub(super) const SECTION: &str = "text_cfg";

/// Configuration of a [`HuggingFaceText`](super::HuggingFaceText).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HuggingFaceTextConfig {
    /// The model of the hub whose encoder the tower is.
    pub hf_model_name: String,
    /// The model's own configuration, the hub's config.json. Its fields go before what is known of `hf_model_name`. The
    /// reference gets it from the hub.
    pub hf_model_config: Option<Map<String, Value>>,
    /// In the reference: whether training starts from the hub's weights.
    pub hf_model_pretrained: bool,
    /// `mlp`, `linear`, or null for none.
    pub hf_proj_type: Option<String>,
    /// How tokens become one vector; null for what goes with the kind of model.
    pub hf_pooler_type: Option<String>,
    /// The tokenizer.
    pub hf_tokenizer_name: Option<String>,
    /// See [`TokenizerInfo`](https://docs.rs/openclip-zoo).
    pub tokenizer_mode: Option<String>,
    /// Arguments of the tokenizer.
    pub tokenizer_kwargs: Option<Map<String, Value>>,
    /// Tokens per text.
    pub context_length: usize,
    /// In the reference: tokens are returned beside the embedding. Here they always are.
    pub output_tokens: bool,
    /// The family, where the section names it.
    pub family: Option<String>,
    /// Of native towers, which the reference's one section type has too. Without effect here.
    pub vocab_size: Option<usize>,
    /// See `vocab_size`.
    pub width: Option<usize>,
    /// See `vocab_size`.
    pub heads: Option<usize>,
    /// See `vocab_size`.
    pub layers: Option<usize>,
}

impl Default for HuggingFaceTextConfig {
    fn default() -> Self {
        Self {
            hf_model_name: String::new(),
            hf_model_config: None,
            hf_model_pretrained: true,
            hf_proj_type: Some("mlp".to_owned()),
            hf_pooler_type: Some("mean_pooler".to_owned()),
            hf_tokenizer_name: None,
            tokenizer_mode: None,
            tokenizer_kwargs: None,
            context_length: 77,
            output_tokens: false,
            family: None,
            vocab_size: None,
            width: None,
            heads: None,
            layers: None,
        }
    }
}

/// A model that is known without the hub.
#[derive(Deserialize)]
struct KnownModel {
    /// Other names that the hub has for it.
    also: Vec<String>,
    config: Map<String, Value>,
}

/// What is known of the model `name`, in the form of its config.json.
pub fn known_model(name: &str) -> Option<Map<String, Value>> {
    let models: Map<String, Value> = serde_json::from_str(include_str!("known_models.json")).ok()?;
    models.into_iter().find_map(|(known, model)| {
        let model: KnownModel = serde_json::from_value(model).ok()?;
        (known == name || model.also.iter().any(|other| other == name)).then_some(model.config)
    })
}

impl HuggingFaceTextConfig {
    /// The text section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let this: Self = config.text_cfg.parse(SECTION)?;
        TowerConfig::check_sizes(
            SECTION,
            &[("context_length", this.context_length), ("embed_dim", config.embed_dim)],
        )?;
        Ok(this)
    }

    /// The model's own configuration.
    pub(super) fn encoder(&self) -> Result<EncoderConfig> {
        let known = known_model(&self.hf_model_name);
        let Some(fields) = known.as_ref().or(self.hf_model_config.as_ref()) else {
            let message = format!(
                "`hf_model_name` {:?} is not a model that is known here: put its config.json into `hf_model_config`",
                self.hf_model_name
            );
            return Err(Error::config(SECTION, message));
        };
        let mut fields = fields.clone();
        fields.extend(self.hf_model_config.clone().unwrap_or_default());
        EncoderConfig::read(&fields, self.context_length)
    }
}
