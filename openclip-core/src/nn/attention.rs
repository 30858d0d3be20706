//! Multi-head self-attention with everything that families vary in it.

use super::{AttentionNames, Keep, NormOptions, Rotary};
use crate::{
    Backend, Result, Weights,
    backend::{AttentionBranch, AttentionSpec, BinaryOp, LinearSpec, Rearrange, composed},
};

/// What self-attention consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfAttentionSpec {
    /// Features of a token.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Features of a head.
    pub head_width: usize,
    /// Factor of the scores; `head_width^-0.5` where absent.
    pub score_scale: Option<f32>,
    /// The tower's norms.
    pub norm: NormOptions,
    /// Token `i` sees tokens `0..=i` only.
    pub causal: bool,
    /// Norms on queries and keys, head by head (Dehghani et al., 2023).
    pub qk_norm: bool,
    /// A learned factor per head (NormFormer): `head_scale`.
    pub scale_heads: bool,
    /// A norm before the output projection (sub-LN).
    pub inner_norm: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// What the parameters are called.
    pub names: AttentionNames,
}

/// What tokens know of each other beside their features.
pub struct AttentionContext<'a, B: Backend> {
    /// Added to the scores; broadcasts to `[N, heads, L, L]`.
    pub bias: Option<&'a B::Tensor>,
    /// Turns queries and keys.
    pub rotary: Option<&'a Rotary<B>>,
    /// A bound on the number of tokens where it isn't known while a graph is recorded.
    pub longest: usize,
}

impl<B: Backend> AttentionContext<'_, B> {
    /// Nothing, for a number of tokens that is fixed.
    pub const NONE: Self = Self { bias: None, rotary: None, longest: 0 };
}

/// What attention looks at: keys and values of tokens, `[N, L, width]` each.
#[derive(Clone, Debug)]
pub struct KeyValues<T> {
    /// The keys.
    pub keys: T,
    /// The values.
    pub values: T,
}

/// Tokens that came behind others, after a stack of blocks.
#[derive(Clone, Debug)]
pub struct Extended<T> {
    /// The new tokens' output, `[N, S, ..]`.
    pub output: T,
    /// Keys and values of all tokens, block by block.
    pub known: Vec<KeyValues<T>>,
}

/// Self-attention: one product for queries, keys and values, attention, an output projection.
pub struct SelfAttention<B: Backend> {
    spec: AttentionSpec,
    /// Heads are together as wide as a token.
    square: bool,
    in_proj: B::Linear,
    qk_norm: Option<[B::Norm; 2]>,
    head_scale: Option<B::Tensor>,
    inner_norm: Option<B::Norm>,
    out_proj: B::Linear,
}

impl<B: Backend> SelfAttention<B> {
    /// Reads the layer `scope` of the block `block`. Its output is multiplied by the block's parameter `scale`, where one is
    /// given.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights).
    pub fn new(
        backend: &B,
        block: &Weights,
        scope: &str,
        spec: &SelfAttentionSpec,
        scale: Option<&str>,
    ) -> Result<Self> {
        let w = block.scope(scope);
        let &SelfAttentionSpec { width, heads, head_width, norm, names, .. } = spec;
        let inner = heads * head_width;
        let in_proj = LinearSpec::new(width, 3 * inner).stacked(names.input, names.input_bias);
        let out_proj = LinearSpec::new(inner, width).within(names.output).within(scope);
        let out_proj = out_proj.biased(spec.output_bias).scaled(scale);
        let prepare_norm =
            |name: &str, features: usize| backend.prepare_norm(&w.scope(name), &norm.spec(features));
        let plain = AttentionSpec::new(heads, head_width).causal(spec.causal);
        Ok(Self {
            square: inner == width,
            spec: AttentionSpec { scale: spec.score_scale.unwrap_or(plain.scale), ..plain },
            in_proj: backend.prepare_linear(&w, &in_proj)?,
            qk_norm: match spec.qk_norm {
                true => {
                    let [queries, keys] = names.qk_norm;
                    Some([prepare_norm(queries, head_width)?, prepare_norm(keys, head_width)?])
                }
                false => None,
            },
            head_scale: match spec.scale_heads {
                true => Some(backend.param(&w, "head_scale", &[heads, 1, 1])?),
                false => None,
            },
            inner_norm: match spec.inner_norm {
                true => Some(prepare_norm(names.inner_norm, inner)?),
                false => None,
            },
            out_proj: backend.prepare_linear(block, &out_proj)?,
        })
    }

