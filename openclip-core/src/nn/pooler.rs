//! Attentional pooling (CoCa, Yu et al., 2022): learned queries that attend to the tokens.

use super::{CrossAttention, CrossAttentionSpec, NormOptions};
use crate::{Backend, Error, Result, Taps, Weights, backend::Rearrange};

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
    query: B::Tensor,
    ln_q: B::Norm,
    ln_k: B::Norm,
    attn: CrossAttention<B>,
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
        let attn = CrossAttentionSpec { width, context_width, heads };
        Ok(Self {
            query: backend.param(w, "query", &[queries, width])?,
            ln_q: backend.prepare_norm(&w.scope("ln_q"), &norms.spec(width))?,
            ln_k: backend.prepare_norm(&w.scope("ln_k"), &norms.spec(context_width))?,
            attn: CrossAttention::new(backend, w, "attn", &attn, None)?,
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
        let context = self.attn.look(backend, &backend.norm(x, &self.ln_k)?)?;
        let query = self.attn.ask(backend, &backend.norm(&self.query, &self.ln_q)?)?;
        let query = backend.expand_batch(&backend.rearrange(&query, Rearrange::Unsqueeze(0))?, x)?;
        self.attn.offer_weights(backend, &query, &context, taps)?;
        self.attn.attend(backend, &query, &context)
    }
}
