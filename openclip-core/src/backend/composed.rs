//! Operations that consist of others: what [`Backend`]'s methods of these names do unless a backend knows better.

use super::{AttentionSpec, Backend, BinaryOp};
use crate::{Dim, DisplayDims, Error, Result};

/// [`Backend::residual_attention`], composed.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn residual_attention<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    norm: &B::Norm,
    in_proj: &B::Linear,
    spec: &AttentionSpec,
    bias: Option<&B::Tensor>,
    out_proj: &B::Linear,
) -> Result<B::Tensor> {
    let packed = backend.linear(&backend.norm(x, norm)?, in_proj)?;
    let [q, k, v] = split_packed(backend, &packed)?;
    let attended = backend.attention(&q, &k, &v, spec, bias)?;
    backend.binary(BinaryOp::Add, x, &backend.linear(&attended, out_proj)?)
}

/// [`Backend::residual_mlp`], composed.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn residual_mlp<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    norm: &B::Norm,
    fc: &B::Linear,
    proj: &B::Linear,
) -> Result<B::Tensor> {
    let hidden = backend.linear(&backend.norm(x, norm)?, fc)?;
    backend.binary(BinaryOp::Add, x, &backend.linear(&hidden, proj)?)
}

/// Queries, keys and values that stand side by side: `[N, L, 3*D] -> 3 x [N, L, D]`.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn split_packed<B: Backend>(backend: &B, packed: &B::Tensor) -> Result<[B::Tensor; 3]> {
    let dims = backend.dims(packed);
    let width = match dims.as_slice() {
        [_, _, Dim::Fixed(width)] if width.is_multiple_of(3) => width / 3,
        _ => return Err(Error::shape("attention", "[N, L, 3*D]", DisplayDims(&dims))),
    };
    let part =
        |index: usize| backend.slice(packed, 2, &Dim::Fixed(index * width), &Dim::Fixed((index + 1) * width));
    Ok([part(0)?, part(1)?, part(2)?])
}
