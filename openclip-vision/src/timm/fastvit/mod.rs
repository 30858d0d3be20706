//! FastViT (Vasu et al., 2023) as the MobileCLIPs have it: convolutions that were several in training, a squeeze and
//! excitation here and there, and attention at the lowest resolutions.
//!
//! Checkpoints hold the branches of training; they are summed when they are read ([`ConvBranch`]).

mod block;
mod layers;

use block::Block;
use layers::{Downsample, MobileOne, SqueezeExcite, depthwise, mobile_one};
use openclip_core::{
    Backend, Result, StageView, Taps, TowerOutput, Weights,
    backend::{Activation, Conv2dSpec, ConvBranch, LinearSpec, Rearrange},
};

use super::{
    pool::MapPool,
    trunk::{Trunk, TrunkOptions},
};

/// What tells FastViTs apart.
#[derive(Debug)]
pub(super) struct FastVitSpec {
    /// Stages from the highest resolution down.
    stages: &'static [StageSpec],
    /// Hidden channels of an MLP over its channels.
    mlp_ratio: usize,
    /// The norm before attention.
    norm: NormKind,
    /// Whether the stem's convolutions were trained with a branch of single places.
    stem_scale: bool,
}

/// A stage.
#[derive(Debug)]
struct StageSpec {
    depth: usize,
    channels: usize,
    /// Squeeze and excitation in the step to the stage's resolution.
    excited: bool,
    /// Attention, with positions before the first block, in place of mixing by convolutions.
    attention: bool,
}

/// A norm over channels.
#[derive(Clone, Copy, Debug)]
enum NormKind {
    Batch,
    Layer,
}

const fn stage(depth: usize, channels: usize, excited: bool, attention: bool) -> StageSpec {
    StageSpec { depth, channels, excited, attention }
}

const fn small(stages: &'static [StageSpec]) -> FastVitSpec {
    FastVitSpec { stages, mlp_ratio: 3, norm: NormKind::Batch, stem_scale: true }
}

const fn large(stages: &'static [StageSpec]) -> FastVitSpec {
    FastVitSpec { stages, mlp_ratio: 4, norm: NormKind::Layer, stem_scale: false }
}

/// The architectures by timm's names.
pub(super) const ARCHITECTURES: &[(&str, FastVitSpec)] = &[
    (
        "fastvit_mci0",
        small(&[
            stage(2, 64, false, false),
            stage(6, 128, false, false),
            stage(10, 256, true, false),
            stage(2, 512, true, true),
        ]),
    ),
    (
        "fastvit_mci1",
        small(&[
            stage(4, 64, false, false),
            stage(12, 128, false, false),
            stage(20, 256, true, false),
            stage(4, 512, true, true),
        ]),
    ),
    (
        "fastvit_mci2",
        small(&[
            stage(4, 80, false, false),
            stage(12, 160, false, false),
            stage(24, 320, true, false),
            stage(4, 640, true, true),
        ]),
    ),
    (
        "fastvit_mci3",
        large(&[
            stage(2, 96, false, false),
            stage(12, 192, false, false),
            stage(24, 384, false, false),
            stage(4, 768, false, true),
            stage(2, 1536, false, true),
        ]),
    ),
    (
        "fastvit_mci4",
        large(&[
            stage(2, 128, false, false),
            stage(12, 256, false, false),
            stage(24, 512, false, false),
            stage(4, 1024, false, true),
            stage(4, 2048, false, true),
        ]),
    ),
];

impl FastVitSpec {
    /// Channels behind the last convolution.
    pub(super) fn features(&self) -> usize {
        2 * self.stages.last().map_or(0, |stage| stage.channels)
    }

    /// Rows and columns of the last feature map: two convolutions of the stem and one between any two stages halve it.
    pub(super) fn grid(&self, image_size: [usize; 2]) -> [usize; 2] {
        image_size.map(|size| (0..=self.stages.len()).fold(size, |size, _| size.div_ceil(2)))
    }
}

/// A FastViT.
pub(super) struct FastVit<B: Backend> {
    stem: [B::Conv2d; 3],
    stem_name: String,
    stages: Vec<Stage<B>>,
    final_conv: B::Conv2d,
    final_excite: SqueezeExcite<B>,
    final_name: String,
    pool: MapPool,
    classifier: Option<B::Linear>,
}

/// Blocks at one resolution.
struct Stage<B: Backend> {
    name: String,
    downsample: Option<Downsample<B>>,
    positions: Option<B::Conv2d>,
    blocks: Vec<Block<B>>,
}

