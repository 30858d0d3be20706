//! Attention to another sequence than the tokens' own: the layer, and the residual block around it.

use super::{
    BlockSpec, KeyValues, SelfAttentionSpec,
    branch::{Branch, MlpBranch},
};
use crate::{
    Backend, Result, Taps, Weights,
    backend::{AttentionSpec, LinearSpec, composed},
};

/// What attention to another sequence consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossAttentionSpec {
    /// Features of a query and of the output.
    pub width: usize,
    /// Features of a token of the other sequence.
    pub context_width: usize,
    /// Number of heads, which divides `width`.
    pub heads: usize,
}

/// Attention to another sequence, with the names of `torch.nn.MultiheadAttention`.
pub struct CrossAttention<B: Backend> {
    attention: AttentionSpec,
    attention_map: String,
    q_proj: B::Linear,
    k_proj: B::Linear,
    v_proj: B::Linear,
    out_proj: B::Linear,
}

impl<B: Backend> CrossAttention<B> {
    /// Reads the layer `scope` of `w`; its output is multiplied by the parameter `scale` of `w`, where one is given. As in
    /// `torch.nn.MultiheadAttention`, the input projections are packed in one weight exactly when `context_width` is
    /// `width`; their bias is always packed.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights).
    pub fn new(
        backend: &B,
        w: &Weights,
        scope: &str,
        spec: &CrossAttentionSpec,
        scale: Option<&str>,
    ) -> Result<Self> {
        let &CrossAttentionSpec { width, context_width, heads } = spec;
        let attn = w.scope(scope);
        let packed = context_width == width;
        let input = |index: usize, name: &str, in_features: usize| {
            let (rows, total) = (index * width..(index + 1) * width, 3 * width);
            let spec = LinearSpec::new(in_features, width);
            let spec = match packed {
                true => spec.named("in_proj_weight", Some("in_proj_bias")).weight_rows(rows.clone(), total),
                false => spec.named(name, Some("in_proj_bias")),
            };
            backend.prepare_linear(&attn, &spec.bias_rows(rows, total))
        };
        let out_proj = LinearSpec::new(width, width).within("out_proj").within(scope).scaled(scale);
        Ok(Self {
            attention: AttentionSpec::new(heads, width / heads.max(1)),
            attention_map: attn.path("weights"),
            q_proj: input(0, "q_proj_weight", width)?,
            k_proj: input(1, "k_proj_weight", context_width)?,
            v_proj: input(2, "v_proj_weight", context_width)?,
            out_proj: backend.prepare_linear(w, &out_proj)?,
        })
    }

    /// What queries look at: `context [N, L, context_width]` to keys and values `[N, L, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn look(&self, backend: &B, context: &B::Tensor) -> Result<KeyValues<B::Tensor>> {
        Ok(KeyValues {
            keys: backend.linear(context, &self.k_proj)?,
            values: backend.linear(context, &self.v_proj)?,
        })
    }

    /// What asks: `x [.., width]` to queries of the same dimensions.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn ask(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        backend.linear(x, &self.q_proj)
    }

    /// Offers how much of each token's value goes to each query, where that is wanted. The number of tokens has to be fixed.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn offer_weights(
        &self,
        backend: &B,
        queries: &B::Tensor,
        context: &KeyValues<B::Tensor>,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<()> {
        taps.offer_attention(&self.attention_map, || {
            composed::attention_weights(backend, queries, &context.keys, &self.attention, None, 0)
        })
    }

    /// # Shapes
    /// `queries [N, L, width] -> [N, L, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn attend(
        &self,
        backend: &B,
        queries: &B::Tensor,
        context: &KeyValues<B::Tensor>,
    ) -> Result<B::Tensor> {
        let KeyValues { keys, values } = context;
        let attended = backend.attention(queries, keys, values, &self.attention, None)?;
        backend.linear(&attended, &self.out_proj)
    }
}

/// A residual block that attends to another sequence: `ln_1`, `ln_1_kv`, `attn`, `ln_2`, `mlp`.
pub struct CrossAttentionBlock<B: Backend> {
    ln_1_kv: B::Norm,
    attn_branch: Branch<B>,
    attn: CrossAttention<B>,
    mlp: MlpBranch<B>,
}

impl<B: Backend> CrossAttentionBlock<B> {
    /// Reads the block below the scope of `w`; the other sequence has tokens of `spec`'s width, too.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights).
    pub fn new(backend: &B, w: &Weights, spec: &BlockSpec) -> Result<Self> {
        let SelfAttentionSpec { width, heads, norm, .. } = spec.attention;
        let names = &spec.names.attention;
        let ln_1_kv = backend.prepare_norm(&w.scope("ln_1_kv"), &norm.spec(width))?;
        let (attn_branch, scale) = Branch::new(backend, w, names, spec, None)?;
        let cross = CrossAttentionSpec { width, context_width: width, heads };
        Ok(Self {
            ln_1_kv,
            attn_branch,
            attn: CrossAttention::new(backend, w, names.scope, &cross, scale)?,
            mlp: MlpBranch::new(backend, w, spec)?,
        })
    }

    /// What the block's queries look at: `context [N, L, width]` to keys and values of the same dimensions.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn look(&self, backend: &B, context: &B::Tensor) -> Result<KeyValues<B::Tensor>> {
        self.attn.look(backend, &backend.norm(context, &self.ln_1_kv)?)
    }

    /// # Shapes
    /// `x [N, L, width]` to the same.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(&self, backend: &B, x: B::Tensor, context: &KeyValues<B::Tensor>) -> Result<B::Tensor> {
        let queries = self.attn.ask(backend, &self.attn_branch.enter(backend, &x)?)?;
        let branch = self.attn.attend(backend, &queries, context)?;
        self.mlp.forward(backend, self.attn_branch.leave(backend, &x, branch)?)
    }
}
