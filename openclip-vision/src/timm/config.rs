//! The `vision_cfg` of timm's trunks, field by field as the reference has it.

use openclip_core::{Error, HeightWidth, ModelConfig, Result, TowerConfig};
use serde::{Deserialize, Serialize};

/// Section name in error messages.
pub(super) const SECTION: &str = "vision_cfg";

/// Configuration of a [`TimmTower`](super::TimmTower).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimmConfig {
    /// The trunk's name in timm.
    pub timm_model_name: String,
    /// Height and width of the input in pixels.
    #[serde(default = "default_image_size")]
    pub image_size: HeightWidth,
    /// What the trunk's features are pooled by; the trunk's own way where it is empty.
    #[serde(default = "default_pool")]
    pub timm_pool: String,
    /// What projects pooled features into the joint space.
    #[serde(default = "default_proj", deserialize_with = "proj")]
    pub timm_proj: Projection,
    /// Whether the last layer of the projection has a bias.
    #[serde(default)]
    pub timm_proj_bias: bool,
    /// Dropout before the projection; inert in inference.
    #[serde(default)]
    pub timm_drop: f64,
    /// Share of residual branches left out in training; inert in inference.
    #[serde(default)]
    pub timm_drop_path: Option<f64>,
    /// Whether training starts from timm's own weights; inert in inference.
    #[serde(default)]
    pub timm_model_pretrained: bool,
    /// Share of patches dropped in training; inert in inference.
    #[serde(default)]
    pub patch_dropout: f64,
    /// Another activation of a transformer's blocks than the trunk's own, by timm's name. The reference has no such field:
    /// models of other programs can differ from the trunks that they are otherwise equal to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timm_act_layer: Option<ActivationLayer>,
    /// The family, where the section names it.
    #[serde(default)]
    pub family: Option<String>,
}

/// `timm_act_layer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationLayer {
    /// GELU.
    Gelu,
    /// The approximation of GELU by tanh.
    GeluTanh,
}

/// `timm_proj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// The trunk's own classifier, with as many classes as the joint space has dimensions.
    #[serde(rename = "")]
    Classifier,
    /// A linear layer.
    Linear,
    /// A layer twice as wide as the joint space, GELU, and a linear layer.
    Mlp,
    /// Nothing: the joint space is the trunk's own.
    None,
}

fn default_image_size() -> HeightWidth {
    HeightWidth::square(224)
}

fn default_pool() -> String {
    "avg".to_owned()
}

fn default_proj() -> Projection {
    Projection::Linear
}

/// Null and an empty string both stand for the trunk's classifier.
fn proj<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Projection, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(Projection::Classifier))
}

impl TimmConfig {
    /// The vision section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let this: Self = config.vision_cfg.parse(SECTION)?;
        let sizes = [
            ("image_size", this.image_size.height),
            ("image_size", this.image_size.width),
            ("embed_dim", config.embed_dim),
        ];
        TowerConfig::check_sizes(SECTION, &sizes)?;
        Ok(this)
    }

    /// Whether the trunk is built for `timm_pool`, as timm builds it where its own classifier is the projection or nothing is.
    /// Otherwise the pool is exchanged afterwards.
    pub(super) fn is_built_for_pool(&self) -> bool {
        matches!(self.timm_proj, Projection::Classifier | Projection::None)
    }

    /// An error for a `timm_pool` that the trunk doesn't have, which has `pools`.
    pub(super) fn unknown_pool(&self, pools: &[&str]) -> Error {
        let message = format!(
            "`timm_pool` is `{}`: `{}` can be pooled by {}",
            self.timm_pool,
            self.timm_model_name,
            pools.join(", ")
        );
        Error::config(SECTION, message)
    }
}
