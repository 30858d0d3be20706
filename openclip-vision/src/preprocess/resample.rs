//! Resizing of 8-bit images in Pillow's fixed-point arithmetic: two passes with rounding to 8 bits between them, bit
//! for bit equal to `ImagingResample`. Only the rows and columns that the crop keeps are computed.
//!
//! The horizontal pass works on [`LANES`] rows at once, transposed so that a tap is one multiply-add over adjacent
//! bytes; the vertical pass runs along rows. Both are plain loops that the compiler vectorises for the instruction set
//! that is found at run time.

use pulp::Arch;

use super::config::Interpolation;
use super::filter::{Coefficients, PRECISION_BITS};
use super::geometry::Span;

/// Rows that the horizontal pass handles together.
const LANES: usize = 16;
/// Samples that the vertical pass handles together.
const BLOCK: usize = 64;
/// One half in fixed point, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Whether Pillow runs the vertical pass first: when the height shrinks by more than twice as many pixels as the
/// width does.
pub(crate) fn vertical_first(x: Span, y: Span) -> bool {
    let shrink = |span: Span| span.source as i64 - span.resized as i64;
    shrink(y) > 0 && shrink(y) > shrink(x) * 2
}

/// Resizes and crops an interleaved 8-bit image of `C` channels; the result is the crop's window.
pub(crate) fn resize<const C: usize>(source: &[u8], x: Span, y: Span, filter: Interpolation) -> Vec<u8> {
    let arch = Arch::new();
    let (columns, rows) = (x.window(), y.window());
    let horizontal =
        (x.source != x.resized).then(|| Coefficients::new(x.source, x.resized, columns.clone(), filter));
    let vertical =
        (y.source != y.resized).then(|| Coefficients::new(y.source, y.resized, rows.clone(), filter));
    match (horizontal, vertical) {
        (None, None) => crop::<C>(source, x.source, columns, rows),
        (Some(h), None) => arch.dispatch(Horizontal::<C>::new(source, x.source, rows, &h)),
        (None, Some(v)) => {
            let kept = crop::<C>(source, x.source, columns.clone(), 0..y.source);
            arch.dispatch(Vertical::new(&kept, columns.len() * C, &v))
        }
        (Some(h), Some(v)) if vertical_first(x, y) => {
            let used = h.source_range();
            let kept = crop::<C>(source, x.source, used.clone(), 0..y.source);
            let middle = arch.dispatch(Vertical::new(&kept, used.len() * C, &v));
            arch.dispatch(Horizontal::<C>::new(&middle, used.len(), 0..rows.len(), &h.shifted(used.start)))
        }
        (Some(h), Some(v)) => {
            let used = v.source_range();
            let middle = arch.dispatch(Horizontal::<C>::new(source, x.source, used.clone(), &h));
            arch.dispatch(Vertical::new(&middle, columns.len() * C, &v.shifted(used.start)))
        }
    }
}

/// The window `columns` by `rows` of an image.
pub(crate) fn crop<const C: usize>(
    source: &[u8],
    width: usize,
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
) -> Vec<u8> {
    if columns.len() == width {
        return source[rows.start * width * C..rows.end * width * C].to_vec();
    }
    source[rows.start * width * C..rows.end * width * C]
        .chunks_exact(width * C)
        .flat_map(|row| &row[columns.start * C..columns.end * C])
        .copied()
        .collect()
}

