//! Attention pools of feature maps: that of modified ResNets (Radford et al., 2021), and timm's two behind other trunks.

use openclip_core::{
    Backend, HostTensor, Result, Weights,
    backend::{AttentionSpec, BinaryOp, LinearSpec, Rearrange, ReduceOp},
    nn::Rotary,
};

use crate::vit::resize_positions;

/// What an attention pool consists of.
pub(crate) struct AttentionPool2dSpec {
    /// Rows and columns of the feature map.
    pub(crate) grid: [usize; 2],
    /// Channels of the feature map.
    pub(crate) features: usize,
    /// Number of heads.
    pub(crate) heads: usize,
    /// Features of the output.
    pub(crate) out_features: usize,
    /// How places are told apart.
    pub(crate) positions: Positions,
    /// How the projections are stored.
    pub(crate) projections: Projections,
}

/// How an attention pool tells the places of a map apart.
pub(crate) enum Positions {
    /// A learned table of this map's size, the mean's position first.
    Learned(&'static str),
    /// A learned table of a map with `own` places along a side, resized to this one.
    Resized { name: &'static str, own: usize },
    /// Keys are turned by these angles, `[1 + H * W, head_width / 2]`; the mean, which asks, isn't.
    Turned(Vec<Vec<f32>>),
}

/// How an attention pool's projections are stored.
#[derive(Clone, Copy)]
pub(crate) enum Projections {
    /// `q_proj`, `k_proj`, `v_proj` and `c_proj`.
    Apart,
    /// `qkv` and `proj`.
    Packed,
}

/// Attention of the mean of a feature map to the mean and to every place of the map.
pub(crate) struct AttentionPool2d<B: Backend> {
    positions: Option<LearnedPositions<B>>,
    rotary: Option<Rotary<B>>,
    attention: AttentionSpec,
    query: B::Linear,
    key: B::Linear,
    value: B::Linear,
    output: B::Linear,
}

struct LearnedPositions<B: Backend> {
    /// `[1 + H * W, features]`.
    table: B::Tensor,
    /// The position of the mean, `[1, 1, features]`.
    first: B::Tensor,
}

impl<B: Backend> AttentionPool2d<B> {
    /// Reads positions and projections below the scope of `w`.
    pub(crate) fn new(backend: &B, w: &Weights, spec: &AttentionPool2dSpec) -> Result<Self> {
        let &AttentionPool2dSpec { features, heads, out_features, .. } = spec;
        let input = |place: usize, name: &str| {
            let layer = LinearSpec::new(features, features);
            let layer = match spec.projections {
                Projections::Apart => layer.within(name),
                Projections::Packed => {
                    let rows = place * features..(place + 1) * features;
                    layer.weight_rows(rows.clone(), 3 * features).bias_rows(rows, 3 * features).within("qkv")
                }
            };
            backend.prepare_linear(w, &layer)
        };
        let output = match spec.projections {
            Projections::Apart => "c_proj",
            Projections::Packed => "proj",
        };
        let output = LinearSpec::new(features, out_features).within(output).unquantized();
        Ok(Self {
            positions: LearnedPositions::new(backend, w, spec)?,
            rotary: match &spec.positions {
                Positions::Turned(angles) => Some(Rotary::new(backend, angles, heads)?),
                Positions::Learned(_) | Positions::Resized { .. } => None,
            },
            attention: AttentionSpec::new(heads, features / heads),
            query: input(0, "q_proj")?,
            key: input(1, "k_proj")?,
            value: input(2, "v_proj")?,
            output: backend.prepare_linear(w, &output)?,
        })
    }

    /// `[N, H * W, features] -> [N, out_features]`. Only the mean asks: nobody sees what the other places would find.
    pub(crate) fn forward(&self, backend: &B, places: &B::Tensor) -> Result<B::Tensor> {
        let mean = backend.reduce(places, ReduceOp::Mean, 1)?;
        let mut mean = backend.rearrange(&mean, Rearrange::Unsqueeze(1))?;
        let mut tokens = backend.cat(&[&mean, places], 1)?;
        if let Some(LearnedPositions { table, first }) = &self.positions {
            tokens = backend.binary(BinaryOp::Add, &tokens, table)?;
            mean = backend.binary(BinaryOp::Add, &mean, first)?;
        }
        let query = backend.linear(&mean, &self.query)?;
        let mut key = backend.linear(&tokens, &self.key)?;
        if let Some(rotary) = &self.rotary {
            key = rotary.forward(backend, &key)?;
        }
        let value = backend.linear(&tokens, &self.value)?;
        let pooled = backend.attention(&query, &key, &value, &self.attention, None)?;
        backend.linear(&backend.rearrange(&pooled, Rearrange::Squeeze(1))?, &self.output)
    }
}

impl<B: Backend> LearnedPositions<B> {
    fn new(backend: &B, w: &Weights, spec: &AttentionPool2dSpec) -> Result<Option<Self>> {
        let &AttentionPool2dSpec { grid, features, .. } = spec;
        let dims = [1 + grid.iter().product::<usize>(), features];
        let table = match spec.positions {
            Positions::Learned(name) => backend.param(w, name, &dims)?,
            Positions::Resized { name, own } => {
                let resizable = w.derive(name, &[1 + own * own, features], move |stored| {
                    let table = HostTensor::new(stored.info.dims.clone(), stored.to_f32())?;
                    resize_positions(name, &table, 1, grid)
                });
                backend.param(&resizable, name, &dims)?
            }
            Positions::Turned(_) => return Ok(None),
        };
        let first = backend.slice(&table, 0, &0.into(), &1.into())?;
        Ok(Some(Self { first: backend.rearrange(&first, Rearrange::Unsqueeze(0))?, table }))
    }
}
