//! The product in bfloat16: weights that were rounded once, and rows of `X` that are rounded on the fly; sums are 32-bit
//! floats.
//!
//! Neighbours in depth are stored as pairs. A processor with AVX-512 BF16 multiplies and adds them as they are, at twice the
//! speed of `f32`. For any other they become 32-bit floats again, the weights block by block. A product of two bfloat16
//! numbers is exact in `f32`, so both differ by no more than the order of their sums, and by numbers below `f32::MIN_POSITIVE`,
//! which the instruction takes for zero.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use half::bf16;
use openclip_core::backend::WeightLayout;
use rayon::prelude::*;
use rten_simd::{Isa, SimdOp};

use super::{Epilogue, PanelSource, Panels};
use crate::cpu::{
    aligned::AlignedVec,
    gemm,
    matrix::{Matrix, MatrixMut},
    packed::PackedValues,
    scratch::Scratch,
    threads::Threads,
};

/// How pairs are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// As they are, by tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Tiles,
    /// As they are, by `vdpbf16ps`.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// As 32-bit floats.
    Widened,
}

impl Kernel {
    /// The kernels that run on this processor, the best first.
    fn available() -> impl Iterator<Item = Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        let tiles = gemm::amx::is_available().then_some(Self::Tiles);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let tiles = None;
        #[cfg(target_arch = "x86_64")]
        let pairs = x86::is_available().then_some(Self::Pairs);
        #[cfg(not(target_arch = "x86_64"))]
        let pairs = None;
        tiles.into_iter().chain(pairs).chain([Self::Widened])
    }

    fn best() -> Self {
        Self::available().next().unwrap_or(Self::Widened)
    }
}

/// Pairs of a row or column of `depth` values, filled up with zeros to what the processor takes at a time.
fn pairs_of(depth: usize) -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if gemm::amx::is_available() {
        return depth.div_ceil(2).next_multiple_of(gemm::amx::STEP);
    }
    depth.div_ceil(2)
}

/// Weights `[K, N]` in panels of pairs `[N / width, K / 2, width]`: the bits of the even row below those of the odd one.
#[derive(Debug)]
pub struct Bf16Panels {
    pairs: Panels<u32>,
    depth: usize,
}

impl Bf16Panels {
    /// Rounds and packs `weight`, whose columns `K` long lie one after the other or side by side as `layout` says.
    pub fn new(weight: &[f32], layout: WeightLayout, depth: usize, columns: usize) -> Self {
        let bits = |value: f32| u32::from(bf16::from_f32(value).to_bits());
        let pair = |[even, odd]: [f32; 2]| bits(even) | bits(odd) << 16;
        let half = pairs_of(depth);
        let pairs = match layout {
            WeightLayout::OutIn if depth == 2 * half => {
                Panels::of_columns(weight.as_chunks().0, half, columns, pair)
            }
            _ => {
                let value = |k: usize, n: usize| match layout {
                    _ if k >= depth => 0.0,
                    WeightLayout::OutIn => weight[n * depth + k],
                    WeightLayout::InOut => weight[k * columns + n],
                };
                Panels::new(half, columns, |k, n| pair([value(2 * k, n), value(2 * k + 1, n)]))
            }
        };
        Self { pairs, depth }
    }

    /// Panels that have been packed before; `None` when `pairs` isn't as long as they are.
    pub fn from_pairs(depth: usize, columns: usize, pairs: PackedValues<u32>) -> Option<Self> {
        Some(Self { pairs: Panels::from_values(pairs_of(depth), columns, pairs)?, depth })
    }

    /// Dimensions of the panels of a `[K, N]` matrix.
    pub fn dims(depth: usize, columns: usize) -> [usize; 3] {
        Panels::<u32>::dims(pairs_of(depth), columns)
    }

    /// All panels.
    pub fn pairs(&self) -> &PackedValues<u32> {
        self.pairs.values()
    }

    /// Rows `K`.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns `N`.
    pub fn columns(&self) -> usize {
        self.pairs.columns()
    }

