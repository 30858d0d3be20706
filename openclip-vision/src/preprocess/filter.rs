//! Filter coefficients of a one-dimensional resampling, computed in double precision exactly as Pillow's
//! `precompute_coeffs` (`libImaging/Resample.c`) does, for those output positions that a crop keeps.

use std::ops::Range;

use super::config::Interpolation;

/// Fraction bits of 8-bit coefficients: 32 bits less 8 for the sample and 2 for overshoot.
pub(crate) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Which source samples make an output sample, and with which weights.
#[derive(Clone, Debug)]
pub(crate) struct Coefficients {
    /// First source sample and number of source samples, per output sample.
    pub bounds: Vec<(usize, usize)>,
    /// `taps` weights per output sample, zero beyond its number of source samples.
    pub weights: Vec<f64>,
    /// Weights per output sample.
    pub taps: usize,
}

impl Coefficients {
    /// The coefficients that resize `source` samples to `resized`, for the output samples in `window`.
    pub(crate) fn new(source: usize, resized: usize, window: Range<usize>, filter: Interpolation) -> Self {
        let (kernel, radius): (fn(f64) -> f64, f64) = match filter {
            Interpolation::Bilinear => (triangle, 1.0),
            Interpolation::Bicubic | Interpolation::Random => (cubic, 2.0),
        };
        // Pillow keeps the source box in single precision.
        let scale = f64::from(source as f32) / resized as f64;
        let filter_scale = scale.max(1.0);
        let support = radius * filter_scale;
        let inverse = 1.0 / filter_scale;
        let taps = (support.ceil() as usize) * 2 + 1;
        let mut bounds = Vec::with_capacity(window.len());
        let mut weights = vec![0.0; window.len() * taps];
        for (row, output) in weights.chunks_exact_mut(taps).zip(window) {
            let center = (output as f64 + 0.5) * scale;
            // Float to integer conversion truncates and saturates, which does the lower clamp.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(source);
            let count = end.saturating_sub(first).min(taps);
            let row = &mut row[..count];
            let mut sum = 0.0;
            for (index, weight) in row.iter_mut().enumerate() {
                *weight = kernel(((index + first) as f64 - center + 0.5) * inverse);
                sum += *weight;
            }
            if sum != 0.0 {
                row.iter_mut().for_each(|weight| *weight /= sum);
            }
            bounds.push((first, count));
        }
        Self { bounds, weights, taps }
    }

    /// The weights in fixed point, rounded half away from zero.
    pub(crate) fn fixed_point(&self) -> Vec<i32> {
        let one = f64::from(1_u32 << PRECISION_BITS);
        self.weights.iter().map(|&w| (w * one + if w < 0.0 { -0.5 } else { 0.5 }) as i32).collect()
    }

    /// The range of source samples that any output sample uses.
    pub(crate) fn source_range(&self) -> Range<usize> {
        let start = self.bounds.iter().map(|bound| bound.0).min().unwrap_or(0);
        let end = self.bounds.iter().map(|bound| bound.0 + bound.1).max().unwrap_or(0);
        start..end.max(start)
    }

    /// The same with source positions counted from `origin`.
    pub(crate) fn shifted(mut self, origin: usize) -> Self {
        self.bounds.iter_mut().for_each(|bound| bound.0 = bound.0.saturating_sub(origin));
        self
    }
}

/// The linear kernel.
fn triangle(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 { 1.0 - x } else { 0.0 }
}

/// Cubic convolution with `a = -0.5` (Keys, 1981), in the order of operations that Pillow uses.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_sum_to_one_and_bounds_stay_inside(source in 1_usize..4000, resized in 1_usize..900, cubic: bool) {
            let filter = if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let all = Coefficients::new(source, resized, 0..resized, filter);
            let fixed = all.fixed_point();
            for (index, &(first, count)) in all.bounds.iter().enumerate() {
                prop_assert!(count >= 1 && first + count <= source);
                let row = index * all.taps..(index + 1) * all.taps;
                prop_assert!((all.weights[row.clone()].iter().sum::<f64>() - 1.0).abs() < 1e-9);
                let sum: i64 = fixed[row].iter().map(|&w| i64::from(w)).sum();
                prop_assert!((sum - (1 << PRECISION_BITS)).unsigned_abs() <= all.taps as u64);
            }
            // A window's coefficients are those of the whole.
            let (start, end) = (resized / 3, resized - resized / 4);
            let part = Coefficients::new(source, resized, start..end, filter);
            prop_assert_eq!(&part.bounds[..], &all.bounds[start..end]);
            prop_assert_eq!(&part.weights[..], &all.weights[start * all.taps..end * all.taps]);
        }
    }
}
