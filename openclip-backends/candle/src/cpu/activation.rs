//! Activations, vectorised for the processor at hand.

use openclip_core::backend::Activation;
use rayon::prelude::*;
use rten_simd::{
    Isa, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

/// Values that one task works on: small enough to stay in the first-level cache.
const CHUNK: usize = 4096;

/// `max(x, 0)`.
pub struct Relu;

impl SimdUnaryOp<f32> for Relu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        ops.max(x, ops.zero())
    }
}

/// Evaluates `$body` with `$op` being the [`SimdUnaryOp`] of `$activation`.
macro_rules! with_activation {
    ($activation:expr, $op:ident => $body:expr) => {{
        use openclip_core::backend::Activation;
        use rten_vecmath::{ApproxGelu, Gelu, Sigmoid, Silu, Swish, Tanh};
        macro_rules! with {
            ($value:expr) => {{
                let $op = $value;
                $body
            }};
        }
        match $activation {
            Activation::GeluErf => with!(Gelu {}),
            Activation::GeluTanh => with!(ApproxGelu {}),
            Activation::QuickGelu => with!(Swish { alpha: 1.702 }),
            Activation::Silu => with!(Silu {}),
            Activation::Sigmoid => with!(Sigmoid {}),
            Activation::Tanh => with!(Tanh {}),
            Activation::Relu => with!($crate::cpu::activation::Relu),
        }
    }};
}
pub(super) use with_activation;

/// Applies `activation` to every value, on all threads.
pub fn activate(values: &mut [f32], activation: Activation) {
    with_activation!(activation, op => values.par_chunks_mut(CHUNK).for_each(|chunk| op.map_mut(chunk)));
}
