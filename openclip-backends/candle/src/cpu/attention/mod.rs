//! Multi-head attention on queries, keys and values where they stand, one head and some queries at a time, so that no
//! more scores exist than the second-level cache holds.

mod dots;

use openclip_core::{HostTensor, backend::AttentionSpec};
use rayon::prelude::*;
use rten_simd::SimdOp;
use rten_vecmath::Softmax;

use self::dots::{Scores, WeightedSum};
use super::{
    gemm::{Epilogue, Operand, multiply},
    matrix::{Matrix, MatrixMut},
    scratch::Scratch,
    threads::{Threads, pieces},
};

/// Queries whose scores are computed together.
const QUERIES: usize = 96;
/// Queries for which keys and values aren't packed.
const FEW: usize = 8;
/// Multiplications that aren't worth another thread.
const SMALL: usize = 1 << 17;

/// `softmax(scale * q k^T + mask + bias) v`, head by head.
#[derive(Debug)]
pub struct Attention<'a> {
    /// Heads, scale and mask.
    pub spec: AttentionSpec,
    /// Added to the scores; axes `[N or 1, heads or 1, Lq or 1, Lk or 1]`.
    pub bias: Option<&'a HostTensor>,
}

impl Attention<'_> {
    /// # Shapes
    /// For the input at place `input` of the batch: `q [Lq, heads*E]`, `k [Lk, heads*E]`, `v [Lk, heads*V]`,
    /// `target [Lq, heads*V]`.
    pub fn run(&self, input: usize, q: Matrix, k: Matrix, v: Matrix, target: MatrixMut, threads: Threads) {
        let heads = self.spec.heads;
        let (width, value_width) = (q.columns() / heads, v.columns() / heads);
        let one = |head: usize, target: MatrixMut| {
            let columns = |width: usize| head * width..(head + 1) * width;
            self.head(
                (input, head),
                q.part(0..q.rows(), columns(width)),
                k.part(0..k.rows(), columns(width)),
                v.part(0..v.rows(), columns(value_width)),
                target,
            );
        };
        let mut rest = Some(target);
        let targets = (0..heads).filter_map(|head| {
            let (target, others) = rest.take()?.split_columns(value_width);
            rest = Some(others);
            Some((head, target))
        });
        let work = q.rows() * k.rows() * (q.columns() + v.columns());
        match threads {
            Threads::All if work < SMALL => targets.for_each(|(head, target)| one(head, target)),
            Threads::One => targets.for_each(|(head, target)| one(head, target)),
            Threads::All => {
                let targets: Vec<_> = targets.collect();
                targets.into_par_iter().for_each(|(head, target)| one(head, target));
            }
        }
    }

    fn head(&self, place: (usize, usize), q: Matrix, k: Matrix, v: Matrix, target: MatrixMut) {
        let keys = k.rows();
        if q.rows() <= FEW {
            return self.few(place, q, k, v, target);
        }
        let transposed = Operand::transposed(k, self.spec.scale);
        let values = Operand::new(v);
        let mut rest = Some(target);
        for queries in pieces(q.rows(), q.rows().div_ceil(QUERIES)) {
            let Some((target, others)) = rest.take().map(|rest| rest.split_rows(queries.len())) else {
                break;
            };
            rest = Some(others);
            let mut scores = Scratch::new(queries.len() * keys);
            let product = MatrixMut::new(&mut scores, queries.len(), keys, keys);
            let all = 0..transposed.panels();
            multiply(q.part(queries.clone(), 0..q.columns()), &transposed, all, product, Epilogue::default());
            for (query, row) in queries.clone().zip(scores.chunks_exact_mut(keys.max(1))) {
                self.weigh(row, place, query);
            }
            let weights = Matrix::new(&scores, queries.len(), keys, keys);
            multiply(weights, &values, 0..values.panels(), target, Epilogue::default());
        }
    }

    /// A head of so few queries that each reads keys and values for itself.
    fn few(&self, place: (usize, usize), q: Matrix, k: Matrix, v: Matrix, mut target: MatrixMut) {
        let mut scores = Scratch::new(k.rows());
        for query in 0..q.rows() {
            let scale = self.spec.scale;
            Scores { query: q.row(query), keys: k, scale, scores: &mut scores }.dispatch();
            self.weigh(&mut scores, place, query);
            WeightedSum { weights: &scores, values: v, sum: target.row(query) }.dispatch();
        }
    }

    /// Adds mask and bias to one query's scores and turns them into weights.
    fn weigh(&self, scores: &mut [f32], (input, head): (usize, usize), query: usize) {
        if let Some(bias) = self.bias {
            let dims = bias.dims();
            let at = |axis: usize, index: usize| if dims[axis] == 1 { 0 } else { index };
            let line = (at(0, input) * dims[1] + at(1, head)) * dims[2] + at(2, query);
            let line = &bias.data()[line * dims[3]..(line + 1) * dims[3]];
            scores.iter_mut().enumerate().for_each(|(key, score)| *score += line[at(3, key)]);
        }
        let seen = if self.spec.causal { scores.len().min(query + 1) } else { scores.len() };
        let (visible, hidden) = scores.split_at_mut(seen);
        Softmax::new_mut(visible).dispatch();
        hidden.fill(0.0);
    }
}
