//! Normalisation of rows.

use openclip_core::backend::NormKind;
use rten_simd::SimdOp;
use rten_vecmath::{Normalize, NormalizeOptions, Sum, SumSquareSub};

use super::{
    matrix::{Matrix, MatrixMut},
    threads::Threads,
};

/// Normalisation over the last axis. The variance is computed from deviations from the mean: the difference of
/// mean square and squared mean loses all digits where a channel is large everywhere.
#[derive(Debug)]
pub struct RowNorm {
    /// What is made equal.
    pub kind: NormKind,
    /// Added to the variance.
    pub eps: f32,
    /// Factor per feature.
    pub weight: Option<Vec<f32>>,
    /// Summand per feature.
    pub bias: Option<Vec<f32>>,
    /// Size of the last axis.
    pub features: usize,
}

impl RowNorm {
    /// `x [M, features]` to `target [M, features]`.
    pub fn run(&self, x: Matrix, target: MatrixMut, threads: Threads) {
        threads.rows(x, target, |x, mut target| {
            for row in 0..x.rows() {
                self.row(x.row(row), target.row(row));
            }
        });
    }

    fn row(&self, x: &[f32], target: &mut [f32]) {
        let mean = match self.kind {
            NormKind::Layer => Sum::new(x).dispatch() / self.features as f32,
            NormKind::Rms => 0.0,
        };
        let variance = SumSquareSub::new(x, mean).dispatch() / self.features as f32;
        let options = NormalizeOptions {
            pre_scale_bias: mean,
            scale: (variance + self.eps).sqrt().recip(),
            element_scale: self.weight.as_deref(),
            element_bias: self.bias.as_deref(),
            ..NormalizeOptions::default()
        };
        target.copy_from_slice(x);
        Normalize::new_mut(target, options).dispatch();
    }
}
