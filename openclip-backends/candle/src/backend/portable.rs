//! Operations composed of candle's own: they run on every device, and are what the CPU kernels are compared with.

use candle_core::{D, DType, Tensor};
use openclip_core::backend::{Activation, AttentionSpec, Pool2dSpec, PoolKind};

/// The activation by candle's own operations.
pub fn activate(x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    match activation {
        Activation::GeluErf => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
        Activation::Sigmoid => candle_nn::ops::sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

/// Position of the first of the largest values in each row of `[N, L]` integers.
pub fn first_maximum(values: &Tensor) -> candle_core::Result<Tensor> {
    let (_, length) = values.dims2()?;
    let values = values.to_dtype(DType::I64)?;
    let place = Tensor::arange(0_i64, length as i64, values.device())?;
    let length = Tensor::new(length as i64, values.device())?;
    let key = values.broadcast_mul(&length)?.broadcast_sub(&place)?;
    key.argmax(1)
}

/// Non-overlapping patches as one matrix product: `[N, C, H, W] x [out, C, P, Q] -> [N, out, H/P, W/Q]`.
pub fn patches(x: &Tensor, [patch_y, patch_x]: [usize; 2], weight: &Tensor) -> candle_core::Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (outputs, weight_channels, _, _) = weight.dims4()?;
    let (rows, columns) = (height / patch_y, width / patch_x);
    if channels != weight_channels || rows == 0 || columns == 0 {
        candle_core::bail!(
            "expected dimensions [N, {weight_channels}, >={patch_y}, >={patch_x}], found {:?}",
            x.shape()
        );
    }
    let x = x.narrow(2, 0, rows * patch_y)?.narrow(3, 0, columns * patch_x)?;
    let x = x
        .reshape((batch, channels, rows, patch_y, columns, patch_x))?
        .permute((0, 2, 4, 1, 3, 5))?
        .reshape((batch, rows * columns, channels * patch_y * patch_x))?;
    let weight = weight.reshape((outputs, channels * patch_y * patch_x))?.t()?;
    x.broadcast_matmul(&weight)?.transpose(1, 2)?.reshape((batch, outputs, rows, columns))
}

/// Pooling; windows that reach over the edge aren't computed here.
pub fn pool2d(x: &Tensor, spec: &Pool2dSpec) -> candle_core::Result<Tensor> {
    if spec.padding != [0, 0] {
        candle_core::bail!("windows that reach over the edge, {:?}, on this device", spec.padding);
    }
    let ([kernel_y, kernel_x], [stride_y, stride_x]) = (spec.kernel, spec.stride);
    let (kernel, stride) = ((kernel_y, kernel_x), (stride_y, stride_x));
    match spec.kind {
        PoolKind::Max => x.max_pool2d_with_stride(kernel, stride),
        PoolKind::Average => x.avg_pool2d_with_stride(kernel, stride),
    }
}

/// Attention by candle's own operations.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &AttentionSpec,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let split = |x: &Tensor| {
        let (batch, length, width) = x.dims3()?;
        x.reshape((batch, length, spec.heads, width / spec.heads))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let mut scores = (q.matmul(&k.t()?)? * f64::from(spec.scale))?;
    if let Some(bias) = bias {
        scores = scores.broadcast_add(bias)?;
    }
    if spec.causal {
        let (queries, keys) = (scores.dim(2)?, scores.dim(3)?);
        let mask: Vec<f32> = (0..queries)
            .flat_map(|query| (0..keys).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        scores = scores.broadcast_add(&Tensor::from_vec(mask, (queries, keys), scores.device())?)?;
    }
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    weights.matmul(&v)?.transpose(1, 2)?.flatten_from(2)
}