#[inline(always)]
fn clip8(value: i32) -> u8 {
    (value >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The horizontal pass over some rows of an image.
struct Horizontal<'a, const C: usize> {
    source: &'a [u8],
    width: usize,
    rows: std::ops::Range<usize>,
    coefficients: &'a Coefficients,
    weights: Vec<i32>,
}

impl<'a, const C: usize> Horizontal<'a, C> {
    fn new(
        source: &'a [u8],
        width: usize,
        rows: std::ops::Range<usize>,
        coefficients: &'a Coefficients,
    ) -> Self {
        Self { source, width, rows, coefficients, weights: coefficients.fixed_point() }
    }
}

impl<const C: usize> pulp::NullaryFnOnce for Horizontal<'_, C> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let used = self.coefficients.source_range();
        let out_width = self.coefficients.bounds.len() * C;
        let mut block = vec![[0_u8; LANES]; used.len() * C];
        let mut output = vec![0_u8; self.rows.len() * out_width];
        let stride = self.width * C;
        let source = &self.source[self.rows.start * stride..self.rows.end * stride];
        for (input, output) in source.chunks(LANES * stride).zip(output.chunks_mut(LANES * out_width.max(1)))
        {
            transpose(input, stride, used.start * C, &mut block);
            for (x, (&(first, count), weights)) in self
                .coefficients
                .bounds
                .iter()
                .zip(self.weights.chunks_exact(self.coefficients.taps))
                .enumerate()
            {
                let start = (first - used.start) * C;
                let mut sums = [[HALF; LANES]; C];
                for (pixel, &weight) in
                    block[start..start + count * C].as_chunks::<C>().0.iter().zip(&weights[..count])
                {
                    for (sums, samples) in sums.iter_mut().zip(pixel) {
                        for (sum, &sample) in sums.iter_mut().zip(samples) {
                            *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
                        }
                    }
                }
                for (lane, row) in output.chunks_exact_mut(out_width).enumerate() {
                    for (channel, sums) in sums.iter().enumerate() {
                        row[x * C + channel] = clip8(sums[lane]);
                    }
                }
            }
        }
        output
    }
}

/// Gathers sample `offset + i` of up to [`LANES`] rows into `block[i]`.
#[inline(always)]
fn transpose(rows: &[u8], stride: usize, offset: usize, block: &mut [[u8; LANES]]) {
    if rows.len() == LANES * stride {
        let rows: [&[u8]; LANES] =
            std::array::from_fn(|lane| &rows[lane * stride + offset..lane * stride + offset + block.len()]);
        for (index, lanes) in block.iter_mut().enumerate() {
            *lanes = std::array::from_fn(|lane| rows[lane][index]);
        }
        return;
    }
    for (lane, row) in rows.chunks_exact(stride).enumerate() {
        for (lanes, &sample) in block.iter_mut().zip(&row[offset..]) {
            lanes[lane] = sample;
        }
    }
}

/// The vertical pass over rows of `stride` samples.
struct Vertical<'a> {
    source: &'a [u8],
    stride: usize,
    coefficients: &'a Coefficients,
    weights: Vec<i32>,
}

impl<'a> Vertical<'a> {
    fn new(source: &'a [u8], stride: usize, coefficients: &'a Coefficients) -> Self {
        Self { source, stride, coefficients, weights: coefficients.fixed_point() }
    }
}

impl pulp::NullaryFnOnce for Vertical<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let mut output = vec![0_u8; self.coefficients.bounds.len() * self.stride];
        for ((row, &(first, count)), weights) in output
            .chunks_exact_mut(self.stride.max(1))
            .zip(&self.coefficients.bounds)
            .zip(self.weights.chunks_exact(self.coefficients.taps))
        {
            let rows = &self.source[first * self.stride..(first + count) * self.stride];
            let weights = &weights[..count];
            let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
            let done = blocks.len() * BLOCK;
            for (index, block) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (source, &weight) in rows.chunks_exact(self.stride).zip(weights) {
                    accumulate(&mut sums, &source[index * BLOCK..(index + 1) * BLOCK], weight);
                }
                *block = sums.map(clip8);
            }
            let mut sums = [HALF; BLOCK];
            for (source, &weight) in rows.chunks_exact(self.stride).zip(weights) {
                accumulate(&mut sums[..rest.len()], &source[done..], weight);
            }
            rest.iter_mut().zip(sums).for_each(|(sample, sum)| *sample = clip8(sum));
        }
        output
    }
}

#[inline(always)]
fn accumulate(sums: &mut [i32], samples: &[u8], weight: i32) {
    for (sum, &sample) in sums.iter_mut().zip(samples) {
        *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
    }
}
