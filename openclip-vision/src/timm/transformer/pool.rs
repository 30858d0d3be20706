//! Pooling of tokens.

use openclip_core::{
    Backend, Dim, Result, Taps, Weights,
    backend::{Activation, AttentionSpec, LinearSpec, Rearrange, composed},
    nn::Keep,
};

use super::{
    super::pool::Reduction,
    spec::{PoolKind, TransformerSpec},
};

/// How the tokens `[N, L, width]` become one vector.
pub(super) enum Pool<B: Backend> {
    /// The first token.
    Token,
    /// The tokens from `first` on are reduced.
    Reduce { reduction: Reduction, first: usize },
    /// Attention to the tokens from `first` on.
    Attention { attention: Box<AttentionPool<B>>, first: usize },
}

/// Attention of a learned query, and an MLP (Lee et al., 2019; the MAP head of Zhai et al., 2022).
pub(super) struct AttentionPool<B: Backend> {
    attention: AttentionSpec,
    /// The projected query, which depends on parameters alone: `[1, 1, width]`.
    query: B::Tensor,
    attention_map: String,
    kv: B::Linear,
    proj: B::Linear,
    norm: B::Norm,
    fc1: B::Linear,
    fc2: B::Linear,
    width: usize,
}

impl<B: Backend> Pool<B> {
    /// Reads what pooling needs below the scope of `w`.
    pub(super) fn new(backend: &B, w: &Weights, spec: &TransformerSpec, kind: PoolKind) -> Result<Self> {
        let prefix = usize::from(spec.class_token);
        Ok(match kind {
            PoolKind::Token => Self::Token,
            PoolKind::Reduced(reduction) => Self::Reduce { reduction, first: prefix },
            PoolKind::Attention => Self::Attention {
                attention: Box::new(AttentionPool::new(backend, w, spec)?),
                first: if spec.pool_sees_class { 0 } else { prefix },
            },
        })
    }

    /// The tokens that are needed of the last block.
    pub(super) fn keep(&self) -> Keep<B::Tensor> {
        match self {
            Self::Token => Keep::First,
            Self::Reduce { .. } | Self::Attention { .. } => Keep::All,
        }
    }

    /// `[N, L, width] -> [N, width]`.
    pub(super) fn forward(
        &self,
        backend: &B,
        x: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<B::Tensor> {
        let from = |first: usize| {
            let length = backend.dims(x).get(1).cloned().unwrap_or(Dim::Fixed(0));
            backend.slice(x, 1, &Dim::Fixed(first), &length)
        };
        match self {
            Self::Token => {
                let token = backend.slice(x, 1, &Dim::Fixed(0), &Dim::Fixed(1))?;
                backend.rearrange(&token, Rearrange::Squeeze(1))
            }
            Self::Reduce { reduction, first } => reduction.forward(backend, &from(*first)?),
            Self::Attention { attention, first } => attention.forward(backend, &from(*first)?, taps),
        }
    }
}

impl<B: Backend> AttentionPool<B> {
    fn new(backend: &B, w: &Weights, spec: &TransformerSpec) -> Result<Self> {
        let width = spec.width;
        let heads = spec.pool_heads.unwrap_or(spec.heads);
        let hidden = (width as f64 * spec.pool_mlp_ratio.unwrap_or(spec.mlp_ratio)) as usize;
        let layer = |name: &str, from: usize, to: usize, activation: Option<Activation>| {
            let spec = LinearSpec { activation, ..LinearSpec::new(from, to) };
            backend.prepare_linear(&w.scope(name), &spec)
        };
        let latent = backend.param(w, "latent", &[1, 1, width])?;
        Ok(Self {
            attention: AttentionSpec::new(heads, width / heads),
            query: backend.linear(&latent, &layer("q", width, width, None)?)?,
            attention_map: w.path("weights"),
            kv: layer("kv", width, 2 * width, None)?,
            proj: layer("proj", width, width, None)?,
            norm: backend.prepare_norm(&w.scope("norm"), &spec.norms().spec(width))?,
            fc1: layer("mlp.fc1", width, hidden, Some(spec.activation))?,
            fc2: layer("mlp.fc2", hidden, width, None)?,
            width,
        })
    }

    fn forward(&self, backend: &B, x: &B::Tensor, taps: &mut Taps<B::Tensor>) -> Result<B::Tensor> {
        let kv = backend.linear(x, &self.kv)?;
        let part = |index: usize| {
            backend.slice(&kv, 2, &Dim::Fixed(index * self.width), &Dim::Fixed((index + 1) * self.width))
        };
        let query = backend.expand_batch(&self.query, x)?;
        let (key, value) = (part(0)?, part(1)?);
        taps.offer_attention(&self.attention_map, || {
            composed::attention_weights(backend, &query, &key, &self.attention, None, 0)
        })?;
        let x = backend.attention(&query, &key, &value, &self.attention, None)?;
        let x = backend.rearrange(&backend.linear(&x, &self.proj)?, Rearrange::Squeeze(1))?;
        backend.residual_mlp(&x, &x, &self.norm, &self.fc1, &self.fc2)
    }
}
