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

/// `x / 2 (1 + erf(x / sqrt 2))`, within `2.4e-7 max(1, |x|)`.
///
/// `erf(x / sqrt 2) = x p(x^2)` where `|x|` is less than [`FLAT`](Self::FLAT), beyond which it is one or minus one in 32-bit
/// floats. `p` is the polynomial whose largest error, weighted as it counts in the result, is smallest. It has neither
/// exponential nor division, which take longer than all its terms.
pub struct GeluErf;

impl GeluErf {
    const FLAT: f32 = 5.3;

    /// Coefficients of `p` in powers of `x^2 / (FLAT^2 / 2) - 1`, which lies between -1 and 1, where powers lose no digits.
    const TERMS: [f32; 15] = [
        2.667_851_7e-1,
        -1.330_369_3e-1,
        9.852_808e-2,
        -7.918_139e-2,
        6.416_517_5e-2,
        -5.056_214_3e-2,
        3.780_126e-2,
        -2.651_308_7e-2,
        1.784_482e-2,
        -1.141_873_6e-2,
        5.920_406_4e-3,
        -2.453_791_2e-3,
        1.777_104_7e-3,
        -1.436_115_1e-3,
        4.594_294_6e-4,
    ];
}

impl SimdUnaryOp<f32> for GeluErf {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let (flat, one, minus_one) = (ops.splat(Self::FLAT), ops.one(), ops.splat(-1.0));
        let within = ops.clamp(x, ops.splat(-Self::FLAT), flat);
        let place =
            ops.mul_add(ops.mul(within, within), ops.splat(2.0 / (Self::FLAT * Self::FLAT)), minus_one);
        let mut sum = ops.zero();
        for &term in Self::TERMS.iter().rev() {
            sum = ops.mul_add(sum, place, ops.splat(term));
        }
        let erf = ops.clamp(ops.mul(within, sum), minus_one, one);
        let half = ops.mul(x, ops.splat(0.5));
        ops.mul_add(half, erf, half)
    }
}

/// Evaluates `$body` with `$op` being the [`SimdUnaryOp`] of `$activation`.
macro_rules! with_activation {
    ($activation:expr, $op:ident => $body:expr) => {{
        use openclip_core::backend::Activation;
        use rten_vecmath::{ApproxGelu, Sigmoid, Silu, Swish, Tanh};
        macro_rules! with {
            ($value:expr) => {{
                let $op = $value;
                $body
            }};
        }
        match $activation {
            Activation::GeluErf => with!($crate::cpu::activation::GeluErf),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// By its Taylor series, in 64 bits: `2 / sqrt(pi) sum (-1)^n z^(2n+1) / (n! (2n+1))`.
    fn erf(z: f64) -> f64 {
        if z.abs() > 5.0 {
            return z.signum();
        }
        let mut power = z;
        let mut sum = z;
        for n in 1..200 {
            power *= -z * z / f64::from(n);
            sum += power / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_is_exact_to_a_few_units_in_the_last_place() {
        let inputs: Vec<f32> = (-200_000..=200_000).map(|index| index as f32 / 10_000.0).collect();
        let mut found = inputs.clone();
        activate(&mut found, Activation::GeluErf);
        for (x, found) in inputs.into_iter().zip(found) {
            let wide = f64::from(x);
            let exact = wide / 2.0 * (1.0 + erf(wide * std::f64::consts::FRAC_1_SQRT_2));
            assert!((f64::from(found) - exact).abs() < 2.4e-7 * wide.abs().max(1.0), "{x}: {found}, {exact}");
        }
        let mut ends = [f32::NAN, -1e30, 1e30, f32::MIN, f32::MAX];
        activate(&mut ends, Activation::GeluErf);
        assert!(ends[0].is_nan() && ends[1..] == [0.0, 1e30, 0.0, f32::MAX], "{ends:?}");
    }
}
