//! Convolutions of several branches, squeeze and excitation, and the step between stages.

use openclip_core::{
    Backend, Result, Weights,
    backend::{Activation, BinaryOp, Conv2dSpec, ConvBranch, Rearrange, ReduceOp},
};

/// A convolution of each channel by itself in windows of `side` places, at full resolution.
pub(super) fn depthwise(channels: usize, side: usize) -> Conv2dSpec {
    Conv2dSpec { padding: [side / 2; 2], groups: channels, ..Conv2dSpec::new(channels, channels, [side; 2]) }
}

/// The branches of a convolution of MobileOne (Vasu et al., 2023) beside `conv_kxk.0`.
#[derive(Clone, Copy)]
pub(super) struct MobileOne {
    /// The input itself, normalised.
    pub(super) identity: bool,
    /// A convolution of single places.
    pub(super) scale: bool,
}

/// `conv` with the weights of its branches.
pub(super) fn mobile_one(conv: Conv2dSpec, MobileOne { identity, scale }: MobileOne) -> Conv2dSpec {
    let kernel = conv.kernel;
    let branches = [
        Some(normed_conv("conv_kxk.0", kernel)),
        scale.then(|| normed_conv("conv_scale", [1; 2])),
        identity.then(|| ConvBranch::identity().normed("identity")),
    ];
    conv.summed(branches.into_iter().flatten())
}

/// The convolution `conv` and the batch normalisation `bn` below `scope`.
pub(super) fn normed_conv(scope: &str, kernel: [usize; 2]) -> ConvBranch {
    ConvBranch::conv(format!("{scope}.conv"), kernel).normed(format!("{scope}.bn"))
}

/// Channels weighted by what the whole map shows (Hu et al., 2018).
pub(super) struct SqueezeExcite<B: Backend> {
    fc1: B::Conv2d,
    fc2: B::Conv2d,
}

impl<B: Backend> SqueezeExcite<B> {
    /// Reads `fc1` from `channels` to `hidden` channels, and `fc2` back.
    pub(super) fn new(backend: &B, w: &Weights, channels: usize, hidden: usize) -> Result<Self> {
        let conv = |name: &str, from, to, activation| {
            let spec = Conv2dSpec::new(from, to, [1; 2]).activated(activation);
            backend.prepare_conv2d(&w.scope(name), &spec)
        };
        Ok(Self {
            fc1: conv("fc1", channels, hidden, Activation::Relu)?,
            fc2: conv("fc2", hidden, channels, Activation::Sigmoid)?,
        })
    }

    /// `[N, C, H, W] -> [N, C, H, W]`.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let places = backend.rearrange(x, Rearrange::SpatialToTokens)?;
        let mut mean = backend.reduce(&places, ReduceOp::Mean, 1)?;
        for axis in [2, 3] {
            mean = backend.rearrange(&mean, Rearrange::Unsqueeze(axis))?;
        }
        let gate = backend.conv2d(&backend.conv2d(&mean, &self.fc1)?, &self.fc2)?;
        backend.binary(BinaryOp::Mul, x, &gate)
    }
}

/// A step to half the resolution: a wide depthwise convolution, then one over channels.
pub(super) struct Downsample<B: Backend> {
    spatial: B::Conv2d,
    excite: Option<SqueezeExcite<B>>,
    pointwise: B::Conv2d,
}

impl<B: Backend> Downsample<B> {
    /// Reads `0.large_conv`, `0.small_conv`, `0.se` and `1`.
    pub(super) fn new(backend: &B, w: &Weights, from: usize, to: usize, excited: bool) -> Result<Self> {
        let spatial =
            Conv2dSpec { stride: [2; 2], padding: [3; 2], groups: from, ..Conv2dSpec::new(from, to, [7; 2]) };
        let spatial = spatial.summed([normed_conv("large_conv", [7; 2]), normed_conv("small_conv", [3; 2])]);
        let pointwise =
            mobile_one(Conv2dSpec::new(to, to, [1; 2]), MobileOne { identity: true, scale: false });
        let excite = || {
            // A quarter, rounded to a multiple of eight.
            let hidden = ((to / 4 + 4) / 8 * 8).max(8);
            SqueezeExcite::new(backend, &w.scope("0.se"), to, hidden)
        };
        Ok(Self {
            spatial: backend.prepare_conv2d(&w.scope("0"), &spatial)?,
            excite: if excited { Some(excite()?) } else { None },
            pointwise: backend.prepare_conv2d(&w.scope("1"), &pointwise.activated(Activation::GeluErf))?,
        })
    }

    /// `[N, C, H, W] -> [N, D, H / 2, W / 2]`.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let mut x = backend.conv2d(x, &self.spatial)?;
        if let Some(excite) = &self.excite {
            x = excite.forward(backend, &x)?;
        }
        let x = backend.activate(&x, Activation::GeluErf)?;
        backend.conv2d(&x, &self.pointwise)
    }
}
