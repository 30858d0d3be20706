//! ConvNeXt (Liu et al., 2022): stages of depthwise convolutions and channel MLPs at falling resolution.
//!
//! Between convolutions, feature maps are tokens `[N, H*W, C]`: norms and linear layers work on the channels.

use openclip_core::{
    Backend, Error, ExtraTokens, Result, StageView, Taps, TowerOutput, Weights,
    backend::{Activation, Conv2dSpec, LinearSpec, NormSpec, Rearrange},
};

use super::{
    config::SECTION,
    pool::MapPool,
    trunk::{Trunk, TrunkOptions},
};

/// What tells ConvNeXts apart.
#[derive(Debug)]
pub(super) struct ConvNextSpec {
    /// Blocks of each stage.
    depths: [usize; 4],
    /// Channels of each stage.
    channels: [usize; 4],
    /// Epsilon of the norms.
    eps: f64,
    /// Places along a side of the last map at the image size that timm has the architecture for.
    own_grid: usize,
}

const fn spec(depths: [usize; 4], first: usize, eps: f64, own_grid: usize) -> ConvNextSpec {
    ConvNextSpec { depths, channels: [first, 2 * first, 4 * first, 8 * first], eps, own_grid }
}

/// The architectures by timm's names.
pub(super) const ARCHITECTURES: &[(&str, ConvNextSpec)] = &[
    ("convnext_tiny", spec([3, 3, 9, 3], 96, 1e-6, 7)),
    ("convnext_small", spec([3, 3, 27, 3], 96, 1e-6, 7)),
    ("convnext_base", spec([3, 3, 27, 3], 128, 1e-6, 7)),
    ("convnext_large", spec([3, 3, 27, 3], 192, 1e-6, 7)),
    ("convnext_xlarge", spec([3, 3, 27, 3], 256, 1e-6, 7)),
    ("convnext_xxlarge", spec([3, 4, 30, 3], 384, 1e-5, 8)),
];

/// Pixels along a side of a patch of the stem.
const PATCH: usize = 4;
/// Places along a side of the depthwise convolutions.
const KERNEL: usize = 7;

impl ConvNextSpec {
    /// Channels of the last stage.
    pub(super) fn features(&self) -> usize {
        self.channels[3]
    }

    /// Rows and columns of the last feature map.
    pub(super) fn grid(image_size: [usize; 2]) -> [usize; 2] {
        image_size.map(|size| size / PATCH / 8)
    }

    /// Places along a side of the map that timm's weights are for.
    pub(super) fn own_grid(&self) -> usize {
        self.own_grid
    }

    fn norm(&self, features: usize) -> NormSpec {
        NormSpec { eps: self.eps, ..NormSpec::new(features) }
    }
}

/// A ConvNeXt.
pub(super) struct ConvNext<B: Backend> {
    stem: B::Conv2d,
    stem_norm: B::Norm,
    stem_name: String,
    stages: Vec<Stage<B>>,
    pool: MapPool,
    norm: B::Norm,
    classifier: Option<B::Linear>,
}

/// Blocks at one resolution.
struct Stage<B: Backend> {
    name: String,
    downsample: Option<Downsample<B>>,
    blocks: Vec<Block<B>>,
    /// Rows and columns of the feature map.
    grid: [usize; 2],
}

/// A step to half the resolution, from `grid`.
struct Downsample<B: Backend> {
    norm: B::Norm,
    conv: B::Conv2d,
    grid: [usize; 2],
}

/// A depthwise convolution and a channel MLP beside a shortcut.
struct Block<B: Backend> {
    name: String,
    conv_dw: B::Conv2d,
    norm: B::Norm,
    fc1: B::Linear,
    /// Its output multiplied by `gamma`.
    fc2: B::Linear,
}

