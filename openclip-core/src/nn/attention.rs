//! Multi-head self-attention with a packed input projection, and the optional norms and scales around it.

use super::{Keep, NormOptions};
use crate::{
    Backend, Result, Weights,
    backend::{AttentionSpec, BinaryOp, LinearSpec, Rearrange, composed},
};

/// What self-attention consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfAttentionSpec {
    /// Features of a token.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// The tower's norms.
    pub norm: NormOptions,
    /// Token `i` sees tokens `0..=i` only.
    pub causal: bool,
    /// Norms on queries and keys, head by head (Dehghani et al., 2023): `ln_q`, `ln_k`.
    pub qk_norm: bool,
    /// A learned factor per head (NormFormer): `head_scale`.
    pub scale_heads: bool,
    /// A norm before the output projection (sub-LN): `ln_inner`.
    pub inner_norm: bool,
}

/// Self-attention: `in_proj_weight [3*width, width]`, `in_proj_bias`, `out_proj`.
pub struct SelfAttention<B: Backend> {
    spec: AttentionSpec,
    heads: usize,
    in_proj: B::Linear,
    qk_norm: Option<[B::Norm; 2]>,
    head_scale: Option<B::Tensor>,
    inner_norm: Option<B::Norm>,
    out_proj: B::Linear,
}

impl<B: Backend> SelfAttention<B> {
    /// Reads the layer below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights).
    pub fn new(backend: &B, w: &Weights, spec: &SelfAttentionSpec) -> Result<Self> {
        let &SelfAttentionSpec { width, heads, norm, .. } = spec;
        let head_width = width / heads;
        let in_proj = LinearSpec::new(width, 3 * width).named("in_proj_weight", Some("in_proj_bias"));
        let prepare_norm =
            |name: &str, features: usize| backend.prepare_norm(&w.scope(name), &norm.spec(features));
        Ok(Self {
            spec: AttentionSpec::new(heads, head_width).causal(spec.causal),
            heads,
            in_proj: backend.prepare_linear(w, &in_proj)?,
            qk_norm: match spec.qk_norm {
                true => Some([prepare_norm("ln_q", head_width)?, prepare_norm("ln_k", head_width)?]),
                false => None,
            },
            head_scale: match spec.scale_heads {
                true => Some(backend.param(w, "head_scale", &[heads, 1, 1])?),
                false => None,
            },
            inner_norm: match spec.inner_norm {
                true => Some(prepare_norm("ln_inner", width)?),
                false => None,
            },
            out_proj: backend.prepare_linear(&w.scope("out_proj"), &LinearSpec::new(width, width))?,
        })
    }

    /// `x + attention(norm(x))` of all tokens as one operation, where the layer is a plain one.
    ///
    /// # Shapes
    /// `x [N, L, width]`, `bias` broadcasting to `[N, heads, L, L]` `-> [N, L, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward_residual(
        &self,
        backend: &B,
        x: &B::Tensor,
        norm: &B::Norm,
        bias: Option<&B::Tensor>,
    ) -> Option<Result<B::Tensor>> {
        let plain = self.qk_norm.is_none() && self.head_scale.is_none() && self.inner_norm.is_none();
        plain.then(|| backend.residual_attention(x, norm, &self.in_proj, &self.spec, bias, &self.out_proj))
    }

    /// # Shapes
    /// `x [N, L, width]`, `bias` broadcasting to `[N, heads, L, L]` `-> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        bias: Option<&B::Tensor>,
        keep: &Keep<B::Tensor>,
    ) -> Result<B::Tensor> {
        let packed = backend.linear(x, &self.in_proj)?;
        let [mut q, mut k, v] = composed::split_packed(backend, &packed)?;
        if let Some([norm_q, norm_k]) = &self.qk_norm {
            let by_head = |x: &B::Tensor, norm: &B::Norm| {
                let split = backend.rearrange(x, Rearrange::SplitLast { parts: self.heads })?;
                backend.rearrange(&backend.norm(&split, norm)?, Rearrange::MergeLast)
            };
            (q, k) = (by_head(&q, norm_q)?, by_head(&k, norm_k)?);
        }
        // Queries that nothing is masked for can be left out before attention, others only after it.
        let masked = self.spec.causal || bias.is_some();
        if !masked {
            q = keep.apply(backend, q)?;
        }
        let mut x = backend.attention(&q, &k, &v, &self.spec, bias)?;
        if masked {
            x = keep.apply(backend, x)?;
        }
        if let Some(head_scale) = &self.head_scale {
            let split = backend.rearrange(&x, Rearrange::SplitLast { parts: self.heads })?;
            let scale = backend.rearrange(head_scale, Rearrange::Squeeze(1))?;
            let scaled = backend.binary(BinaryOp::Mul, &split, &scale)?;
            x = backend.rearrange(&scaled, Rearrange::MergeLast)?;
        }
        if let Some(norm) = &self.inner_norm {
            x = backend.norm(&x, norm)?;
        }
        backend.linear(&x, &self.out_proj)
    }
}
