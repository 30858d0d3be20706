//! From pixels to patches.

use openclip_core::{
    Backend, Result, Weights,
    backend::{Activation, BatchNormSpec, Conv2dSpec},
};

use super::spec::TransformerSpec;

/// How an image becomes patches.
#[derive(Clone, Copy, Debug)]
pub(super) enum StemKind {
    /// One convolution.
    Patches,
    /// Three convolutions of non-overlapping windows, the first two with batch normalisation and GELU (MobileCLIP-B).
    Convolutions,
}

/// The convolutions, one after another: `[N, 3, H, W] -> [N, width, rows, columns]`.
pub(super) struct Stem<B: Backend> {
    convolutions: Vec<B::Conv2d>,
}

impl<B: Backend> Stem<B> {
    /// Reads the stem below the scope of `w`.
    pub(super) fn new(backend: &B, w: &Weights, spec: &TransformerSpec) -> Result<Self> {
        let (width, patch) = (spec.width, spec.patch);
        let convolutions = match spec.stem {
            StemKind::Patches => {
                let patches = Conv2dSpec::patches(3, width, [patch; 2]);
                let patches = Conv2dSpec { bias: !spec.pre_norm, ..patches };
                vec![backend.prepare_conv2d(&w.scope("proj"), &patches)?]
            }
            StemKind::Convolutions => {
                let conv = |index: usize, spec: Conv2dSpec| {
                    backend.prepare_conv2d(&w.scope(format!("backbone.{index}.conv")), &spec)
                };
                let quarter = width / 4;
                let normed = |from: usize, size: usize| {
                    Conv2dSpec::patches(from, quarter, [size; 2])
                        .normed(BatchNormSpec::new("bn"))
                        .activated(Activation::GeluErf)
                };
                let last = Conv2dSpec { bias: true, ..Conv2dSpec::patches(quarter, width, [2; 2]) };
                vec![conv(0, normed(3, patch / 4))?, conv(1, normed(quarter, 2))?, conv(2, last)?]
            }
        };
        Ok(Self { convolutions })
    }

    pub(super) fn forward(&self, backend: &B, pixels: &B::Tensor) -> Result<B::Tensor> {
        self.convolutions.iter().try_fold(pixels.clone(), |x, conv| backend.conv2d(&x, conv))
    }
}