impl<B: Backend> ConvNext<B> {
    /// Reads a trunk below the scope of `w`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        spec: &ConvNextSpec,
        options: &TrunkOptions<'_>,
    ) -> Result<Self> {
        let pool = MapPool::of(options.config)?;
        let mut grid = options.config.image_size.to_array().map(|size| size / PATCH);
        let mut stages = Vec::with_capacity(spec.depths.len());
        let mut below = None;
        for (index, (&depth, &channels)) in spec.depths.iter().zip(&spec.channels).enumerate() {
            let w = w.scope(format!("stages.{index}"));
            let downsample = match below {
                Some(from) => {
                    Some(Downsample::new(backend, &w.scope("downsample"), spec, from, channels, grid)?)
                }
                None => None,
            };
            if downsample.is_some() {
                grid = grid.map(|places| places / 2);
            }
            let block =
                |block: usize| Block::new(backend, &w.scope(format!("blocks.{block}")), spec, channels);
            stages.push(Stage {
                name: w.scope_name().to_owned(),
                downsample,
                blocks: (0..depth).map(block).collect::<Result<_>>()?,
                grid,
            });
            below = Some(channels);
        }
        if grid.contains(&0) {
            let size = options.config.image_size.to_array();
            return Err(Error::config(
                SECTION,
                format!("`image_size` {size:?} leaves nothing of the feature map"),
            ));
        }
        let stem = Conv2dSpec { bias: true, ..Conv2dSpec::patches(3, spec.channels[0], [PATCH; 2]) };
        let classifier = |classes| {
            let layer = LinearSpec::new(spec.features(), classes).unquantized();
            backend.prepare_linear(&w.scope("head.fc"), &layer)
        };
        Ok(Self {
            stem: backend.prepare_conv2d(&w.scope("stem.0"), &stem)?,
            stem_norm: backend.prepare_norm(&w.scope("stem.1"), &spec.norm(spec.channels[0]))?,
            stem_name: w.path("stem"),
            stages,
            pool,
            norm: backend.prepare_norm(&w.scope("head.norm"), &spec.norm(spec.features()))?,
            classifier: options.classes.map(classifier).transpose()?,
        })
    }
}

impl<B: Backend> Trunk<B> for ConvNext<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let x = backend.rearrange(&backend.conv2d(pixels, &self.stem)?, Rearrange::SpatialToTokens)?;
        let mut x = backend.norm(&x, &self.stem_norm)?;
        taps.offer(&self.stem_name, &x);
        for &Stage { ref name, ref downsample, ref blocks, grid } in &self.stages {
            if let Some(downsample) = downsample {
                x = downsample.forward(backend, &x)?;
            }
            for block in blocks {
                x = block.forward(backend, &x, grid)?;
                taps.offer(&block.name, &x);
            }
            taps.offer_stage(name, &x);
            taps.present(backend, &StageView { norm: None, extra: ExtraTokens::None, grid: Some(grid) })?;
        }
        let pooled = backend.norm(&self.pool.forward(backend, &x)?, &self.norm)?;
        let pooled = match &self.classifier {
            Some(classifier) => backend.linear(&pooled, classifier)?,
            None => pooled,
        };
        Ok(TowerOutput { pooled, tokens: Some(x) })
    }
}

impl<B: Backend> Downsample<B> {
    /// Reads the norm `0` and the convolution `1`.
    fn new(
        backend: &B,
        w: &Weights,
        spec: &ConvNextSpec,
        from: usize,
        to: usize,
        grid: [usize; 2],
    ) -> Result<Self> {
        let conv = Conv2dSpec { bias: true, ..Conv2dSpec::patches(from, to, [2; 2]) };
        Ok(Self {
            norm: backend.prepare_norm(&w.scope("0"), &spec.norm(from))?,
            conv: backend.prepare_conv2d(&w.scope("1"), &conv)?,
            grid,
        })
    }

    /// `[N, H*W, C] -> [N, H/2 * W/2, D]`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let [height, width] = self.grid;
        let x = backend.norm(x, &self.norm)?;
        let x = backend.rearrange(&x, Rearrange::TokensToSpatial { height, width })?;
        backend.rearrange(&backend.conv2d(&x, &self.conv)?, Rearrange::SpatialToTokens)
    }
}

impl<B: Backend> Block<B> {
    fn new(backend: &B, w: &Weights, spec: &ConvNextSpec, channels: usize) -> Result<Self> {
        let hidden = 4 * channels;
        let conv_dw = Conv2dSpec {
            padding: [KERNEL / 2; 2],
            groups: channels,
            ..Conv2dSpec::new(channels, channels, [KERNEL; 2])
        };
        let fc1 = LinearSpec::new(channels, hidden).activated(Activation::GeluErf);
        let fc2 = LinearSpec::new(hidden, channels).within("mlp.fc2").scaled(Some("gamma"));
        Ok(Self {
            name: w.scope_name().to_owned(),
            conv_dw: backend.prepare_conv2d(&w.scope("conv_dw"), &conv_dw)?,
            norm: backend.prepare_norm(&w.scope("norm"), &spec.norm(channels))?,
            fc1: backend.prepare_linear(&w.scope("mlp.fc1"), &fc1)?,
            fc2: backend.prepare_linear(w, &fc2)?,
        })
    }

    /// `[N, H*W, C] -> [N, H*W, C]`.
    fn forward(&self, backend: &B, x: &B::Tensor, [height, width]: [usize; 2]) -> Result<B::Tensor> {
        let map = backend.rearrange(x, Rearrange::TokensToSpatial { height, width })?;
        let mixed = backend.rearrange(&backend.conv2d(&map, &self.conv_dw)?, Rearrange::SpatialToTokens)?;
        backend.residual_mlp(x, &mixed, &self.norm, &self.fc1, &self.fc2)
    }
}