    /// Columns of a panel.
    pub fn width(&self) -> usize {
        self.pairs.width()
    }
}

/// A matrix `[M, K]` that was rounded to bfloat16.
pub struct Bf16Rows {
    /// Pairs or 32-bit floats, filled up with zeros to whole pairs.
    words: Scratch,
    rows: usize,
    depth: usize,
    stride: usize,
    kernel: Kernel,
}

impl Bf16Rows {
    /// Rounds the rows of `x`.
    pub fn new(x: Matrix, threads: Threads) -> Self {
        Self::for_kernel(x, threads, Kernel::best())
    }

    fn for_kernel(x: Matrix, threads: Threads, kernel: Kernel) -> Self {
        let (rows, depth) = (x.rows(), x.columns());
        let words = match kernel {
            Kernel::Widened => 2 * pairs_of(depth),
            #[cfg(target_arch = "x86_64")]
            _ => pairs_of(depth),
        };
        // A gap keeps rows that lie a power of two apart from sharing the same places of a cache.
        let stride = words + 16;
        // A last tile may reach over the end.
        let spare = match kernel {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Kernel::Tiles => gemm::amx::ROWS,
            _ => 0,
        };
        let mut rounded = Scratch::new((rows + spare) * stride);
        let round = |(row, target): (usize, &mut [f32])| {
            Round { x: x.row(row), words: bytemuck::cast_slice_mut(&mut target[..words]), kernel }.dispatch();
        };
        match threads {
            Threads::One => rounded.chunks_exact_mut(stride).take(rows).enumerate().for_each(round),
            Threads::All => {
                rounded.par_chunks_exact_mut(stride).take(rows).with_min_len(32).enumerate().for_each(round)
            }
        }
        Self { words: rounded, rows, depth, stride, kernel }
    }

    /// `rows` as a matrix of what the kernel takes, `words` of it for each row.
    fn matrix<T: bytemuck::Pod>(&self, rows: Range<usize>, words: usize) -> Matrix<'_, T> {
        let all = Matrix::new(bytemuck::cast_slice(&self.words), self.rows, words, self.stride);
        all.part(rows, 0..words)
    }
}

/// Rounds a row.
struct Round<'a> {
    x: &'a [f32],
    words: &'a mut [u32],
    kernel: Kernel,
}

impl SimdOp for Round<'_> {
    type Output = ();

    // Plain loops, which are compiled for each instruction set.
    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Self { x, words, kernel } = self;
        match kernel {
            Kernel::Widened => {
                words.iter_mut().zip(x).for_each(|(word, &value)| *word = rounded(value));
                words[x.len()..].fill(0);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let (pairs, rest) = x.as_chunks::<2>();
                let (words, padding) = words.split_at_mut(pairs.len());
                for (word, &[even, odd]) in words.iter_mut().zip(pairs) {
                    *word = rounded(even) >> 16 | rounded(odd);
                }
                padding.fill(0);
                if let (Some(word), &[even]) = (padding.first_mut(), rest) {
                    *word = rounded(even) >> 16;
                }
            }
        }
    }
}

/// The bits of the nearest bfloat16 as `f32`, the even one of two. What isn't a number stays that.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    (if value.is_nan() { quiet } else { nearest }) & 0xffff_0000
}

/// `target = act(x W + b)`, or with what the target holds added before the activation, for `rows` of `x` and the columns
/// of `panels`.
///
/// # Shapes
/// `x [M, K]`, `weights [K, N]`, `target [the rows, the columns of the panels]`, and the epilogue's bias `[N]`.
pub fn multiply(
    x: &Bf16Rows,
    rows: Range<usize>,
    weights: &Bf16Panels,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    assert_eq!(x.depth, weights.depth, "depth of a product");
    let pairs = &weights.pairs;
    match x.kernel {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Kernel::Tiles => amx::multiply(x, rows, pairs, panels, target, epilogue),
        #[cfg(target_arch = "x86_64")]
        Kernel::Pairs => {
            let x = x.matrix(rows, pairs.depth());
            x86::multiply(super::product::Product { x, weights: pairs, panels, target, epilogue });
        }
        Kernel::Widened => {
            let x = x.matrix(rows, 2 * pairs.depth());
            super::multiply(x, &Widened(pairs), panels, target, epilogue);
        }
    }
}

