//! The `vision_cfg` of modified ResNets.

use openclip_core::{Error, ModelConfig, Result, TowerConfig, nn::check_depth};
use serde::{Deserialize, Serialize};

/// Section name in error messages.
const SECTION: &str = "vision_cfg";

/// Pixels along one side of the image for each place of the last feature map.
pub(super) const REDUCTION: usize = 32;

/// Configuration of a [`ModifiedResNet`](super::ModifiedResNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModifiedResNetConfig {
    /// Bottlenecks in each of the four stages.
    pub layers: Vec<usize>,
    /// Channels behind the stem; the last stage has 32 times as many.
    #[serde(default = "default_width")]
    pub width: usize,
    /// Features of a head of the attention pool; the number of heads is `32 * width / head_width`.
    #[serde(default = "default_head_width")]
    pub head_width: usize,
    /// Height and width of the input in pixels.
    #[serde(default = "default_image_size")]
    pub image_size: usize,
    /// Without effect: the reference's one section type has it.
    #[serde(default)]
    pub patch_size: Option<usize>,
    /// The family, where the section names it.
    #[serde(default)]
    pub family: Option<String>,
}

fn default_width() -> usize {
    64
}

fn default_head_width() -> usize {
    64
}

fn default_image_size() -> usize {
    224
}

impl ModifiedResNetConfig {
    /// The vision section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let this: Self = config.vision_cfg.parse(SECTION)?;
        let sizes = [
            ("width", this.width),
            ("head_width", this.head_width),
            ("image_size", this.image_size),
            ("embed_dim", config.embed_dim),
        ];
        let depths = this.layers.iter().map(|&count| ("layers", count));
        TowerConfig::check_sizes(SECTION, &sizes.into_iter().chain(depths).collect::<Vec<_>>())?;
        check_depth(SECTION, this.layers.iter().fold(0, |sum, &count| sum.saturating_add(count)))?;
        let fail = |message: String| Err(Error::config(SECTION, message));
        if this.layers.len() != 4 {
            return fail(format!("`layers` has {} stages: there have to be 4", this.layers.len()));
        }
        if !this.width.is_multiple_of(2) {
            return fail(format!("`width` is {}: the stem starts with half of it", this.width));
        }
        if !this.features().is_multiple_of(this.head_width) {
            return fail(format!(
                "{} features can't be split into heads of {}",
                this.features(),
                this.head_width
            ));
        }
        if !this.image_size.is_multiple_of(REDUCTION) {
            return fail(format!(
                "`image_size` is {}: it has to be a multiple of {REDUCTION}",
                this.image_size
            ));
        }
        Ok(this)
    }

    /// Channels of the last stage.
    pub fn features(&self) -> usize {
        self.width * 32
    }

    /// Places of the last feature map along one side.
    pub fn grid(&self) -> usize {
        self.image_size / REDUCTION
    }
}
