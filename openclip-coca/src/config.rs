//! The `multimodal_cfg` of CoCa models, field by field as the reference has it.

use openclip_core::{
    Error, ModelConfig, Result, TowerConfig,
    nn::{BlockSpec, gelu},
};
use openclip_text::TextTransformerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Section name in error messages.
pub(crate) const SECTION: &str = "multimodal_cfg";

/// Configuration of a [`MultimodalDecoder`](crate::MultimodalDecoder). In the reference the section has all fields of a
/// `text_cfg`; those that aren't named here have no effect in either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MultimodalConfig {
    /// Tokens per text.
    pub context_length: usize,
    /// Features of a token, of text and image alike.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of blocks that attend to the text, and as many that attend to the image.
    pub layers: usize,
    /// Initial value of LayerScale; its presence means that blocks have one.
    pub ls_init_value: Option<f64>,
    /// What has no effect.
    #[serde(flatten)]
    pub ignored: Map<String, Value>,
}

impl Default for MultimodalConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            width: 512,
            heads: 8,
            layers: 12,
            ls_init_value: None,
            ignored: Map::new(),
        }
    }
}

/// Fields of the section that the reference takes and ignores, beside those of a `text_cfg`.
const OWN_FIELDS: [&str; 4] = ["mlp_ratio", "dim_head", "n_queries", "attn_pooler_heads"];

impl MultimodalConfig {
    /// The multimodal section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`], also when `config` has no such section.
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let Some(section) = &config.multimodal_cfg else {
            let message = "the model has no decoder: only CoCa models, whose configuration has a `multimodal_cfg`, \
                           write captions";
            return Err(Error::config(SECTION, message));
        };
        let this: Self = section.parse(SECTION)?;
        let mut others = TowerConfig(this.ignored.clone());
        others.0.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
        others.parse::<TextTransformerConfig>(SECTION)?;
        TowerConfig::check_sizes(
            SECTION,
            &[
                ("context_length", this.context_length),
                ("width", this.width),
                ("layers", this.layers),
                ("embed_dim", config.embed_dim),
            ],
        )?;
        Ok(this)
    }

    /// The decoder's block. Its MLP is four times as wide as its tokens whatever `mlp_ratio` says.
    pub(crate) fn block(&self, quick_gelu: bool) -> Result<BlockSpec> {
        let activation = gelu(SECTION, quick_gelu, None)?;
        let mut block = BlockSpec::new(SECTION, self.width, self.heads, 4.0, activation)?;
        block.layer_scale = self.ls_init_value.is_some();
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use openclip_core::CheckpointConfig;

    use super::*;

    fn of(multimodal_cfg: &str) -> Result<MultimodalConfig> {
        let json = format!(
            r#"{{"embed_dim": 8, "vision_cfg": {{}}, "text_cfg": {{}}, "multimodal_cfg": {multimodal_cfg}}}"#
        );
        MultimodalConfig::of(&CheckpointConfig::from_json("test", &json)?.model_cfg)
    }

    #[test]
    fn fields_without_effect_are_taken_and_others_named() {
        let config = of(r#"{"width": 64, "mlp_ratio": 2, "dim_head": 64, "vocab_size": 9}"#).unwrap();
        assert_eq!((config.width, config.layers, config.context_length), (64, 12, 77));
        for (section, part) in [
            (r#"{"no_such_field": 1}"#, "no_such_field"),
            (r#"{"layers": 0}"#, "`layers` is 0"),
            (r#"{"width": "wide"}"#, "wide"),
            ("null", "has no decoder"),
        ] {
            let error = of(section).unwrap_err().to_string();
            assert!(error.starts_with("configuration multimodal_cfg: ") && error.contains(part), "{error}");
        }
    }
}
