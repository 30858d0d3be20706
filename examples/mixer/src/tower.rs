//! The tower, written once for every backend.

use openclip::core::{
    Backend, Error, ExtraTokens, ImageTower, ModelConfig, Result, StageView, Taps, TowerConfig, TowerOutput,
    Weights,
    backend::{Activation, BinaryOp, Conv2dSpec, LinearSpec, NormSpec, Rearrange, ReduceOp},
    nn::check_depth,
};

use crate::MixerConfig;

/// Patches, blocks, and the mean of the tokens.
pub struct Mixer<B: Backend> {
    /// Patches along a side.
    side: usize,
    patches: B::Conv2d,
    blocks: Vec<Block<B>>,
    norm: B::Norm,
    proj: B::Linear,
}

/// A layer that mixes tokens and a layer that mixes channels.
struct Block<B: Backend> {
    name: String,
    norm_tokens: B::Norm,
    mix_tokens: B::Linear,
    norm_channels: B::Norm,
    mix_channels: B::Linear,
}

impl<B: Backend> Mixer<B> {
    /// Reads the tower of `config` below the scope of `w`, which is `visual`.
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let MixerConfig { image_size, patch_size, width, layers } = config.vision_cfg.parse("vision_cfg")?;
        let sizes = [("image_size", image_size), ("patch_size", patch_size), ("width", width)];
        TowerConfig::check_sizes("vision_cfg", &sizes)?;
        check_depth("vision_cfg", layers)?;
        if image_size < patch_size {
            return Err(Error::config("vision_cfg", format!("patches of {patch_size} pixels don't fit")));
        }
        let side = image_size / patch_size;
        let block =
            |index: usize| Block::new(backend, &w.scope(format!("blocks.{index}")), side * side, width);
        Ok(Self {
            side,
            patches: backend
                .prepare_conv2d(&w.scope("patches"), &Conv2dSpec::patches(3, width, [patch_size; 2]))?,
            blocks: (0..layers).map(block).collect::<Result<_>>()?,
            norm: backend.prepare_norm(&w.scope("norm"), &NormSpec::new(width))?,
            proj: backend.prepare_linear(w, &LinearSpec::projection("proj", width, config.embed_dim))?,
        })
    }
}

impl<B: Backend> Block<B> {
    fn new(backend: &B, w: &Weights, tokens: usize, width: usize) -> Result<Self> {
        let norm = |name: &str| backend.prepare_norm(&w.scope(name), &NormSpec::new(width));
        let mix = |name: &str, size: usize| {
            let layer = LinearSpec::new(size, size).activated(Activation::GeluErf);
            backend.prepare_linear(&w.scope(name), &layer)
        };
        Ok(Self {
            name: w.scope_name().to_owned(),
            norm_tokens: norm("norm_tokens")?,
            mix_tokens: mix("mix_tokens", tokens)?,
            norm_channels: norm("norm_channels")?,
            mix_channels: mix("mix_channels", width)?,
        })
    }

    /// `[N, L, width] -> [N, L, width]`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let turned = backend.rearrange(&backend.norm(x, &self.norm_tokens)?, Rearrange::Transpose(1, 2))?;
        let mixed = backend.linear(&turned, &self.mix_tokens)?;
        let mixed = backend.rearrange(&mixed, Rearrange::Transpose(1, 2))?;
        let x = backend.binary(BinaryOp::Add, x, &mixed)?;
        let mixed = backend.linear(&backend.norm(&x, &self.norm_channels)?, &self.mix_channels)?;
        backend.binary(BinaryOp::Add, &x, &mixed)
    }
}

impl<B: Backend> ImageTower<B> for Mixer<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let mut x = backend.rearrange(&backend.conv2d(pixels, &self.patches)?, Rearrange::SpatialToTokens)?;
        for block in &self.blocks {
            x = block.forward(backend, &x)?;
            taps.offer(&block.name, &x);
            taps.offer_stage(&block.name, &x);
        }
        let view = StageView { norm: Some(&self.norm), extra: ExtraTokens::None, grid: Some([self.side; 2]) };
        taps.present(backend, &view)?;
        let tokens = backend.norm(&x, &self.norm)?;
        let pooled = backend.reduce(&tokens, ReduceOp::Mean, 1)?;
        Ok(TowerOutput { pooled: backend.linear(&pooled, &self.proj)?, tokens: Some(tokens) })
    }
}
