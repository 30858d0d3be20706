//! ViTamin (Chen et al., 2024): two stages of inverted bottlenecks, then a transformer with gated MLPs, whose tokens are
//! averaged.

use openclip_core::{
    Backend, Error, ExtraTokens, Result, StageView, Taps, TowerOutput, Weights,
    backend::{Activation, BinaryOp, Conv2dSpec, LinearSpec, NormSpec, Pool2dSpec, PoolKind, Rearrange},
    nn::{AttentionContext, BlockNames, BlockSpec, Keep, MlpNames, NormOptions, Transformer},
};

use super::{
    config::SECTION,
    pool::Reduction,
    trunk::{Trunk, TrunkOptions},
};

/// What tells ViTamins apart.
#[derive(Debug)]
pub(super) struct VitaminSpec {
    /// Pixels along a side of the image; any size where there is no position table.
    image_size: Option<usize>,
    /// Channels of the stem and the first stage, of the second stage, and features of a token.
    channels: [usize; 3],
    /// Blocks of the transformer.
    depth: usize,
    heads: usize,
}

const fn small(channels: usize, heads: usize) -> VitaminSpec {
    let channels = [channels, 2 * channels, 6 * channels];
    VitaminSpec { image_size: Some(224), channels, depth: 14, heads }
}

const fn large(image_size: usize) -> VitaminSpec {
    VitaminSpec { image_size: Some(image_size), channels: [160, 320, 1024], depth: 31, heads: 16 }
}

const XLARGE: VitaminSpec =
    VitaminSpec { image_size: None, channels: [192, 384, 1152], depth: 32, heads: 16 };

/// The architectures by timm's names.
pub(super) const ARCHITECTURES: &[(&str, VitaminSpec)] = &[
    ("vitamin_small_224", small(64, 6)),
    ("vitamin_base_224", small(128, 12)),
    ("vitamin_large_224", large(224)),
    ("vitamin_large_256", large(256)),
    ("vitamin_large_336", large(336)),
    ("vitamin_large_384", large(384)),
    ("vitamin_large2_224", large(224)),
    ("vitamin_large2_256", large(256)),
    ("vitamin_large2_336", large(336)),
    ("vitamin_large2_384", large(384)),
    ("vitamin_xlarge_256", XLARGE),
    ("vitamin_xlarge_336", XLARGE),
    ("vitamin_xlarge_384", XLARGE),
];

/// Inverted bottlenecks of each of the two stages.
const STAGES: [usize; 2] = [2, 4];
/// Epsilon of the norms.
const EPSILON: f64 = 1e-6;
/// Channels in the middle of an inverted bottleneck over those of its output.
const EXPANSION: usize = 4;
/// Pixels along a side for each token.
const REDUCTION: usize = 16;

impl VitaminSpec {
    /// Features of a token.
    pub(super) fn features(&self) -> usize {
        self.channels[2]
    }
}

fn layer_norm(features: usize) -> NormSpec {
    NormSpec { eps: EPSILON, ..NormSpec::new(features) }
}

/// A convolution of 3 x 3 places.
fn spatial(from: usize, to: usize, stride: usize) -> Conv2dSpec {
    Conv2dSpec { stride: [stride; 2], padding: [1; 2], ..Conv2dSpec::new(from, to, [3; 2]) }
}

/// A ViTamin.
pub(super) struct Vitamin<B: Backend> {
    conv1: B::Conv2d,
    norm1: ChannelNorm<B>,
    conv2: B::Conv2d,
    bottlenecks: Vec<Bottleneck<B>>,
    pool_norm: ChannelNorm<B>,
    pool: B::Conv2d,
    patch_name: String,
    positions: Option<B::Tensor>,
    position_name: String,
    blocks: Transformer<B>,
    reduction: Reduction,
    norm: B::Norm,
    classifier: Option<B::Linear>,
}

/// A norm over the channels of a map.
struct ChannelNorm<B: Backend>(B::Norm);

impl<B: Backend> ChannelNorm<B> {
    fn new(backend: &B, w: &Weights, channels: usize) -> Result<Self> {
        backend.prepare_norm(w, &layer_norm(channels)).map(Self)
    }

