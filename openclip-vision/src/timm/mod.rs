//! Image towers whose trunk is a model of timm: the trunk below `visual.trunk`, the projection below `visual.head`.
//!
//! A kind of trunk (ConvNeXt, FastViT, ..) is a module here, and its architectures are a table in it, by timm's names.

mod config;
mod convnext;
mod fastvit;
mod head;
mod pool;
mod rope;
mod swin;
mod transformer;
mod trunk;
mod vitamin;

pub use config::{ActivationLayer, Projection, TimmConfig};
use head::Head;
use openclip_core::{
    Backend, ImageFamily, ImageInfo, ImageTower, ModelConfig, Result, Taps, TowerConfig, TowerOutput, Weights,
};
use pool::MapAttention;
use trunk::{Trunk, TrunkOptions, TrunkSpec};

/// The family of timm's trunks: every `vision_cfg` with a `timm_model_name`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimmFamily;

impl ImageFamily for TimmFamily {
    fn name(&self) -> &'static str {
        "timm"
    }

    fn accepts(&self, vision_cfg: &TowerConfig) -> bool {
        match vision_cfg.get("family") {
            Some(family) => family.as_str() == Some(self.name()),
            None => vision_cfg.get("timm_model_name").is_some_and(|name| !name.is_null()),
        }
    }

    fn info(&self, config: &ModelConfig) -> Result<ImageInfo> {
        let vision = TimmConfig::of(config)?;
        Ok(ImageInfo { image_size: vision.image_size.to_array(), embed_dim: config.embed_dim })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn ImageTower<B>>> {
        Ok(Box::new(TimmTower::new(backend, config, w)?))
    }
}

/// A trunk and its projection.
pub struct TimmTower<B: Backend> {
    trunk: Box<dyn Trunk<B>>,
    head: Head<B>,
}

impl<B: Backend> TimmTower<B> {
    /// Reads the tower of `config` below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Config`](openclip_core::Error::Config), [`Error::Weights`](openclip_core::Error::Weights).
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let vision = TimmConfig::of(config)?;
        let spec = TrunkSpec::named(&vision.timm_model_name)?;
        let embed_dim = config.embed_dim;
        let pools = MapAttention::named(&vision.timm_pool).is_none();
        let classes = (vision.timm_proj == Projection::Classifier && pools).then_some(embed_dim);
        let options = TrunkOptions { config: &vision, classes };
        Ok(Self {
            trunk: spec.build(backend, &w.scope("trunk"), &options)?,
            head: Head::new(backend, &w.scope("head"), &vision, &spec, embed_dim)?,
        })
    }
}

