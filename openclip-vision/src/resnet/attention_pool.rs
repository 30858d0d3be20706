//! The attention pool of modified ResNets.

use openclip_core::{
    Backend, Result, Weights,
    backend::{AttentionSpec, BinaryOp, LinearSpec, Rearrange, ReduceOp},
};

/// What the attention pool consists of.
pub(super) struct AttentionPool2dSpec {
    /// Places of the feature map along one side.
    pub(super) grid: usize,
    /// Channels of the feature map.
    pub(super) features: usize,
    /// Number of heads.
    pub(super) heads: usize,
    /// Features of the output.
    pub(super) out_features: usize,
}

/// Attention of the mean of a feature map to the mean and to every place of the map.
pub(super) struct AttentionPool2d<B: Backend> {
    positional_embedding: B::Tensor,
    /// The position of the mean, `[1, 1, features]`.
    first_position: B::Tensor,
    attention: AttentionSpec,
    q_proj: B::Linear,
    k_proj: B::Linear,
    v_proj: B::Linear,
    c_proj: B::Linear,
}

impl<B: Backend> AttentionPool2d<B> {
    /// Reads `positional_embedding [1 + grid * grid, features]` and the projections.
    pub(super) fn new(backend: &B, w: &Weights, spec: &AttentionPool2dSpec) -> Result<Self> {
        let &AttentionPool2dSpec { grid, features, heads, out_features } = spec;
        let linear = |name: &str, spec: LinearSpec| backend.prepare_linear(&w.scope(name), &spec);
        let positional_embedding = backend.param(w, "positional_embedding", &[1 + grid * grid, features])?;
        let first = backend.slice(&positional_embedding, 0, &0.into(), &1.into())?;
        Ok(Self {
            first_position: backend.rearrange(&first, Rearrange::Unsqueeze(0))?,
            positional_embedding,
            attention: AttentionSpec::new(heads, features / heads),
            q_proj: linear("q_proj", LinearSpec::new(features, features))?,
            k_proj: linear("k_proj", LinearSpec::new(features, features))?,
            v_proj: linear("v_proj", LinearSpec::new(features, features))?,
            c_proj: linear("c_proj", LinearSpec::new(features, out_features).unquantized())?,
        })
    }

    /// `[N, features, grid, grid] -> [N, out_features]`. Only the mean asks: nobody sees what the other places would find.
    pub(super) fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let places = backend.rearrange(x, Rearrange::SpatialToTokens)?;
        let mean =
            backend.rearrange(&backend.reduce(&places, ReduceOp::Mean, 1)?, Rearrange::Unsqueeze(1))?;
        let tokens = backend.cat(&[&mean, &places], 1)?;
        let tokens = backend.binary(BinaryOp::Add, &tokens, &self.positional_embedding)?;
        let mean = backend.binary(BinaryOp::Add, &mean, &self.first_position)?;
        let query = backend.linear(&mean, &self.q_proj)?;
        let key = backend.linear(&tokens, &self.k_proj)?;
        let value = backend.linear(&tokens, &self.v_proj)?;
        let pooled = backend.attention(&query, &key, &value, &self.attention, None)?;
        backend.linear(&backend.rearrange(&pooled, Rearrange::Squeeze(1))?, &self.c_proj)
    }
}