    /// `[N, C, H, W] -> [N, C, H, W]`.
    fn forward(&self, backend: &B, x: &B::Tensor, grid: [usize; 2]) -> Result<B::Tensor> {
        let [height, width] = grid;
        let tokens = backend.norm(&backend.rearrange(x, Rearrange::SpatialToTokens)?, &self.0)?;
        backend.rearrange(&tokens, Rearrange::TokensToSpatial { height, width })
    }
}

/// An inverted bottleneck (Sandler et al., 2018).
struct Bottleneck<B: Backend> {
    name: String,
    /// Rows and columns of its input.
    grid: [usize; 2],
    shortcut: Shortcut<B>,
    norm: ChannelNorm<B>,
    expand: B::Conv2d,
    spatial: B::Conv2d,
    project: B::Conv2d,
}

/// What stands beside a bottleneck.
enum Shortcut<B: Backend> {
    Identity,
    /// The mean of windows, at half the resolution.
    Halved,
    /// The same with other channels.
    Widened(B::Conv2d),
}

/// What the parameters of a block are called: timm's names, but for those of the gated MLP.
const BLOCK_NAMES: BlockNames = BlockNames {
    fc: MlpNames { input_norm: "norm", hidden: "w0", gate: "w1", norm: "", output: "w2" },
    ..BlockNames::TIMM
};

/// A block of the transformer: its MLP is gated, with a norm of its own behind the block's.
fn block_spec(width: usize, heads: usize) -> Result<BlockSpec> {
    let mut block = BlockSpec::new(SECTION, width, heads, 2.0, Activation::GeluErf)?.named(BLOCK_NAMES);
    block.attention.norm = NormOptions { eps: EPSILON, ..NormOptions::default() };
    (block.mlp.gated, block.mlp.input_norm) = (true, true);
    Ok(block)
}

impl<B: Backend> Vitamin<B> {
    /// Reads a trunk below the scope of `w`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        spec: &VitaminSpec,
        options: &TrunkOptions<'_>,
    ) -> Result<Self> {
        let reduction = Reduction::of(options.config)?;
        let size = options.config.image_size.to_array();
        if let Some(own) = spec.image_size.filter(|&own| size != [own; 2]) {
            return Err(Error::config(
                SECTION,
                format!("`image_size` is {size:?}: the trunk takes {own} pixels"),
            ));
        }
        let [first, second, width] = spec.channels;
        let embed = w.scope("patch_embed.backbone");
        let halved = |grid: [usize; 2]| grid.map(|places| places.div_ceil(2));
        let mut grid = halved(size);
        let mut from = first;
        let mut bottlenecks = Vec::new();
        for (stage, (depth, to)) in STAGES.into_iter().zip([first, second]).enumerate() {
            for block in 0..depth {
                let w = embed.scope(format!("stages.{stage}.{block}"));
                bottlenecks.push(Bottleneck::new(backend, &w, [from, to], block == 0, grid)?);
                grid = if block == 0 { halved(grid) } else { grid };
                from = to;
            }
        }
        let positions = |own: usize| {
            let tokens = (own / REDUCTION) * (own / REDUCTION);
            backend.param(w, "pos_embed", &[1, tokens, width])
        };
        let classifier = |classes| {
            backend.prepare_linear(&w.scope("head"), &LinearSpec::new(width, classes).unquantized())
        };
        Ok(Self {
            conv1: backend.prepare_conv2d(&embed.scope("stem.conv1"), &spatial(3, first, 2))?,
            norm1: ChannelNorm::new(backend, &embed.scope("stem.norm1"), first)?,
            conv2: backend.prepare_conv2d(&embed.scope("stem.conv2"), &spatial(first, first, 1))?,
            bottlenecks,
            pool_norm: ChannelNorm::new(backend, &embed.scope("pool.norm"), second)?,
            pool: backend.prepare_conv2d(&embed.scope("pool.proj"), &spatial(second, width, 2))?,
            patch_name: w.path("patch_embed"),
            positions: spec.image_size.map(positions).transpose()?,
            position_name: w.path("pos_embed"),
            blocks: Transformer::new(
                backend,
                &w.scope("blocks"),
                spec.depth,
                &block_spec(width, spec.heads)?,
            )?,
            reduction,
            norm: backend.prepare_norm(&w.scope("fc_norm"), &layer_norm(width))?,
            classifier: options.classes.map(classifier).transpose()?,
        })
    }
}

