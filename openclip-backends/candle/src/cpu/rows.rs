//! Layer norm and activations, split over all cores and vectorised for the processor at hand.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use openclip_core::backend::Activation;
use rayon::prelude::*;
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{
    ApproxGelu, Gelu, Normalize, NormalizeOptions, Sigmoid, Silu, Sum, SumSquareSub, Swish, Tanh,
};

use super::contiguous;

/// Values that one task works on: small enough to stay in the first-level cache.
const CHUNK: usize = 4096;

/// Applies `activation` to every value.
pub fn activate_in_place(values: &mut [f32], activation: Activation) {
    fn apply(values: &mut [f32], op: impl SimdUnaryOp<f32> + Sync) {
        values.par_chunks_mut(CHUNK).for_each(|chunk| op.map_mut(chunk));
    }
    match activation {
        Activation::GeluErf => apply(values, Gelu {}),
        Activation::GeluTanh => apply(values, ApproxGelu {}),
        Activation::QuickGelu => apply(values, Swish { alpha: 1.702 }),
        Activation::Silu => apply(values, Silu {}),
        Activation::Sigmoid => apply(values, Sigmoid {}),
        Activation::Tanh => apply(values, Tanh {}),
        Activation::Relu => {
            values.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|x| *x = x.max(0.0)))
        }
    }
}

/// An activation as an operation of its own.
pub struct Activate(pub Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = contiguous("activate", storage, layout)?.to_vec();
        activate_in_place(&mut values, self.0);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }
}

/// Layer normalisation over the last axis. The variance is computed from deviations from the mean: the difference of
/// mean square and squared mean loses all digits where a channel is large everywhere.
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Factor per feature.
    pub weight: Option<Vec<f32>>,
    /// Summand per feature.
    pub bias: Option<Vec<f32>>,
    /// Size of the last axis.
    pub features: usize,
}

impl CustomOp1 for &LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let features = self.features;
        if layout.dims().last() != Some(&features) || features == 0 {
            candle_core::bail!("expected dimensions [.., {features}], found {:?}", layout.dims());
        }
        let mut values = contiguous("layer_norm", storage, layout)?.to_vec();
        let rows_per_task = (CHUNK / features).max(1);
        values.par_chunks_mut(rows_per_task * features).for_each(|rows| {
            for row in rows.chunks_exact_mut(features) {
                let mean = Sum::new(row).dispatch() / features as f32;
                let variance = SumSquareSub::new(row, mean).dispatch() / features as f32;
                let options = NormalizeOptions {
                    pre_scale_bias: mean,
                    scale: (variance + self.eps).sqrt().recip(),
                    element_scale: self.weight.as_deref(),
                    element_bias: self.bias.as_deref(),
                    ..NormalizeOptions::default()
                };
                Normalize::new_mut(row, options).dispatch();
            }
        });
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }
}