    /// `x + attention(norm(x))` of all tokens as one operation, where the layer is a plain one.
    ///
    /// # Shapes
    /// `x [N, L, width] -> [N, L, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward_residual(
        &self,
        backend: &B,
        x: &B::Tensor,
        norm: &B::Norm,
        context: &AttentionContext<'_, B>,
    ) -> Option<Result<B::Tensor>> {
        let plain =
            self.qk_norm.is_none() && self.head_scale.is_none() && self.inner_norm.is_none() && self.square;
        let branch = AttentionBranch {
            norm,
            in_proj: &self.in_proj,
            rotary: context.rotary.map(Rotary::tables),
            spec: &self.spec,
            bias: context.bias,
            out_proj: &self.out_proj,
        };
        plain.then(|| backend.residual_attention(x, &branch))
    }

    /// How much of each token's value (last axis) goes to each token.
    ///
    /// # Shapes
    /// `x [N, L, width] -> [N, heads, L, L]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn weights(
        &self,
        backend: &B,
        x: &B::Tensor,
        context: &AttentionContext<'_, B>,
    ) -> Result<B::Tensor> {
        let [q, k, _] = self.project(backend, x, context.rotary)?;
        composed::attention_weights(backend, &q, &k, &self.spec, context.bias, context.longest)
    }

    /// # Shapes
    /// `x [N, L, width] -> [N, L', width]`, the tokens of `keep`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        context: &AttentionContext<'_, B>,
        keep: &Keep<B::Tensor>,
    ) -> Result<B::Tensor> {
        let [mut q, k, v] = self.project(backend, x, context.rotary)?;
        // Queries that nothing is masked for can be left out before attention, others only after it.
        let masked = self.spec.causal || context.bias.is_some();
        if !masked {
            q = keep.apply(backend, q)?;
        }
        let mut x = backend.attention(&q, &k, &v, &self.spec, context.bias)?;
        if masked {
            x = keep.apply(backend, x)?;
        }
        self.merge(backend, x)
    }

    /// Attention of tokens that come behind others. `past` are keys and values of those; `bias` alone says who sees whom. Gives
    /// keys and values of all tokens beside the output.
    ///
    /// # Shapes
    /// `x [N, S, width] -> [N, S, width]`, `past [N, P, width] -> [N, P + S, width]`; `bias` broadcasts to
    /// `[N, heads, S, P + S]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn extend(
        &self,
        backend: &B,
        x: &B::Tensor,
        past: Option<&KeyValues<B::Tensor>>,
        bias: &B::Tensor,
    ) -> Result<(B::Tensor, KeyValues<B::Tensor>)> {
        let [q, mut keys, mut values] = self.project(backend, x, None)?;
        if let Some(past) = past {
            keys = backend.cat(&[&past.keys, &keys], 1)?;
            values = backend.cat(&[&past.values, &values], 1)?;
        }
        let spec = self.spec.causal(false);
        let attended = backend.attention(&q, &keys, &values, &spec, Some(bias))?;
        Ok((self.merge(backend, attended)?, KeyValues { keys, values }))
    }

    /// Queries, keys and values of `x [N, L, width]`.
    fn project(&self, backend: &B, x: &B::Tensor, rotary: Option<&Rotary<B>>) -> Result<[B::Tensor; 3]> {
        let packed = backend.linear(x, &self.in_proj)?;
        let [mut q, mut k, v] = composed::split_packed(backend, &packed)?;
        if let Some([norm_q, norm_k]) = &self.qk_norm {
            let by_head = |x: &B::Tensor, norm: &B::Norm| {
                let split = backend.rearrange(x, Rearrange::SplitLast { parts: self.spec.heads })?;
                backend.rearrange(&backend.norm(&split, norm)?, Rearrange::MergeLast)
            };
            (q, k) = (by_head(&q, norm_q)?, by_head(&k, norm_k)?);
        }
        if let Some(rotary) = rotary {
            (q, k) = (rotary.forward(backend, &q)?, rotary.forward(backend, &k)?);
        }
        Ok([q, k, v])
    }

    /// What follows attention: `x [N, L, heads*E] -> [N, L, width]`.
    fn merge(&self, backend: &B, mut x: B::Tensor) -> Result<B::Tensor> {
        if let Some(head_scale) = &self.head_scale {
            let split = backend.rearrange(&x, Rearrange::SplitLast { parts: self.spec.heads })?;
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