impl<B: Backend> ImageTower<B> for TimmTower<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let TowerOutput { pooled, tokens } = self.trunk.forward(backend, pixels, taps)?;
        Ok(TowerOutput { pooled: self.head.forward(backend, pooled)?, tokens })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openclip_core::{
        CheckpointConfig, Dim, DisplayDims, Symbol,
        backend::{ShapeBackend, ShapeTensor},
        weights::synth::SynthesisedWeights,
    };

    use super::*;

    /// Dimensions of the embedding, names of the parameters below `visual.`, and what the tower offers, for a batch of
    /// unknown size.
    fn dimensions(vision_cfg: &str) -> Result<(String, Vec<String>, Vec<String>)> {
        let json = format!(r#"{{"embed_dim": 24, "text_cfg": {{}}, "vision_cfg": {vision_cfg}}}"#);
        let config = CheckpointConfig::from_json("test", &json)?.model_cfg;
        assert!(TimmFamily.accepts(&config.vision_cfg));
        let [height, width] = TimmFamily.info(&config)?.image_size;
        let w = Weights::new(Arc::new(SynthesisedWeights::new())).scope("visual");
        let tower = TimmFamily.build(&ShapeBackend, &config, &w)?;
        let pixels = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), 3.into(), height.into(), width.into()]);
        let mut taps = Taps::everything();
        let pooled = tower.forward(&ShapeBackend, &pixels, &mut taps)?.pooled;
        let show = |tensor: &ShapeTensor| DisplayDims(&tensor.0).to_string();
        let taps = taps.into_found()?.into_iter().map(|(name, tensor)| format!("{name} {}", show(&tensor)));
        let names = w.requests().into_iter().map(|(name, _)| name);
        Ok((show(&pooled), names.collect(), taps.collect()))
    }

    #[test]
    fn the_batch_size_is_never_read() {
        let (pooled, _, taps) =
            dimensions(r#"{"timm_model_name": "convnext_tiny", "timm_pool": "", "image_size": [64, 96]}"#)
                .unwrap();
        assert_eq!(pooled, "[batch, 24]");
        assert_eq!(
            taps[..2],
            ["visual.trunk.stem [batch, 384, 96]", "visual.trunk.stages.0.blocks.0 [batch, 384, 96]"]
        );
        assert_eq!(taps.last().unwrap(), "visual.trunk.stages.3.blocks.2 [batch, 6, 768]");
    }

    #[test]
    fn every_kind_of_trunk_gives_an_embedding() {
        for (name, size, last) in [
            ("convnext_xxlarge", 64, "visual.trunk.stages.3.blocks.2 [batch, 4, 3072]"),
            ("fastvit_mci0", 256, "visual.trunk.final_conv [batch, 1024, 8, 8]"),
            ("fastvit_mci3", 250, "visual.trunk.final_conv [batch, 3072, 4, 4]"),
            ("swin_base_patch4_window7_224", 224, "visual.trunk.layers.3.blocks.1 [batch, 49, 1024]"),
            ("vitamin_small_224", 224, "visual.trunk.blocks.13 [batch, 196, 384]"),
            ("vitamin_xlarge_384", 256, "visual.trunk.blocks.31 [batch, 256, 1152]"),
        ] {
            for proj in ["null", "\"linear\""] {
                let (pooled, _, taps) = dimensions(&format!(
                    r#"{{"timm_model_name": "{name}", "timm_proj": {proj}, "image_size": {size}}}"#
                ))
                .unwrap();
                assert_eq!((pooled.as_str(), taps.last().unwrap().as_str()), ("[batch, 24]", last));
            }
        }
    }

    #[test]
    fn the_projection_is_what_timm_proj_says() {
        for (proj, expected) in [
            (r#""linear""#, &["visual.head.proj.weight"][..]),
            (r#""linear", "timm_proj_bias": true"#, &["visual.head.proj.weight", "visual.head.proj.bias"]),
            (
                r#""mlp""#,
                &["visual.head.mlp.fc1.weight", "visual.head.mlp.fc1.bias", "visual.head.mlp.fc2.weight"],
            ),
            ("null", &["visual.trunk.head.fc.weight", "visual.trunk.head.fc.bias"]),
            (r#""""#, &["visual.trunk.head.fc.weight", "visual.trunk.head.fc.bias"]),
        ] {
            let (pooled, names, _) =
                dimensions(&format!(r#"{{"timm_model_name": "convnext_tiny", "timm_proj": {proj}}}"#))
                    .unwrap();
            let head: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| name.contains("head.")).collect();
            let head: Vec<&str> = head.into_iter().filter(|name| !name.contains("head.norm")).collect();
            assert_eq!((head.as_slice(), pooled.as_str()), (expected, "[batch, 24]"));
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (fields, part) in [
            (r#""timm_model_name": "convnext_nano""#, "convnext_nano"),
            (r#""timm_model_name": "convnext_tiny", "no_such_field": 1"#, "no_such_field"),
            (r#""timm_model_name": "convnext_tiny", "timm_proj": "none""#, "768 features"),
            (r#""timm_model_name": "convnext_tiny", "timm_proj": "conv""#, "conv"),
            (
                r#""timm_model_name": "convnext_tiny", "timm_pool": "token""#,
                "pooled by avg, max, avgmax, abs_attn, rot_attn",
            ),
            (r#""timm_model_name": "convnext_tiny", "timm_pool": "", "timm_proj": """#, "`timm_pool` is ``"),
            (
                r#""timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "abs_attn""#,
                "pooled by token, map, avg, max, avgmax",
            ),
            (
                r#""timm_model_name": "swin_base_patch4_window7_224", "timm_pool": "rot_attn""#,
                "pooled by avg, max, avgmax",
            ),
            (
                r#""timm_model_name": "convnext_tiny", "timm_act_layer": "gelu_tanh""#,
                "`timm_act_layer` is given",
            ),
            (r#""timm_model_name": "vit_base_patch16_siglip_224", "timm_act_layer": "relu""#, "relu"),
            (r#""timm_model_name": "convnext_tiny", "image_size": 31"#, "[31, 31]"),
            (r#""timm_model_name": "convnext_tiny", "image_size": 0"#, "`image_size`"),
            (r#""timm_model_name": "fastvit_mci0", "timm_pool": "map""#, "pooled by avg, max"),
            (r#""timm_model_name": "vitamin_small_224", "image_size": 256"#, "takes 224 pixels"),
            (r#""timm_model_name": "swin_base_patch4_window7_224", "image_size": 256"#, "takes 224 pixels"),
        ] {
            let error = dimensions(&format!("{{{fields}}}")).unwrap_err().to_string();
            assert!(error.starts_with("configuration vision_cfg: ") && error.contains(part), "{error}");
        }
    }
}
