//! An MLP-Mixer (Tolstikhin et al., 2021) as the image tower of an OpenCLIP model: a family of architectures that OpenCLIP
//! doesn't have, added from outside.

mod tower;

use openclip::{
    core::{Backend, CheckpointConfig, ImageFamily, ImageInfo, ImageTower, ModelConfig, Result, Weights},
    zoo::{Registry, build::Families},
};
use serde::Deserialize;
use tower::Mixer;

/// The `vision_cfg` of a mixer.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct MixerConfig {
    /// Pixels along a side.
    pub image_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// Features of a token.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
}

/// The family of mixers: every `vision_cfg` with `"family": "mixer"`.
pub struct MixerFamily;

impl ImageFamily for MixerFamily {
    fn name(&self) -> &'static str {
        "mixer"
    }

    fn info(&self, config: &ModelConfig) -> Result<ImageInfo> {
        let mixer: MixerConfig = config.vision_cfg.parse("vision_cfg")?;
        Ok(ImageInfo { image_size: [mixer.image_size; 2], embed_dim: config.embed_dim })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn ImageTower<B>>> {
        Ok(Box::new(Mixer::new(backend, config, w)?))
    }
}

/// OpenCLIP's families and the mixer.
pub fn families() -> Families {
    let mut families = Families::default();
    families.register_image(MixerFamily);
    families
}

/// OpenCLIP's models and the architecture `mixer`.
///
/// # Errors
/// When the configuration can't be read.
pub fn registry() -> openclip::Result<Registry> {
    let config = CheckpointConfig::from_json("mixer.json", include_str!("mixer.json"))?;
    let mut registry = Registry::bundled();
    registry.add_architecture("mixer", config.model_cfg)?;
    Ok(registry)
}
