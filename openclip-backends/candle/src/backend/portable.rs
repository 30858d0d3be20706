//! Operations composed of candle's own: they run on every device, and are what the CPU kernels are compared with.

use candle_core::{DType, Tensor};
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
    rows_times(&x, &weight)?.transpose(1, 2)?.reshape((batch, outputs, rows, columns))
}

/// `[.., K] x [K, N] -> [.., N]` as one product: candle's product of a batch would copy the matrix for each of its inputs.
pub fn rows_times(x: &Tensor, matrix: &Tensor) -> candle_core::Result<Tensor> {
    let (depth, columns) = matrix.dims2()?;
    let mut dims = x.dims().to_vec();
    match dims.last_mut() {
        Some(last) if *last == depth => *last = columns,
        _ => candle_core::bail!("expected dimensions [.., {depth}], found {:?}", x.shape()),
    }
    let rows = dims.iter().rev().skip(1).product::<usize>();
    x.contiguous()?.reshape((rows, depth))?.matmul(matrix)?.reshape(dims)
}

/// Pooling. Only places of the map count.
pub fn pool2d(x: &Tensor, spec: &Pool2dSpec) -> candle_core::Result<Tensor> {
    let ([kernel_y, kernel_x], [stride_y, stride_x]) = (spec.kernel, spec.stride);
    let (kernel, stride) = ((kernel_y, kernel_x), (stride_y, stride_x));
    match spec.kind {
        PoolKind::Max => framed(x, spec.padding, f32::NEG_INFINITY)?.max_pool2d_with_stride(kernel, stride),
        PoolKind::Average => {
            let mean = |x: &Tensor| framed(x, spec.padding, 0.0)?.avg_pool2d_with_stride(kernel, stride);
            if spec.padding == [0, 0] {
                return mean(x);
            }
            // The mean of ones is the share of a window that lies on the map.
            let (_, _, height, width) = x.dims4()?;
            mean(x)?.broadcast_div(&mean(&Tensor::ones((1, 1, height, width), x.dtype(), x.device())?)?)
        }
    }
}

/// A feature map `[N, C, H, W]` with rows and columns of `value` around it.
fn framed(x: &Tensor, padding: [usize; 2], value: f32) -> candle_core::Result<Tensor> {
    let mut framed = x.clone();
    for (axis, width) in [2, 3].into_iter().zip(padding).filter(|&(_, width)| width > 0) {
        let mut dims = framed.dims().to_vec();
        dims[axis] = width;
        let edge = Tensor::full(value, dims, x.device())?;
        framed = Tensor::cat(&[&edge, &framed, &edge], axis)?;
    }
    Ok(framed)
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
    // Most often a query has fewer values than scores.
    let mut scores = (q * f64::from(spec.scale))?.matmul(&k.t()?)?;
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
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    weights.matmul(&v)?.transpose(1, 2)?.flatten_from(2)
}
