//! Prepared layers: weights on the device in the backend's precision, and what is computed with them.

use openclip_core::backend::{Activation, Conv2dSpec, LinearSpec, NormKind, NormSpec};
use tch::{Kind, Result, Tensor};

use crate::tensor::TchTensor;

/// A linear layer.
pub struct Linear {
    pub(super) spec: LinearSpec,
    /// `[out, in]`, in whichever order of memory the checkpoint has it: libtorch multiplies by both equally fast.
    pub(super) weight: TchTensor,
    /// `[out]`.
    pub(super) bias: Option<TchTensor>,
}

/// A convolution.
pub struct Conv2d {
    pub(super) spec: Conv2dSpec,
    /// `[out, in / groups, kernel_h, kernel_w]`.
    pub(super) weight: TchTensor,
    /// `[out]`.
    pub(super) bias: Option<TchTensor>,
}

/// Normalisation parameters.
pub struct Norm {
    pub(super) spec: NormSpec,
    /// `[features]`.
    pub(super) weight: Option<TchTensor>,
    /// `[features]`.
    pub(super) bias: Option<TchTensor>,
}

/// An embedding table `[count, features]`.
pub struct Embedding {
    pub(super) weight: TchTensor,
}

impl Linear {
    /// `x [.., in] -> [.., out]`, the product in `product`.
    pub fn forward(&self, x: &Tensor, product: Kind) -> Result<Tensor> {
        linear(x, self.weight.inner(), self.bias.as_ref(), self.spec.activation, product)
    }
}

impl Conv2d {
    /// `x [N, C, H, W] -> [N, out, H', W']`, the products in `product`.
    pub fn forward(&self, x: &Tensor, product: Kind) -> Result<Tensor> {
        let Conv2dSpec { kernel, stride, padding, groups, .. } = self.spec;
        if kernel == stride && padding == [0, 0] && groups == 1 {
            return self.patches(x, product);
        }
        let bias = self.bias.as_ref().map(|bias| bias.inner().f_to_kind(product)).transpose()?;
        let y = x.f_to_kind(product)?.f_conv2d(
            &self.weight.inner().f_to_kind(product)?,
            bias,
            stride.map(int),
            padding.map(int),
            [1, 1],
            int(groups),
        )?;
        activated(y, self.spec.activation)?.f_to_kind(x.f_kind()?)
    }

    /// Windows that don't overlap are the rows of a matrix, whose product is faster than libtorch's convolution.
    fn patches(&self, x: &Tensor, product: Kind) -> Result<Tensor> {
        let (batch, channels, height, width) = x.size4()?;
        let [patch_y, patch_x] = self.spec.kernel.map(int);
        let outputs = int(self.spec.out_channels);
        let (rows, columns) = (height / patch_y, width / patch_x);
        let patches = x
            .f_narrow(2, 0, rows * patch_y)?
            .f_narrow(3, 0, columns * patch_x)?
            .f_reshape([batch, channels, rows, patch_y, columns, patch_x])?
            .f_permute([0, 2, 4, 1, 3, 5])?
            .f_reshape([batch, rows * columns, channels * patch_y * patch_x])?;
        let weight = self.weight.inner().f_reshape([outputs, channels * patch_y * patch_x])?;
        linear(&patches, &weight, self.bias.as_ref(), self.spec.activation, product)?
            .f_transpose(1, 2)?
            .f_reshape([batch, outputs, rows, columns])
    }
}

impl Norm {
    /// `x [.., features] -> [.., features]`. libtorch keeps the statistics in `f32` at every precision.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.as_ref().map(TchTensor::inner);
        let bias = self.bias.as_ref().map(TchTensor::inner);
        let features = [int(self.spec.features)];
        match self.spec.kind {
            NormKind::Layer => x.f_layer_norm(features, weight, bias, self.spec.eps, true),
            NormKind::Rms => {
                let y = x.f_rms_norm(features, weight, self.spec.eps)?;
                bias.map_or_else(|| Ok(y.shallow_clone()), |bias| y.f_add(bias))
            }
        }
    }
}

impl Embedding {
    /// `ids [N, L] -> [N, L, features]`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Tensor::f_embedding(self.weight.inner(), ids, -1, false, false)
    }
}

/// `activation(x weight^T + bias)`, in `product` until the result is there.
fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&TchTensor>,
    activation: Option<Activation>,
    product: Kind,
) -> Result<Tensor> {
    let bias = bias.map(|bias| bias.inner().f_to_kind(product)).transpose()?;
    let y = x.f_to_kind(product)?.f_linear(&weight.f_to_kind(product)?, bias)?;
    activated(y, activation)?.f_to_kind(x.f_kind()?)
}

fn activated(x: Tensor, activation: Option<Activation>) -> Result<Tensor> {
    match activation {
        Some(activation) => activate(&x, activation),
        None => Ok(x),
    }
}

/// The activation function. In half precision libtorch computes each of its functions in `f32` and rounds once; QuickGELU,
/// which is three of them, rounds three times, as it does in the reference.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::GeluErf => x.f_gelu("none"),
        Activation::GeluTanh => x.f_gelu("tanh"),
        Activation::QuickGelu => x.f_mul_scalar(1.702)?.f_sigmoid_()?.f_mul_(x),
        Activation::Relu => x.f_relu(),
        Activation::Silu => x.f_silu(),
        Activation::Sigmoid => x.f_sigmoid(),
        Activation::Tanh => x.f_tanh(),
    }
}

/// A size as libtorch takes it. No tensor has an axis that doesn't fit.
pub fn int(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
