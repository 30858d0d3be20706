//! What the reference puts behind a trunk: attention to a feature map, and the projection into the joint space.

use openclip_core::{
    Backend, Error, Result, Weights,
    backend::{Activation, LinearSpec},
};

use super::{
    config::{Projection, SECTION, TimmConfig},
    pool::{MapAttention, Reduction},
    rope::RopeSpec,
    trunk::{FeatureMap, TrunkSpec},
};
use crate::attention_pool::{AttentionPool2d, AttentionPool2dSpec, Positions, Projections};

/// Features of a head of an attention pool.
const HEAD_WIDTH: usize = 64;
/// The grid that rotary positions of an attention pool are scaled to.
const ROPE: RopeSpec = RopeSpec { reference: 7, offset: 0.0, columns_first: false };

/// From what a trunk gives to the embedding.
pub(super) struct Head<B: Backend> {
    pool: Option<AttentionPool2d<B>>,
    projection: Layers<B>,
}

/// The projection of pooled features.
enum Layers<B: Backend> {
    /// `proj`.
    Linear(B::Linear),
    /// `mlp.fc1`, GELU, `mlp.fc2`.
    Mlp([B::Linear; 2]),
    /// None of its own: the pooled features are the embedding.
    Nothing,
}

impl<B: Backend> Head<B> {
    /// Reads the head below the scope of `w`, from what `trunk` gives to `embed_dim`.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        config: &TimmConfig,
        trunk: &TrunkSpec,
        embed_dim: usize,
    ) -> Result<Self> {
        let attention = MapAttention::named(&config.timm_pool);
        let pool = match (attention, trunk.map(config.image_size.to_array())) {
            (None, _) => None,
            (Some(attention), Some(map)) => {
                let spec = pool_spec(attention, &map, trunk.features(), embed_dim);
                Some(AttentionPool2d::new(backend, &w.scope("pool"), &spec)?)
            }
            (Some(_), None) => return Err(config.unknown_pool(&Reduction::NAMES)),
        };
        let features = if pool.is_some() { embed_dim } else { trunk.features() };
        Ok(Self { pool, projection: Layers::new(backend, w, config, features, embed_dim)? })
    }

    /// `[N, features]`, or `[N, H * W, features]` where the head pools, to `[N, embed_dim]`.
    pub(super) fn forward(&self, backend: &B, mut x: B::Tensor) -> Result<B::Tensor> {
        if let Some(pool) = &self.pool {
            x = pool.forward(backend, &x)?;
        }
        match &self.projection {
            Layers::Linear(proj) => backend.linear(&x, proj),
            Layers::Mlp([fc1, fc2]) => backend.linear(&backend.linear(&x, fc1)?, fc2),
            Layers::Nothing => Ok(x),
        }
    }
}

impl<B: Backend> Layers<B> {
    fn new(backend: &B, w: &Weights, config: &TimmConfig, features: usize, embed_dim: usize) -> Result<Self> {
        let last = |name: &str, inputs: usize| {
            let spec = LinearSpec::new(inputs, embed_dim).within(name).biased(config.timm_proj_bias);
            backend.prepare_linear(w, &spec.unquantized())
        };
        Ok(match config.timm_proj {
            Projection::Linear => Self::Linear(last("proj", features)?),
            Projection::Mlp => {
                let hidden = 2 * embed_dim;
                let fc1 = LinearSpec::new(features, hidden).activated(Activation::GeluErf);
                Self::Mlp([backend.prepare_linear(&w.scope("mlp.fc1"), &fc1)?, last("mlp.fc2", hidden)?])
            }
            Projection::None if features != embed_dim => {
                let message = format!(
                    "`timm_proj` is `none`, and `{}` has {features} features: embed_dim {embed_dim} has to be the same",
                    config.timm_model_name
                );
                return Err(Error::config(SECTION, message));
            }
            Projection::Classifier | Projection::None => Self::Nothing,
        })
    }
}

fn pool_spec(
    attention: MapAttention,
    map: &FeatureMap,
    features: usize,
    out_features: usize,
) -> AttentionPool2dSpec {
    AttentionPool2dSpec {
        grid: map.grid,
        features,
        heads: features / HEAD_WIDTH,
        out_features,
        positions: match attention {
            MapAttention::Absolute => Positions::Resized { name: "pos_embed", own: map.own_grid },
            MapAttention::Rotary => Positions::Turned(ROPE.angles(map.grid, 1, HEAD_WIDTH)),
        },
        projections: Projections::Packed,
    }
}
