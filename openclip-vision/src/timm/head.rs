//! What the reference puts behind a trunk: the projection into the joint space.

use openclip_core::{
    Backend, Result, Weights,
    backend::{Activation, LinearSpec},
};

use super::config::Projection;

/// The projection of pooled features.
pub(super) enum Head<B: Backend> {
    /// `proj`.
    Linear(B::Linear),
    /// `mlp.fc1`, GELU, `mlp.fc2`.
    Mlp([B::Linear; 2]),
    /// None of its own: the trunk's features are the embedding.
    Nothing,
}

impl<B: Backend> Head<B> {
    /// Reads the projection below the scope of `w`, from `features` to `embed_dim`; `bias` is that of the last layer.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        kind: Projection,
        features: usize,
        embed_dim: usize,
        bias: bool,
    ) -> Result<Self> {
        let last = |name: &str, inputs: usize| {
            let spec = LinearSpec::new(inputs, embed_dim).named("weight", bias.then_some("bias"));
            backend.prepare_linear(&w.scope(name), &spec.unquantized())
        };
        Ok(match kind {
            Projection::Linear => Self::Linear(last("proj", features)?),
            Projection::Mlp => {
                let hidden = 2 * embed_dim;
                let fc1 = LinearSpec::new(features, hidden).activated(Activation::GeluErf);
                Self::Mlp([backend.prepare_linear(&w.scope("mlp.fc1"), &fc1)?, last("mlp.fc2", hidden)?])
            }
            Projection::Classifier | Projection::None => Self::Nothing,
        })
    }

    /// `[.., features] -> [.., embed_dim]`.
    pub(super) fn forward(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        match self {
            Self::Linear(proj) => backend.linear(&x, proj),
            Self::Mlp([fc1, fc2]) => backend.linear(&backend.linear(&x, fc1)?, fc2),
            Self::Nothing => Ok(x),
        }
    }
}