/// Values that are widened together: every panel is this wide or twice as wide, and loops of a fixed length need no checks.
const LANES: usize = 16;

/// Pairs that become 32-bit floats, block by block.
struct Widened<'a>(&'a Panels<u32>);

impl PanelSource for Widened<'_> {
    type Word = f32;

    fn depth(&self) -> usize {
        2 * self.0.depth()
    }

    fn columns(&self) -> usize {
        self.0.columns()
    }

    fn width(&self) -> usize {
        self.0.width()
    }

    fn stored(&self, index: usize, depths: Range<usize>) -> &[u8] {
        self.0.bytes(index, depths.start / 2..depths.end.div_ceil(2))
    }

    // Inlined into the product, it is compiled for the product's instruction set.
    #[inline(always)]
    fn block<'a>(
        &'a self,
        index: usize,
        depths: Range<usize>,
        scratch: &'a mut AlignedVec<f32>,
    ) -> &'a [f32] {
        let width = self.width();
        // A block may begin or end within a pair.
        let whole = depths.start / 2..depths.end.div_ceil(2);
        let widened = scratch.first(2 * whole.len() * width);
        let pairs = self.0.rows(index, whole.clone()).chunks_exact(width);
        for (target, pairs) in widened.chunks_exact_mut(2 * width).zip(pairs) {
            let (even, odd) = target.split_at_mut(width);
            let (even, odd) = (even.as_chunks_mut::<LANES>().0, odd.as_chunks_mut::<LANES>().0);
            for ((even, odd), pairs) in even.iter_mut().zip(odd).zip(pairs.as_chunks::<LANES>().0) {
                *even = pairs.map(|pair| f32::from_bits(pair << 16));
                *odd = pairs.map(|pair| f32::from_bits(pair & 0xffff_0000));
            }
        }
        let start = (depths.start - 2 * whole.start) * width;
        &scratch[start..start + depths.len() * width]
    }
}

#[cfg(test)]
mod tests {
    use openclip_core::backend::Activation;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::gemm;

