//! The product in 32-bit floats.

use std::ops::Range;

use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, NumOps},
};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::amx::split;
use super::{
    Epilogue, PanelSource,
    product::{Arithmetic, Product},
};
use crate::cpu::matrix::{Matrix, MatrixMut};

/// `target = act(x W + b)`, or with what the target holds added before the activation, for the columns of `panels` (all
/// panels of `weights` are `0..N.div_ceil(width)`).
///
/// # Shapes
/// `x [M, K]`, `weights [K, N]`, `target [M, the columns of the panels]`, and the epilogue's bias `[N]`.
pub fn multiply<W: PanelSource<Word = f32>>(
    x: Matrix,
    weights: &W,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    let product = Product { x, weights, panels, target, epilogue };
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if split::suits(product.x.rows(), weights.depth(), product.target.columns()) {
        return split::multiply(product);
    }
    Multiply(product).dispatch();
}

struct Multiply<'a, W: PanelSource>(Product<'a, W>);

impl<W: PanelSource<Word = f32>> SimdOp for Multiply<'_, W> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        self.0.run(isa, Floats);
    }
}

/// One number at each step.
#[derive(Clone, Copy)]
struct Floats;

impl<I: Isa> Arithmetic<I> for Floats {
    type Word = f32;
    type Words = I::F32;

    #[inline(always)]
    fn splat(self, isa: I, word: f32) -> I::F32 {
        isa.f32().splat(word)
    }

    #[inline(always)]
    unsafe fn load(self, isa: I, words: *const f32) -> I::F32 {
        // SAFETY: the caller's promise.
        unsafe { isa.f32().load_ptr(words) }
    }

    #[inline(always)]
    fn multiply_add(self, isa: I, a: I::F32, b: I::F32, sum: I::F32) -> I::F32 {
        isa.f32().mul_add(a, b, sum)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use openclip_core::backend::Activation;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::gemm::{Compressed, Operand, Panels};

    fn sample(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 400.0 - 2.0).collect()
    }

    proptest! {
        #[test]
        fn every_source_of_panels_gives_the_product(
            rows in 1_usize..50, depth in 0_usize..70, deep: bool, columns in 1_usize..150, accumulate: bool, relu: bool,
        ) {
            // Deep ones have several blocks and passes.
            let depth = if deep { 20 * depth } else { depth };
            let (x, bias, held) = (sample(rows * depth, 1), sample(columns, 3), sample(rows * columns, 4));
            let integers: Vec<i8> = (0..columns * depth).map(|index| (index * 7919 % 255) as i8).collect();
            // They are numbers that all sources can hold.
            let scales = vec![0.0625; columns];
            let weight: Vec<f32> = integers.iter().map(|&value| f32::from(value) * 0.0625).collect();
            let at = |k: usize, n: usize| k * columns + n;
            let epilogue =
                Epilogue { bias: Some(&bias), accumulate, activation: relu.then_some(Activation::Relu) };

            let floats = Panels::new(depth, columns, |k, n| weight[at(k, n)]);
            let halves = Panels::new(depth, columns, |k, n| f16::from_f32(weight[at(k, n)]).to_bits());
            let bytes = Compressed::int8(Panels::new(depth, columns, |k, n| integers[at(k, n)]), scales);
            let operand = Operand::new(Matrix::new(&weight, depth, columns, columns));
            let matrix = Matrix::new(&x, rows, depth, depth);
            let all = 0..columns.div_ceil(floats.width());
            let mut results = [(); 4].map(|()| held.clone());
            let [a, b, c, d] = results.each_mut().map(|result| MatrixMut::new(result, rows, columns, columns));
            multiply(matrix, &floats, all.clone(), a, epilogue);
            multiply(matrix, &Compressed::F16(halves), all.clone(), b, epilogue);
            multiply(matrix, &bytes, all.clone(), c, epilogue);
            multiply(matrix, &operand, all, d, epilogue);

            for (place, &first) in results[0].iter().enumerate() {
                let (row, column) = (place / columns, place % columns);
                let terms = (0..depth).map(|k| f64::from(x[row * depth + k]) * f64::from(weight[at(k, column)]));
                let ends = [bias[column], if accumulate { held[place] } else { 0.0 }].map(f64::from);
                let (sum, size) = terms
                    .chain(ends)
                    .fold((0.0, 0.0), |(sum, size), term| (sum + term, size + f64::abs(term)));
                let expected = if relu { f64::max(sum, 0.0) } else { sum };
                let bound = (depth + 2) as f64 * f64::from(f32::EPSILON) / 2.0 * size;
                let found = [first, results[1][place], results[2][place], results[3][place]];
                prop_assert!(
                    found.iter().all(|&found| (f64::from(found) - expected).abs() <= bound),
                    "at {}, {}: {:?} for {}, bound {}", row, column, found, expected, bound
                );
            }
        }
    }
}
