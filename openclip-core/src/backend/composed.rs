//! Operations that consist of others: what [`Backend`]'s methods of these names do unless a backend knows better.

use super::{AttentionBranch, AttentionSpec, Backend, BinaryOp, Rearrange};
use crate::{Dim, DisplayDims, Error, HostTensor, Result};

/// [`Backend::residual_attention`], composed.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn residual_attention<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    branch: &AttentionBranch<'_, B>,
) -> Result<B::Tensor> {
    let packed = backend.linear(&backend.norm(x, branch.norm)?, branch.in_proj)?;
    let [mut q, mut k, v] = split_packed(backend, &packed)?;
    if let Some([cos, sin]) = branch.rotary {
        (q, k) = (backend.rotate_pairs(&q, cos, sin)?, backend.rotate_pairs(&k, cos, sin)?);
    }
    let attended = backend.attention(&q, &k, &v, branch.spec, branch.bias)?;
    backend.binary(BinaryOp::Add, x, &backend.linear(&attended, branch.out_proj)?)
}

/// [`Backend::residual_mlp`], composed.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn residual_mlp<B: Backend>(
    backend: &B,
    shortcut: &B::Tensor,
    x: &B::Tensor,
    norm: &B::Norm,
    fc: &B::Linear,
    proj: &B::Linear,
) -> Result<B::Tensor> {
    let hidden = backend.linear(&backend.norm(x, norm)?, fc)?;
    backend.binary(BinaryOp::Add, shortcut, &backend.linear(&hidden, proj)?)
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

/// The weights of attention: how much of each value (last axis) goes to each query.
/// `q [N, Lq, heads*E]`, `k [N, Lk, heads*E] -> [N, heads, Lq, Lk]`. `longest` bounds `Lk` where that isn't known yet.
///
/// They are what attention makes of values that are the unit vectors.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn attention_weights<B: Backend>(
    backend: &B,
    q: &B::Tensor,
    k: &B::Tensor,
    spec: &AttentionSpec,
    bias: Option<&B::Tensor>,
    longest: usize,
) -> Result<B::Tensor> {
    let dims = backend.dims(k);
    let [_, length, _] = dims.as_slice() else {
        return Err(Error::shape("attention_weights", "[N, L, D]", DisplayDims(&dims)));
    };
    let longest = length.fixed().unwrap_or(longest);
    let unit = |row: usize| (0..spec.heads * longest).map(move |at| f32::from(u8::from(at % longest == row)));
    let values = HostTensor::new([1, longest, spec.heads * longest], (0..longest).flat_map(unit).collect())?;
    let values = backend.slice(&backend.constant(&values)?, 1, &Dim::Fixed(0), length)?;
    let weights = backend.attention(q, k, &backend.expand_batch(&values, k)?, spec, bias)?;
    let by_head = backend.rearrange(&weights, Rearrange::SplitLast { parts: spec.heads })?;
    backend.slice(&backend.rearrange(&by_head, Rearrange::Transpose(1, 2))?, 3, &Dim::Fixed(0), length)
}

/// [`Backend::rotate_pairs`], composed.
///
/// # Errors
/// As [`Backend`]'s methods.
pub fn rotate_pairs<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    cos: &B::Tensor,
    sin: &B::Tensor,
) -> Result<B::Tensor> {
    let dims = backend.dims(x);
    let pairs = match dims.last() {
        Some(Dim::Fixed(width)) if width.is_multiple_of(2) => width / 2,
        _ => return Err(Error::shape("rotate_pairs", "[N, L, an even number]", DisplayDims(&dims))),
    };
    let split = backend.rearrange(x, Rearrange::SplitLast { parts: pairs })?;
    let axis = dims.len();
    let part = |index: usize| backend.slice(&split, axis, &Dim::Fixed(index), &Dim::Fixed(index + 1));
    let exchanged = backend.cat(&[&part(1)?, &part(0)?], axis)?;
    let exchanged = backend.rearrange(&exchanged, Rearrange::MergeLast)?;
    let kept = backend.binary(BinaryOp::Mul, x, cos)?;
    backend.binary(BinaryOp::Add, &kept, &backend.binary(BinaryOp::Mul, &exchanged, sin)?)
}
