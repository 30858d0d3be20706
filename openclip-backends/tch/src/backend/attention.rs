//! Multi-head attention on libtorch's fused kernel, which doesn't keep the scores.

use openclip_core::backend::AttentionSpec;
use tch::{Kind, Result, Tensor};

use super::layers::int;

/// `q [N, Lq, heads*E]`, `k [N, Lk, heads*E]`, `v [N, Lk, heads*V] -> [N, Lq, heads*V]`, computed in `product`.
/// The dimensions have been checked: `bias` broadcasts to `[N, heads, Lq, Lk]`.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spec: &AttentionSpec,
    bias: Option<&Tensor>,
    product: Kind,
) -> Result<Tensor> {
    let kind = q.f_kind()?;
    let heads = int(spec.heads);
    let split = |x: &Tensor| {
        let (batch, length, width) = x.size3()?;
        x.f_to_kind(product)?.f_reshape([batch, length, heads, width / heads])?.f_transpose(1, 2)
    };
    let (batch, queries, _) = q.size3()?;
    let (_, keys, value_width) = v.size3()?;
    let mask = match bias {
        Some(bias) => Some(mask(bias, queries, keys, spec.causal)?.f_to_kind(product)?),
        None => None,
    };
    // libtorch takes a mask or a causal mask, not both.
    let causal = spec.causal && mask.is_none();
    let scale = f64::from(spec.scale);
    Tensor::f_scaled_dot_product_attention(
        &split(q)?,
        &split(k)?,
        &split(v)?,
        mask,
        0.0,
        causal,
        scale,
        false,
    )?
    .f_transpose(1, 2)?
    .f_reshape([batch, queries, value_width])?
    .f_to_kind(kind)
}

/// The bias as the kernel takes it, four axes of which the last two are whole, with the causal mask in it.
fn mask(bias: &Tensor, queries: i64, keys: i64, causal: bool) -> Result<Tensor> {
    let mut dims = bias.size();
    while dims.len() < 4 {
        dims.insert(0, 1);
    }
    let bias = bias.f_reshape(&dims)?;
    if let [_, _, rows, columns] = dims.as_mut_slice() {
        (*rows, *columns) = (queries, keys);
    }
    let bias = bias.f_expand(&dims, false)?;
    if !causal {
        return Ok(bias);
    }
    let later = Tensor::f_ones([queries, keys], (Kind::Bool, bias.device()))?.f_triu(1)?;
    bias.f_masked_fill(&later, f64::NEG_INFINITY)
}
