//! Scores and weighted sums of one query at a time, on keys and values where they stand: with few queries, packing keys and
//! values for a product costs more than the product.

use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, NumOps},
};

use crate::cpu::matrix::Matrix;

/// Registers of sums that are kept while all values pass.
const SUMS: usize = 4;

/// `scores = scale * keys query`.
pub struct Scores<'a> {
    /// `[E]`.
    pub query: &'a [f32],
    /// `[L, E]`.
    pub keys: Matrix<'a>,
    pub scale: f32,
    /// `[L]`.
    pub scores: &'a mut [f32],
}

impl SimdOp for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let query = self.query.chunks_exact(lanes);
        let (rest, _) = ops.load_pad(query.remainder());
        for (row, score) in self.scores.iter_mut().enumerate() {
            let key = self.keys.row(row).chunks_exact(lanes);
            let mut sum = ops.mul(rest, ops.load_pad(key.remainder()).0);
            for (query, key) in query.clone().zip(key) {
                sum = ops.mul_add(ops.load(query), ops.load(key), sum);
            }
            *score = self.scale * ops.sum(sum);
        }
    }
}

/// `sum = weights values`.
pub struct WeightedSum<'a> {
    /// `[L]`.
    pub weights: &'a [f32],
    /// `[L, E]`.
    pub values: Matrix<'a>,
    /// `[E]`.
    pub sum: &'a mut [f32],
}

impl SimdOp for WeightedSum<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let mut blocks = self.sum.chunks_exact_mut(SUMS * lanes);
        let mut first = 0;
        for block in &mut blocks {
            let columns = first..first + block.len();
            let mut sums = [ops.zero(); SUMS];
            for (row, &weight) in self.weights.iter().enumerate() {
                let (weight, value) = (ops.splat(weight), &self.values.row(row)[columns.clone()]);
                for (sum, value) in sums.iter_mut().zip(value.chunks_exact(lanes)) {
                    *sum = ops.mul_add(weight, ops.load(value), *sum);
                }
            }
            block.chunks_exact_mut(lanes).zip(sums).for_each(|(target, sum)| ops.store(sum, target));
            first = columns.end;
        }
        let rest = blocks.into_remainder();
        rest.fill(0.0);
        for (row, weight) in self.weights.iter().enumerate() {
            let values = &self.values.row(row)[first..];
            rest.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
        }
    }
}
