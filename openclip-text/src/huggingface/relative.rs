//! T5's relative positions (Raffel et al., 2020): a learned summand of the scores per head and distance, distances
//! gathered into buckets that widen with them. All blocks share it.

use openclip_core::{
    Backend, Dim, HostTensor, Result, Weights,
    backend::{BinaryOp, Rearrange},
};

use super::encoder::EncoderConfig;

/// The summands of attention scores by relative position.
pub(super) struct RelativeBias<B: Backend> {
    /// `[1, heads, L, L]` of the longest text.
    bias: B::Tensor,
}

impl<B: Backend> RelativeBias<B> {
    /// Reads the table of the first block below the scope of `w`, which holds it for all blocks.
    pub(super) fn new(
        backend: &B,
        w: &Weights,
        encoder: &EncoderConfig,
        context_length: usize,
    ) -> Result<Self> {
        let heads = encoder.block.attention.heads;
        let [buckets, max_distance] = encoder.relative;
        let scope = w.scope("block.0.layer.0.SelfAttention.relative_attention_bias");
        let table = backend.param(&scope, "weight", &[buckets, heads])?;
        let table = backend.rearrange(&table, Rearrange::Transpose(0, 1))?;
        // Selection as a product with zeros and ones: models have no indices of their own.
        let places = context_length * context_length;
        let mut selection = vec![0.0; buckets * places];
        for query in 0..context_length {
            for key in 0..context_length {
                let bucket = bucket(key as i64 - query as i64, buckets, max_distance);
                if let Some(value) = selection.get_mut(bucket * places + query * context_length + key) {
                    *value = 1.0;
                }
            }
        }
        let selection = backend.constant(&HostTensor::new([buckets, places], selection)?)?;
        let bias = backend.matmul(&table, &selection)?;
        let bias = backend.rearrange(&bias, Rearrange::SplitLast { parts: context_length })?;
        Ok(Self { bias: backend.rearrange(&bias, Rearrange::Unsqueeze(0))? })
    }

    /// Added to `padding [N, 1, 1, L]`: `[N, heads, L, L]`.
    pub(super) fn with_padding(&self, backend: &B, padding: &B::Tensor) -> Result<B::Tensor> {
        let length = backend.dims(padding).get(3).cloned().unwrap_or(Dim::Fixed(0));
        let rows = backend.slice(&self.bias, 2, &Dim::Fixed(0), &length)?;
        let square = backend.slice(&rows, 3, &Dim::Fixed(0), &length)?;
        backend.binary(BinaryOp::Add, &square, padding)
    }
}

/// The bucket of the distance from a query to a key, in the arithmetic of `T5Attention._relative_position_bucket`.
fn bucket(distance: i64, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let side = if distance > 0 { half } else { 0 };
    let (distance, single) = (distance.unsigned_abs() as usize, half / 2);
    if distance < single {
        return side + distance;
    }
    let widening = (max_distance as f64 / single as f64).ln() as f32;
    let beyond = (distance as f32 / single as f32).ln() / widening * (half - single) as f32;
    side + (single + beyond as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_widen_with_the_distance() {
        // T5Attention._relative_position_bucket(torch.arange(-130, 131), True, 32, 128), where it changes.
        let firsts =
            [(-130, 15), (-90, 14), (-63, 13), (-45, 12), (-31, 11), (-22, 10), (-15, 9), (-11, 8), (-7, 7)];
        for (index, &(distance, expected)) in firsts.iter().enumerate() {
            assert_eq!(bucket(distance, 32, 128), expected, "{distance}");
            if index > 0 {
                assert_eq!(bucket(distance - 1, 32, 128), expected + 1, "{}", distance - 1);
            }
            assert_eq!(bucket(-distance, 32, 128), expected + 16, "{}", -distance);
        }
        assert_eq!([-1, 0, 1].map(|distance| bucket(distance, 32, 128)), [1, 0, 17]);
    }
}