impl<B: Backend> FastVit<B> {
    /// Reads a trunk below the scope of `w`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        spec: &FastVitSpec,
        options: &TrunkOptions<'_>,
    ) -> Result<Self> {
        let pool = MapPool::of(options.config)?;
        let first = spec.stages.first().map_or(0, |stage| stage.channels);
        let stem = |index: usize, conv: Conv2dSpec, branches: MobileOne| {
            let conv = mobile_one(conv, branches).activated(Activation::GeluErf);
            backend.prepare_conv2d(&w.scope(format!("stem.{index}")), &conv)
        };
        let halving = |conv: Conv2dSpec| Conv2dSpec { stride: [2; 2], padding: [1; 2], ..conv };
        let step = MobileOne { identity: false, scale: spec.stem_scale };
        let (features, from) = (spec.features(), spec.features() / 2);
        let final_conv =
            Conv2dSpec { padding: [1; 2], groups: from, ..Conv2dSpec::new(from, features, [3; 2]) };
        let classifier = |classes| {
            let layer = LinearSpec::new(features, classes).unquantized();
            backend.prepare_linear(&w.scope("head.fc"), &layer)
        };
        let mut below = None;
        let stages = spec.stages.iter().enumerate().map(|(index, stage)| {
            let from = below.replace(stage.channels);
            Stage::new(backend, &w.scope(format!("stages.{index}")), spec, stage, from)
        });
        Ok(Self {
            stages: stages.collect::<Result<_>>()?,
            stem: [
                stem(0, halving(Conv2dSpec::new(3, first, [3; 2])), step)?,
                stem(1, halving(depthwise(first, 3)), step)?,
                stem(2, Conv2dSpec::new(first, first, [1; 2]), MobileOne { identity: true, scale: false })?,
            ],
            stem_name: w.path("stem"),
            final_conv: backend.prepare_conv2d(
                &w.scope("final_conv"),
                &mobile_one(final_conv, MobileOne { identity: false, scale: true }),
            )?,
            final_excite: SqueezeExcite::new(backend, &w.scope("final_conv.se"), features, features / 16)?,
            final_name: w.path("final_conv"),
            pool,
            classifier: options.classes.map(classifier).transpose()?,
        })
    }
}

impl<B: Backend> Stage<B> {
    /// Reads the blocks of a stage, and the step from the channels of the stage `below`.
    fn new(
        backend: &B,
        w: &Weights,
        spec: &FastVitSpec,
        stage: &StageSpec,
        below: Option<usize>,
    ) -> Result<Self> {
        let channels = stage.channels;
        let downsample =
            |from| Downsample::new(backend, &w.scope("downsample.proj"), from, channels, stage.excited);
        // Positions follow from what stands around a place (Chu et al., 2021).
        let positions = depthwise(channels, 7)
            .summed([ConvBranch::conv("pos_enc", [7; 2]).biased(), ConvBranch::identity()]);
        let block = |index: usize| Block::new(backend, &w.scope(format!("blocks.{index}")), spec, stage);
        Ok(Self {
            name: w.scope_name().to_owned(),
            downsample: below.map(downsample).transpose()?,
            positions: match stage.attention {
                true => Some(backend.prepare_conv2d(&w.scope("pos_emb"), &positions)?),
                false => None,
            },
            blocks: (0..stage.depth).map(block).collect::<Result<_>>()?,
        })
    }
}

impl<B: Backend> Trunk<B> for FastVit<B> {
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
        taps.offer(&self.stem_name, &x);
        for Stage { name, downsample, positions, blocks } in &self.stages {
            if let Some(downsample) = downsample {
                x = downsample.forward(backend, &x)?;
            }
            if let Some(positions) = positions {
                x = backend.conv2d(&x, positions)?;
            }
            for block in blocks {
                x = block.forward(backend, x)?;
                taps.offer(block.name(), &x);
            }
            taps.offer_stage(name, &x);
            taps.present(backend, &StageView::MAPS)?;
        }
        let x = self.final_excite.forward(backend, &backend.conv2d(&x, &self.final_conv)?)?;
        let x = backend.activate(&x, Activation::GeluErf)?;
        taps.offer(&self.final_name, &x);
        let tokens = backend.rearrange(&x, Rearrange::SpatialToTokens)?;
        let pooled = self.pool.forward(backend, &tokens)?;
        let pooled = match &self.classifier {
            Some(classifier) => backend.linear(&pooled, classifier)?,
            None => pooled,
        };
        Ok(TowerOutput { pooled, tokens: Some(tokens) })
    }
}
