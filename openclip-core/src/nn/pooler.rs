//! Attentional pooling (CoCa, Yu et al., 2022): learned queries that attend to the tokens.

use super::NormOptions;
use crate::{
    Backend, Error, Result, Taps, Weights,
    backend::{AttentionSpec, LinearSpec, Rearrange, composed},
};

/// What attentional pooling consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionalPoolerSpec {
    /// Features of the output and of the queries.
    pub width: usize,
    /// Features of the tokens.
    pub context_width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of queries.
    pub queries: usize,
}

/// Attentional pooling: `query [queries, width]`, `ln_q`, `ln_k`, `attn`. Its norms don't follow the tower's options.
pub struct AttentionalPooler<B: Backend> {
    attention: AttentionSpec,
    attention_map: String,
    query: B::Tensor,
    ln_q: B::Norm,
    ln_k: B::Norm,
    q_proj: B::Linear,
    k_proj: B::Linear,
    v_proj: B::Linear,
    out_proj: B::Linear,
}

impl<B: Backend> AttentionalPooler<B> {
    /// Reads the pooler below the scope of `w`. As in `torch.nn.MultiheadAttention`, the input projections are packed
    /// in one weight exactly when `context_width` is `width`; their bias is always packed.
    ///
    /// # Errors
    /// [`Error::Config`] when `heads` doesn't divide `width`, [`Error::Weights`].
    pub fn new(backend: &B, w: &Weights, spec: &AttentionalPoolerSpec) -> Result<Self> {
        let &AttentionalPoolerSpec { width, context_width, heads, queries } = spec;
        if heads == 0 || !width.is_multiple_of(heads) {
            let message = format!("width {width} can't be split into {heads} attn_pooler_heads");
            return Err(Error::config("vision_cfg", message));
        }
        let norms = NormOptions::default();
        let attn = w.scope("attn");
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
        Ok(Self {
            attention: AttentionSpec::new(heads, width / heads),
            attention_map: w.path("attn.weights"),
            query: backend.param(w, "query", &[queries, width])?,
            ln_q: backend.prepare_norm(&w.scope("ln_q"), &norms.spec(width))?,
            ln_k: backend.prepare_norm(&w.scope("ln_k"), &norms.spec(context_width))?,
            q_proj: input(0, "q_proj_weight", width)?,
            k_proj: input(1, "k_proj_weight", context_width)?,
            v_proj: input(2, "v_proj_weight", context_width)?,
            out_proj: backend.prepare_linear(&attn.scope("out_proj"), &LinearSpec::new(width, width))?,
        })
    }

    /// Its attention map is offered to `taps`.
    ///
    /// # Shapes
    /// `x [N, L, context_width] -> [N, queries, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn forward(&self, backend: &B, x: &B::Tensor, taps: &mut Taps<B::Tensor>) -> Result<B::Tensor> {
        let x = backend.norm(x, &self.ln_k)?;
        let query = backend.linear(&backend.norm(&self.query, &self.ln_q)?, &self.q_proj)?;
        let query = backend.expand_batch(&backend.rearrange(&query, Rearrange::Unsqueeze(0))?, &x)?;
        let key = backend.linear(&x, &self.k_proj)?;
        let value = backend.linear(&x, &self.v_proj)?;
        taps.offer_attention(&self.attention_map, || {
            composed::attention_weights(backend, &query, &key, &self.attention, None, 0)
        })?;
        let pooled = backend.attention(&query, &key, &value, &self.attention, None)?;
        backend.linear(&pooled, &self.out_proj)
    }
}