impl<B: Backend> Trunk<B> for Vitamin<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let x = backend.conv2d(pixels, &self.conv1)?;
        let x =
            self.norm1.forward(backend, &x, self.bottlenecks.first().map_or([0; 2], |first| first.grid))?;
        let mut x = backend.conv2d(&backend.activate(&x, Activation::GeluErf)?, &self.conv2)?;
        let mut grid = [0; 2];
        for bottleneck in &self.bottlenecks {
            x = bottleneck.forward(backend, &x)?;
            grid = bottleneck.grid_of_output();
            taps.offer(&bottleneck.name, &x);
        }
        let x = backend.conv2d(&self.pool_norm.forward(backend, &x, grid)?, &self.pool)?;
        let mut x = backend.rearrange(&x, Rearrange::SpatialToTokens)?;
        taps.offer(&self.patch_name, &x);
        if let Some(positions) = &self.positions {
            x = backend.binary(BinaryOp::Add, &x, positions)?;
        }
        taps.offer(&self.position_name, &x);
        let x = self.blocks.forward(backend, x, &AttentionContext::NONE, &Keep::All, taps)?;
        taps.present(
            backend,
            &StageView {
                norm: None,
                extra: ExtraTokens::None,
                grid: Some(grid.map(|places| places.div_ceil(2))),
            },
        )?;
        let pooled = backend.norm(&self.reduction.forward(backend, &x)?, &self.norm)?;
        let pooled = match &self.classifier {
            Some(classifier) => backend.linear(&pooled, classifier)?,
            None => pooled,
        };
        Ok(TowerOutput { pooled, tokens: Some(x) })
    }
}

impl<B: Backend> Bottleneck<B> {
    /// Reads a bottleneck, the first of a stage where it is `halving` the resolution of `grid`.
    fn new(
        backend: &B,
        w: &Weights,
        [from, to]: [usize; 2],
        halving: bool,
        grid: [usize; 2],
    ) -> Result<Self> {
        let middle = EXPANSION * to;
        let conv = |name: &str, spec: Conv2dSpec| backend.prepare_conv2d(&w.scope(name), &spec);
        let pointwise = |from, to| Conv2dSpec::new(from, to, [1; 2]);
        let by_channel =
            Conv2dSpec { groups: middle, ..spatial(middle, middle, if halving { 2 } else { 1 }) };
        Ok(Self {
            name: w.scope_name().to_owned(),
            grid,
            shortcut: match (halving, from == to) {
                (false, _) => Shortcut::Identity,
                (true, true) => Shortcut::Halved,
                (true, false) => Shortcut::Widened(conv("shortcut.expand", pointwise(from, to))?),
            },
            norm: ChannelNorm::new(backend, &w.scope("pre_norm"), from)?,
            expand: conv("conv1_1x1", pointwise(from, middle).activated(Activation::GeluErf))?,
            spatial: conv("conv2_kxk", by_channel.activated(Activation::GeluErf))?,
            project: conv("conv3_1x1", pointwise(middle, to))?,
        })
    }

    fn grid_of_output(&self) -> [usize; 2] {
        match self.shortcut {
            Shortcut::Identity => self.grid,
            Shortcut::Halved | Shortcut::Widened(_) => self.grid.map(|places| places.div_ceil(2)),
        }
    }

    /// `[N, C, H, W] -> [N, D, H', W']`.
    fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let mean = Pool2dSpec { kind: PoolKind::Average, kernel: [3; 2], stride: [2; 2], padding: [1; 2] };
        let shortcut = match &self.shortcut {
            Shortcut::Identity => x.clone(),
            Shortcut::Halved => backend.pool2d(x, &mean)?,
            Shortcut::Widened(conv) => backend.conv2d(&backend.pool2d(x, &mean)?, conv)?,
        };
        let mut branch = self.norm.forward(backend, x, self.grid)?;
        for conv in [&self.expand, &self.spatial, &self.project] {
            branch = backend.conv2d(&branch, conv)?;
        }
        backend.binary(BinaryOp::Add, &branch, &shortcut)
    }
}
