//! Relative positions by logarithmic distance (Liu et al., 2022, Swin V2): an MLP makes a bias of the scores from the
//! distance of two patches.

use openclip_core::{
    Backend, HostTensor, Result, Weights,
    backend::{Activation, LinearSpec, Rearrange},
};

/// The bias of all pairs of tokens, zero where one of them is the class token: `[1, heads, L, L]`.
pub(super) fn bias<B: Backend>(
    backend: &B,
    w: &Weights,
    [rows, columns]: [usize; 2],
    heads: usize,
    hidden: usize,
    class_token: bool,
) -> Result<B::Tensor> {
    let layer = |name: &str, spec: LinearSpec| backend.prepare_linear(&w.scope(name), &spec.unquantized());
    let fc1 = layer("mlp.fc1", LinearSpec::new(2, hidden).activated(Activation::Relu))?;
    let fc2 = layer("mlp.fc2", LinearSpec::new(hidden, heads))?;
    let patches = rows * columns;
    let distance = |a: usize, b: usize| {
        let distance = a as f32 - b as f32;
        distance.signum() * distance.abs().ln_1p()
    };
    let pair = |pair: usize| {
        let (query, key) = (pair / patches, pair % patches);
        [distance(query / columns, key / columns), distance(query % columns, key % columns)]
    };
    let distances: Vec<f32> = (0..patches * patches).flat_map(pair).collect();
    let distances = backend.constant(&HostTensor::new([1, patches * patches, 2], distances)?)?;
    let bias = backend.linear(&backend.linear(&distances, &fc1)?, &fc2)?;
    let bias = backend.rearrange(&bias, Rearrange::Transpose(1, 2))?;
    let bias = backend.rearrange(&bias, Rearrange::SplitLast { parts: patches })?;
    if !class_token {
        return Ok(bias);
    }
    let zeros = |dims: [usize; 4]| backend.constant(&HostTensor::zeros(dims));
    let bias = backend.cat(&[&zeros([1, heads, patches, 1])?, &bias], 3)?;
    backend.cat(&[&zeros([1, heads, 1, patches + 1])?, &bias], 2)
}
