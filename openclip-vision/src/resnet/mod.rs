//! The modified ResNet of CLIP (Radford et al., 2021, section 2.4): a stem of three convolutions, average pooling before
//! every step, and attention in place of the global average pool. Batch normalisation is part of the convolutions.

mod bottleneck;
mod config;

use bottleneck::{Bottleneck, EXPANSION, average};
pub use config::ModifiedResNetConfig;
use openclip_core::{
    Backend, ImageFamily, ImageInfo, ImageTower, ModelConfig, Result, StageView, Taps, TowerConfig,
    TowerOutput, Weights,
    backend::{Activation, BatchNormSpec, Conv2dSpec, Rearrange},
};

use crate::attention_pool::{AttentionPool2d, AttentionPool2dSpec, Positions, Projections};

/// The family of modified ResNets: every `vision_cfg` that gives its number of layers stage by stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModifiedResNetFamily;

impl ImageFamily for ModifiedResNetFamily {
    fn name(&self) -> &'static str {
        "resnet"
    }

    fn accepts(&self, vision_cfg: &TowerConfig) -> bool {
        match vision_cfg.get("family") {
            Some(family) => family.as_str() == Some(self.name()),
            None => {
                vision_cfg.get("timm_model_name").is_none()
                    && vision_cfg.get("layers").is_some_and(|layers| layers.is_array())
            }
        }
    }

    fn info(&self, config: &ModelConfig) -> Result<ImageInfo> {
        let vision = ModifiedResNetConfig::of(config)?;
        Ok(ImageInfo { image_size: [vision.image_size; 2], embed_dim: config.embed_dim })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn ImageTower<B>>> {
        Ok(Box::new(ModifiedResNet::new(backend, config, w)?))
    }
}

/// A modified ResNet.
pub struct ModifiedResNet<B: Backend> {
    stem_name: String,
    stem: [B::Conv2d; 3],
    /// The four stages with their names.
    layers: Vec<(String, Vec<Bottleneck<B>>)>,
    attnpool: AttentionPool2d<B>,
}

impl<B: Backend> ModifiedResNet<B> {
    /// Reads the tower of `config` below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Config`](openclip_core::Error::Config), [`Error::Weights`](openclip_core::Error::Weights).
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let vision = ModifiedResNetConfig::of(config)?;
        let (width, features) = (vision.width, vision.features());
        let stem = |index: usize, from: usize, to: usize, stride: usize| {
            let spec =
                Conv2dSpec { padding: [1; 2], stride: [stride; 2], ..Conv2dSpec::new(from, to, [3, 3]) };
            let spec = spec.normed(BatchNormSpec::new(format!("bn{index}"))).activated(Activation::Relu);
            backend.prepare_conv2d(&w.scope(format!("conv{index}")), &spec)
        };
        let mut layers = Vec::new();
        let mut in_channels = width;
        for (stage, &count) in vision.layers.iter().enumerate() {
            let channels = width << stage;
            let mut layer = Vec::new();
            for block in 0..count {
                let w = w.scope(format!("layer{}.{block}", stage + 1));
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                layer.push(Bottleneck::new(backend, &w, in_channels, channels, stride)?);
                in_channels = channels * EXPANSION;
            }
            layers.push((w.path(&format!("layer{}", stage + 1)), layer));
        }
        Ok(Self {
            stem_name: w.path("avgpool"),
            stem: [
                stem(1, 3, width / 2, 2)?,
                stem(2, width / 2, width / 2, 1)?,
                stem(3, width / 2, width, 1)?,
            ],
            layers,
            attnpool: AttentionPool2d::new(
                backend,
                &w.scope("attnpool"),
                &AttentionPool2dSpec {
                    grid: [vision.grid(); 2],
                    features,
                    heads: features / vision.head_width,
                    out_features: config.embed_dim,
                    positions: Positions::Learned("positional_embedding"),
                    projections: Projections::Apart,
                },
            )?,
        })
    }
}

impl<B: Backend> ImageTower<B> for ModifiedResNet<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let mut x = pixels.clone();
        for conv in &self.stem {
            x = backend.conv2d(&x, conv)?;
        }
        x = backend.pool2d(&x, &average(2))?;
        taps.offer(&self.stem_name, &x);
        taps.offer_stage(&self.stem_name, &x);
        for (name, blocks) in &self.layers {
            for block in blocks {
                x = block.forward(backend, &x)?;
                taps.offer(block.name(), &x);
            }
            taps.offer_stage(name, &x);
        }
        taps.present(backend, &StageView::MAPS)?;
        let places = backend.rearrange(&x, Rearrange::SpatialToTokens)?;
        Ok(TowerOutput { pooled: self.attnpool.forward(backend, &places)?, tokens: None })
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

    /// Dimensions of the embedding and of what the tower offers, for a batch of unknown size.
    fn dimensions(vision_cfg: &str) -> Result<(String, Vec<String>)> {
        let json = format!(r#"{{"embed_dim": 24, "text_cfg": {{}}, "vision_cfg": {vision_cfg}}}"#);
        let config = CheckpointConfig::from_json("test", &json)?.model_cfg;
        assert!(ModifiedResNetFamily.accepts(&config.vision_cfg));
        let [height, width] = ModifiedResNetFamily.info(&config)?.image_size;
        let w = Weights::new(Arc::new(SynthesisedWeights::new())).scope("visual");
        let tower = ModifiedResNetFamily.build(&ShapeBackend, &config, &w)?;
        let pixels = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), 3.into(), height.into(), width.into()]);
        let mut taps = Taps::everything();
        let pooled = tower.forward(&ShapeBackend, &pixels, &mut taps)?.pooled;
        let show = |tensor: &ShapeTensor| DisplayDims(&tensor.0).to_string();
        let taps = taps.into_found()?.into_iter().map(|(name, tensor)| format!("{name} {}", show(&tensor)));
        Ok((show(&pooled), taps.collect()))
    }

    #[test]
    fn resolution_falls_and_channels_grow_stage_by_stage() {
        let (pooled, taps) =
            dimensions(r#"{"layers": [1, 2, 1, 1], "width": 8, "head_width": 16, "image_size": 64}"#)
                .unwrap();
        assert_eq!(pooled, "[batch, 24]");
        assert_eq!(
            taps,
            [
                "visual.avgpool [batch, 8, 16, 16]",
                "visual.layer1.0 [batch, 32, 16, 16]",
                "visual.layer2.0 [batch, 64, 8, 8]",
                "visual.layer2.1 [batch, 64, 8, 8]",
                "visual.layer3.0 [batch, 128, 4, 4]",
                "visual.layer4.0 [batch, 256, 2, 2]",
            ]
        );
    }

    #[test]
    fn contradictions_are_named() {
        for (vision_cfg, part) in [
            (r#"{"layers": [1, 1, 1]}"#, "layers"),
            (r#"{"layers": [1, 1, 0, 1]}"#, "`layers` is 0"),
            (r#"{"layers": [1, 16000000, 1, 1]}"#, "16000003 layers are too many"),
            (r#"{"layers": [1, 1, 1, 1], "width": 7}"#, "`width` is 7"),
            (r#"{"layers": [1, 1, 1, 1], "head_width": 60}"#, "heads of 60"),
            (r#"{"layers": [1, 1, 1, 1], "image_size": 100}"#, "multiple of 32"),
            (r#"{"layers": [1, 1, 1, 1], "mlp_rate": 4.0}"#, "mlp_rate"),
        ] {
            let error = dimensions(vision_cfg).unwrap_err().to_string();
            assert!(error.starts_with("configuration vision_cfg: ") && error.contains(part), "{error}");
        }
    }
}