    fn sample(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 400.0 - 2.0).collect()
    }

    fn product(
        kernel: Kernel,
        x: Matrix,
        weights: &Bf16Panels,
        mut result: Vec<f32>,
        epilogue: Epilogue,
    ) -> Vec<f32> {
        let (rows, columns) = (x.rows(), weights.columns());
        let target = MatrixMut::new(&mut result, rows, columns, columns);
        let x = Bf16Rows::for_kernel(x, Threads::One, kernel);
        multiply(&x, 0..rows, weights, 0..columns.div_ceil(weights.width()), target, epilogue);
        result
    }

    proptest! {
        #[test]
        fn kernels_agree_but_for_the_order_of_their_sums(
            rows in 1_usize..30, depth in 0_usize..70, deep: bool, columns in 1_usize..70, accumulate: bool, relu: bool,
        ) {
            // Deep ones have several blocks and passes.
            let depth = if deep { 20 * depth } else { depth };
            let (x, weight, bias) = (sample(rows * depth, 1), sample(columns * depth, 2), sample(columns, 3));
            let held = sample(rows * columns, 4);
            let weights = Bf16Panels::new(&weight, WeightLayout::OutIn, depth, columns);
            let side_by_side: Vec<f32> =
                (0..columns * depth).map(|at| weight[at % columns * depth + at / columns]).collect();
            let other = Bf16Panels::new(&side_by_side, WeightLayout::InOut, depth, columns);
            prop_assert_eq!(&weights.pairs()[..], &other.pairs()[..]);
            let activation = relu.then_some(Activation::Relu);
            let epilogue = Epilogue { bias: Some(&bias), accumulate, activation };
            let half = |value: f32| f64::from(bf16::from_f32(value).to_f32());
            for kernel in Kernel::available() {
                let found = product(kernel, Matrix::new(&x, rows, depth, depth), &weights, held.clone(), epilogue);
                for (place, &found) in found.iter().enumerate() {
                    let (row, column) = (place / columns, place % columns);
                    let terms = (0..depth).map(|k| half(x[row * depth + k]) * half(weight[column * depth + k]));
                    let ends = [bias[column], if accumulate { held[place] } else { 0.0 }].map(f64::from);
                    let (sum, size) = terms.chain(ends).fold((0.0, 0.0), |(sum, size), term| {
                        (sum + term, size + f64::abs(term))
                    });
                    let expected = if relu { f64::max(sum, 0.0) } else { sum };
                    // Every sum on the way is rounded by half a step of at most the sum of all sizes.
                    let bound = (depth + 2) as f64 * f64::from(f32::EPSILON) / 2.0 * size;
                    prop_assert!(
                        (f64::from(found) - expected).abs() <= bound,
                        "{:?} at {}, {}: {} for {}, bound {}", kernel, row, column, found, expected, bound
                    );
                }
            }
        }

        #[test]
        fn rows_are_rounded_to_the_nearest(bits: u32) {
            let value = f32::from_bits(bits);
            let (found, expected) = (f32::from_bits(rounded(value)), bf16::from_f32(value).to_f32());
            prop_assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
        }
    }

    #[test]
    fn what_is_no_number_stays_that_in_its_row() {
        let last_nan = f32::from_bits(0x7fff_ffff);
        for (place, special) in [(0, f32::NAN), (1, f32::INFINITY), (2, f32::NEG_INFINITY), (4, last_nan)] {
            let mut x = [0.5; 10];
            x[place] = special;
            let weight: Vec<f32> = (0..10).map(|at| (at / 2 + at % 2) as f32 - 1.5).collect();
            let weights = Bf16Panels::new(&weight, WeightLayout::InOut, 5, 2);
            for kernel in Kernel::available() {
                let x = Matrix::new(&x, 2, 5, 5);
                let found = product(kernel, x, &weights, vec![0.0; 4], Epilogue::default());
                let finite: Vec<_> = found.iter().map(|value| value.is_finite()).collect();
                assert_eq!(finite, [false, false, true, true], "{kernel:?}, {special}: {found:?}");
            }
        }
    }

    #[test]
    fn products_are_near_to_those_in_single_precision() {
        let (rows, depth, columns) = (50, 768, 96);
        // Sums of several samples, distributed like activations and weights.
        let normal = |index: usize, seed: usize| sample(12, 31 * index + seed).iter().sum::<f32>() / 4.0;
        let x: Vec<f32> = (0..rows * depth).map(|index| normal(index, 1)).collect();
        let weight: Vec<f32> = (0..columns * depth).map(|index| normal(index, 2) / 28.0).collect();
        let panels = Panels::new(depth, columns, |k, n| weight[n * depth + k]);
        let mut exact = vec![0.0; rows * columns];
        let all = 0..columns.div_ceil(panels.width());
        let (x, target) =
            (Matrix::new(&x, rows, depth, depth), MatrixMut::new(&mut exact, rows, columns, columns));
        gemm::multiply(x, &panels, all, target, Epilogue::default());
        let weights = Bf16Panels::new(&weight, WeightLayout::OutIn, depth, columns);
        for kernel in Kernel::available() {
            let found = product(kernel, x, &weights, vec![0.0; rows * columns], Epilogue::default());
            let dot = |a: &[f32], b: &[f32]| {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
            };
            for (found, exact) in found.chunks(columns).zip(exact.chunks(columns)) {
                let cosine = dot(found, exact) / (dot(found, found) * dot(exact, exact)).sqrt();
                assert!(1.0 - cosine < 2e-5, "{kernel:?}: {cosine}");
            }
        }
    }
}
