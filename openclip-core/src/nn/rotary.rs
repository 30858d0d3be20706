//! Rotary position embedding (Su et al., 2021).

use crate::{Backend, HostTensor, Result};

/// Angles by which neighbouring pairs of query and key features are turned, token by token.
pub struct Rotary<B: Backend> {
    cos: B::Tensor,
    sin: B::Tensor,
}

impl<B: Backend> Rotary<B> {
    /// From the angle of every pair of a head, `angles [L, head_width / 2]`, the same for each of `heads` heads. Tokens
    /// that aren't turned have angles of zero.
    ///
    /// # Errors
    /// As [`Backend::constant`].
    pub fn new(backend: &B, angles: &[Vec<f32>], heads: usize) -> Result<Self> {
        let width = angles.first().map_or(0, Vec::len) * 2 * heads;
        // In f64, so that no library's rounding of sines matters.
        let table = |of_pair: fn(f64) -> [f64; 2]| {
            let row = |angles: &Vec<f32>| {
                let pairs = angles.iter().flat_map(|&angle| of_pair(f64::from(angle)));
                let head: Vec<f32> = pairs.map(|value| value as f32).collect();
                head.repeat(heads)
            };
            let values: Vec<f32> = angles.iter().flat_map(row).collect();
            backend.constant(&HostTensor::new([angles.len(), width], values)?)
        };
        Ok(Self { cos: table(|angle| [angle.cos(); 2])?, sin: table(|angle| [-angle.sin(), angle.sin()])? })
    }

    /// Cosines and sines, `[L, heads * head_width]`.
    pub fn tables(&self) -> [&B::Tensor; 2] {
        [&self.cos, &self.sin]
    }

    /// # Shapes
    /// `x [N, L, heads * head_width]` to the same.
    ///
    /// # Errors
    /// As [`Backend::rotate_pairs`].
    pub fn forward(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        backend.rotate_pairs(x, &self.cos, &self.sin)
    }
}
