//! A backend that counts what a model computes, without computing it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Activation, AttentionSpec, Backend, BinaryOp, Conv2dSpec, EmbeddingSpec, LinearSpec, NormSpec,
    Pool2dSpec, Rearrange, ReduceOp, ShapeBackend, ShapeTensor, TokenPosition,
};
use crate::{Dim, Dims, Error, HostTensor, Result, Weights};

/// Counts the multiplications of linear layers, convolutions, matrix products and attention, each with its addition; what
/// other operations take is small beside them, and published figures leave it out, too. All dimensions have to be
/// numbers.
#[derive(Debug, Default)]
pub struct OperationCounter {
    products: AtomicU64,
}

impl OperationCounter {
    /// Floating point operations so far, two for each multiplication with its addition.
    pub fn operations(&self) -> u64 {
        self.products.load(Ordering::Relaxed).saturating_mul(2)
    }

    /// Counts the results `y`, each a sum of `terms` products.
    fn count(&self, y: ShapeTensor, terms: u64) -> Result<ShapeTensor> {
        let mut products = terms;
        for dim in &y.0 {
            let size = dim.fixed().ok_or_else(|| Error::shape("operations", "numbers", dim))?;
            products = products.saturating_mul(size as u64);
        }
        self.products.fetch_add(products, Ordering::Relaxed);
        Ok(y)
    }
}

/// The size of an axis, 0 for one that isn't there.
fn size(x: &ShapeTensor, axis: usize) -> u64 {
    x.0.get(axis).and_then(Dim::fixed).unwrap_or(0) as u64
}

impl Backend for OperationCounter {
    type Tensor = ShapeTensor;
    type Linear = LinearSpec;
    type Conv2d = Conv2dSpec;
    type Norm = NormSpec;
    type Embedding = EmbeddingSpec;

    fn name(&self) -> &'static str {
        "operations"
    }

    fn dims(&self, x: &ShapeTensor) -> Dims {
        ShapeBackend.dims(x)
    }

    fn prepare_linear(&self, w: &Weights, spec: &LinearSpec) -> Result<LinearSpec> {
        ShapeBackend.prepare_linear(w, spec)
    }

    fn prepare_conv2d(&self, w: &Weights, spec: &Conv2dSpec) -> Result<Conv2dSpec> {
        ShapeBackend.prepare_conv2d(w, spec)
    }

    fn prepare_norm(&self, w: &Weights, spec: &NormSpec) -> Result<NormSpec> {
        ShapeBackend.prepare_norm(w, spec)
    }

    fn prepare_embedding(&self, w: &Weights, spec: &EmbeddingSpec) -> Result<EmbeddingSpec> {
        ShapeBackend.prepare_embedding(w, spec)
    }

    fn param(&self, w: &Weights, name: &str, dims: &[usize]) -> Result<ShapeTensor> {
        ShapeBackend.param(w, name, dims)
    }

    fn constant(&self, value: &HostTensor) -> Result<ShapeTensor> {
        ShapeBackend.constant(value)
    }

    fn linear(&self, x: &ShapeTensor, layer: &LinearSpec) -> Result<ShapeTensor> {
        self.count(ShapeBackend.linear(x, layer)?, layer.in_features as u64)
    }

    fn conv2d(&self, x: &ShapeTensor, layer: &Conv2dSpec) -> Result<ShapeTensor> {
        let window = layer.weight_dims().iter().skip(1).product::<usize>();
        self.count(ShapeBackend.conv2d(x, layer)?, window as u64)
    }

    fn norm(&self, x: &ShapeTensor, layer: &NormSpec) -> Result<ShapeTensor> {
        ShapeBackend.norm(x, layer)
    }

    fn embed(&self, ids: &ShapeTensor, table: &EmbeddingSpec) -> Result<ShapeTensor> {
        ShapeBackend.embed(ids, table)
    }

    fn activate(&self, x: &ShapeTensor, activation: Activation) -> Result<ShapeTensor> {
        ShapeBackend.activate(x, activation)
    }

    fn pool2d(&self, x: &ShapeTensor, spec: &Pool2dSpec) -> Result<ShapeTensor> {
        ShapeBackend.pool2d(x, spec)
    }

    fn attention(
        &self,
        q: &ShapeTensor,
        k: &ShapeTensor,
        v: &ShapeTensor,
        spec: &AttentionSpec,
        bias: Option<&ShapeTensor>,
    ) -> Result<ShapeTensor> {
        let y = ShapeBackend.attention(q, k, v, spec, bias)?;
        // A query meets every key once in the scores, and once more, in the width of values, in the sum.
        self.count(q.clone(), size(k, 1))?;
        self.count(y, size(k, 1))
    }

    fn rearrange(&self, x: &ShapeTensor, how: Rearrange) -> Result<ShapeTensor> {
        ShapeBackend.rearrange(x, how)
    }

    fn binary(&self, op: BinaryOp, a: &ShapeTensor, b: &ShapeTensor) -> Result<ShapeTensor> {
        ShapeBackend.binary(op, a, b)
    }

    fn matmul(&self, a: &ShapeTensor, b: &ShapeTensor) -> Result<ShapeTensor> {
        self.count(ShapeBackend.matmul(a, b)?, size(a, a.0.len().saturating_sub(1)))
    }

    fn reduce(&self, x: &ShapeTensor, op: ReduceOp, axis: usize) -> Result<ShapeTensor> {
        ShapeBackend.reduce(x, op, axis)
    }

    fn cat(&self, parts: &[&ShapeTensor], axis: usize) -> Result<ShapeTensor> {
        ShapeBackend.cat(parts, axis)
    }

    fn slice(&self, x: &ShapeTensor, axis: usize, start: &Dim, end: &Dim) -> Result<ShapeTensor> {
        ShapeBackend.slice(x, axis, start, end)
    }

    fn take_rows(&self, x: &ShapeTensor, index: &ShapeTensor) -> Result<ShapeTensor> {
        ShapeBackend.take_rows(x, index)
    }

    fn expand_batch(&self, x: &ShapeTensor, like: &ShapeTensor) -> Result<ShapeTensor> {
        ShapeBackend.expand_batch(x, like)
    }

    fn token_position(&self, ids: &ShapeTensor, which: TokenPosition) -> Result<ShapeTensor> {
        ShapeBackend.token_position(ids, which)
    }

    fn padding_bias(&self, ids: &ShapeTensor, pad_id: u32) -> Result<ShapeTensor> {
        ShapeBackend.padding_bias(ids, pad_id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::weights::synth::SynthesisedWeights;

    #[test]
    fn products_are_counted() {
        let counter = OperationCounter::default();
        let w = Weights::new(Arc::new(SynthesisedWeights::new()));
        let x = ShapeTensor::new([2, 5, 8]);
        let layer = counter.prepare_linear(&w, &LinearSpec::new(8, 12)).unwrap();
        counter.linear(&x, &layer).unwrap();
        assert_eq!(counter.operations(), 2 * 2 * 5 * 12 * 8);
        counter.attention(&x, &x, &x, &AttentionSpec::new(2, 4), None).unwrap();
        assert_eq!(counter.operations(), 2 * (2 * 5 * 12 * 8 + 2 * (2 * 5 * 5 * 8)));
        let unknown = ShapeTensor::new([Dim::symbol(crate::Symbol::BATCH), Dim::Fixed(8)]);
        assert!(counter.linear(&unknown, &layer).is_err());
    }
}
