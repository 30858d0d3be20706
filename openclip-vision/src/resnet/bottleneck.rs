//! The bottleneck of modified ResNets.

use openclip_core::{
    Backend, Result, Weights,
    backend::{Activation, BatchNormSpec, BinaryOp, Conv2dSpec, Pool2dSpec, PoolKind},
};

/// Channels of a bottleneck's output over those in its middle.
pub(super) const EXPANSION: usize = 4;

/// Three convolutions beside a shortcut. Steps are taken by average pooling, not by the convolutions.
pub(super) struct Bottleneck<B: Backend> {
    name: String,
    conv1: B::Conv2d,
    conv2: B::Conv2d,
    conv3: B::Conv2d,
    pool: Option<Pool2dSpec>,
    downsample: Option<B::Conv2d>,
}

impl<B: Backend> Bottleneck<B> {
    /// Reads `conv1`, `bn1` to `conv3`, `bn3` and, where resolution or channels change, `downsample`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        in_channels: usize,
        channels: usize,
        stride: usize,
    ) -> Result<Self> {
        let out_channels = channels * EXPANSION;
        let conv = |name: &str, norm: &str, spec: Conv2dSpec| {
            backend.prepare_conv2d(&w.scope(name), &spec.normed(BatchNormSpec::new(norm)))
        };
        let pointwise = |from, to| Conv2dSpec::new(from, to, [1, 1]);
        let spatial = Conv2dSpec { padding: [1, 1], ..Conv2dSpec::new(channels, channels, [3, 3]) };
        let downsample = match stride > 1 || in_channels != out_channels {
            true => Some(conv("downsample.0", "1", pointwise(in_channels, out_channels))?),
            false => None,
        };
        Ok(Self {
            name: w.scope_name().to_owned(),
            conv1: conv("conv1", "bn1", pointwise(in_channels, channels).activated(Activation::Relu))?,
            conv2: conv("conv2", "bn2", spatial.activated(Activation::Relu))?,
            conv3: conv("conv3", "bn3", pointwise(channels, out_channels))?,
            pool: (stride > 1).then_some(average(stride)),
            downsample,
        })
    }

    /// What its output is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `[N, C, H, W] -> [N, 4 * channels, H / stride, W / stride]`.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let pooled = |x: B::Tensor| match &self.pool {
            Some(pool) => backend.pool2d(&x, pool),
            None => Ok(x),
        };
        let branch = backend.conv2d(&backend.conv2d(x, &self.conv1)?, &self.conv2)?;
        let branch = backend.conv2d(&pooled(branch)?, &self.conv3)?;
        let shortcut = match &self.downsample {
            Some(conv) => backend.conv2d(&pooled(x.clone())?, conv)?,
            None => x.clone(),
        };
        backend.activate(&backend.binary(BinaryOp::Add, &branch, &shortcut)?, Activation::Relu)
    }
}

/// The mean of windows that don't overlap.
pub(super) fn average(size: usize) -> Pool2dSpec {
    Pool2dSpec { kind: PoolKind::Average, kernel: [size; 2], stride: [size; 2], padding: [0; 2] }
}
