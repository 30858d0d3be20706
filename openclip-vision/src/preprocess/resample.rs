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
use super::image::Region;
use super::scratch::BufferPool;

/// Samples that are summed together: few enough for the registers, and enough that the compiler makes vectors of
/// them rather than unrolling the loop into single additions.
const BLOCK: usize = 64;
/// Rows that the horizontal pass handles together.
const LANES: usize = BLOCK;
/// One half in fixed point, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Whether Pillow runs the vertical pass first: when the height shrinks by more than twice as many pixels as the
/// width does.
pub(crate) fn vertical_first(x: Span, y: Span) -> bool {
    let shrink = |span: Span| span.source as i64 - span.resized as i64;
    shrink(y) > 0 && shrink(y) > shrink(x) * 2
}

/// An interleaved 8-bit image, or that region of it which is needed.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub values: &'a [u8],
    pub region: &'a Region,
}

/// Resizes and crops an interleaved 8-bit image of `C` channels; the result is the crop's window.
pub(crate) fn resize<const C: usize>(
    source: Source<'_>,
    x: Span,
    y: Span,
    filter: Interpolation,
    pool: &mut BufferPool,
) -> Vec<u8> {
    let arch = Arch::new();
    let Source { values, region } = source;
    let stride = region.columns.len();
    let (columns, rows) = (shifted(x, &region.columns), shifted(y, &region.rows));
    let coefficients = |span: Span, origin: usize| {
        (span.source != span.resized)
            .then(|| Coefficients::new(span.source, span.resized, span.window(), filter).shifted(origin))
    };
    match (coefficients(x, region.columns.start), coefficients(y, region.rows.start)) {
        (None, None) => crop::<C>(values, stride, columns, rows, pool),
        (Some(h), None) => arch.dispatch(Horizontal::<C>::new(values, stride, rows, &h, pool)),
        (None, Some(v)) => {
            let kept = crop::<C>(values, stride, columns.clone(), 0..region.rows.len(), pool);
            let output = arch.dispatch(Vertical::new(&kept, columns.len() * C, &v, pool));
            pool.give(kept);
            output
        }
        (Some(h), Some(v)) if vertical_first(x, y) => {
            let used = h.source_range();
            let kept = crop::<C>(values, stride, used.clone(), 0..region.rows.len(), pool);
            let middle = arch.dispatch(Vertical::new(&kept, used.len() * C, &v, pool));
            pool.give(kept);
            let h = h.shifted(used.start);
            let output =
                arch.dispatch(Horizontal::<C>::new(&middle, used.len(), 0..y.window().len(), &h, pool));
            pool.give(middle);
            output
        }
        (Some(h), Some(v)) => {
            let used = v.source_range();
            let middle = arch.dispatch(Horizontal::<C>::new(values, stride, used.clone(), &h, pool));
            let v = v.shifted(used.start);
            let output = arch.dispatch(Vertical::new(&middle, x.window().len() * C, &v, pool));
            pool.give(middle);
            output
        }
    }
}

/// The window of an axis that isn't resized, counted from the start of what there is of it.
fn shifted(span: Span, there: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let window = span.window();
    window.start.saturating_sub(there.start)..window.end.saturating_sub(there.start)
}

/// The window `columns` by `rows` of an image of `width` columns.
pub(crate) fn crop<const C: usize>(
    source: &[u8],
    width: usize,
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    pool: &mut BufferPool,
) -> Vec<u8> {
    let source = &source[rows.start * width * C..rows.end * width * C];
    let mut output = pool.take(rows.len() * columns.len() * C);
    if columns.len() == width {
        output.copy_from_slice(source);
        return output;
    }
    let stride = columns.len() * C;
    for (output, row) in output.chunks_exact_mut(stride).zip(source.chunks_exact(width * C)) {
        output.copy_from_slice(&row[columns.start * C..columns.end * C]);
    }
    output
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
    pool: &'a mut BufferPool,
}

impl<'a, const C: usize> Horizontal<'a, C> {
    fn new(
        source: &'a [u8],
        width: usize,
        rows: std::ops::Range<usize>,
        coefficients: &'a Coefficients,
        pool: &'a mut BufferPool,
    ) -> Self {
        Self { source, width, rows, coefficients, weights: coefficients.fixed_point(), pool }
    }
}

impl<const C: usize> pulp::NullaryFnOnce for Horizontal<'_, C> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let used = self.coefficients.source_range();
        let out_width = self.coefficients.bounds.len() * C;
        let mut blocks = self.pool.take((used.len() * C + out_width) * LANES);
        let (block, out_block) = blocks.as_chunks_mut::<LANES>().0.split_at_mut(used.len() * C);
        let mut output = self.pool.take(self.rows.len() * out_width);
        let stride = self.width * C;
        let source = &self.source[self.rows.start * stride..self.rows.end * stride];
        for (input, output) in source.chunks(LANES * stride).zip(output.chunks_mut(LANES * out_width.max(1)))
        {
            gather(input, stride, used.start * C, block);
            for ((pixel, &(first, count)), weights) in out_block
                .as_chunks_mut::<C>()
                .0
                .iter_mut()
                .zip(&self.coefficients.bounds)
                .zip(self.weights.chunks_exact(self.coefficients.taps))
            {
                let start = (first - used.start) * C;
                let taps = block[start..start + count * C].as_chunks::<C>().0;
                for (channel, lanes) in pixel.iter_mut().enumerate() {
                    let mut sums = [HALF; LANES];
                    for (samples, &weight) in taps.iter().zip(weights) {
                        accumulate(&mut sums, &samples[channel], weight);
                    }
                    *lanes = sums.map(clip8);
                }
            }
            scatter(out_block, output, out_width);
        }
        self.pool.give(blocks);
        output
    }
}

/// Gathers sample `offset + i` of up to [`LANES`] rows into `block[i]`; lanes without a row repeat the last one.
#[inline(always)]
fn gather(rows: &[u8], stride: usize, offset: usize, block: &mut [[u8; LANES]]) {
    let last = rows.len() / stride - 1;
    let length = block.len();
    let row = |lane: usize| &rows[lane.min(last) * stride + offset..][..length];
    for group in 0..LANES / 8 {
        let rows: [&[u8]; 8] = std::array::from_fn(|lane| row(group * 8 + lane));
        let (tiles, rest) = block.as_chunks_mut::<8>();
        let words = rows.map(|row| row.as_chunks::<8>().0);
        for (index, tile) in tiles.iter_mut().enumerate() {
            let columns = transpose(words.map(|row| u64::from_le_bytes(row[index])));
            for (lanes, column) in tile.iter_mut().zip(columns) {
                lanes[group * 8..group * 8 + 8].copy_from_slice(&column.to_le_bytes());
            }
        }
        let done = length - rest.len();
        for (index, lanes) in rest.iter_mut().enumerate() {
            for (lane, row) in rows.iter().enumerate() {
                lanes[group * 8 + lane] = row[done + index];
            }
        }
    }
}

/// The opposite of [`gather`]: spreads `block` over rows of `stride` samples.
#[inline(always)]
fn scatter(block: &[[u8; LANES]], rows: &mut [u8], stride: usize) {
    let (tiles, rest) = block.as_chunks::<8>();
    let done = tiles.len() * 8;
    for (group, rows) in rows.chunks_mut(8 * stride.max(1)).enumerate() {
        for (index, tile) in tiles.iter().enumerate() {
            let columns = tile.map(|lanes| {
                let mut word = [0; 8];
                word.copy_from_slice(&lanes[group * 8..group * 8 + 8]);
                u64::from_le_bytes(word)
            });
            for (row, word) in rows.chunks_exact_mut(stride).zip(transpose(columns)) {
                row[index * 8..index * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        for (lane, row) in rows.chunks_exact_mut(stride).enumerate() {
            for (sample, lanes) in row[done..].iter_mut().zip(rest) {
                *sample = lanes[group * 8 + lane];
            }
        }
    }
}

/// Transposes a square of 8 by 8 bytes, a row per word, lowest byte first: blocks of 4, 2 and 1 bytes change places.
#[inline(always)]
fn transpose(mut rows: [u64; 8]) -> [u64; 8] {
    let mut swap = |upper: usize, distance: usize, mask: u64| {
        let moved = (rows[upper] >> (8 * distance) ^ rows[upper + distance]) & mask;
        rows[upper + distance] ^= moved;
        rows[upper] ^= moved << (8 * distance);
    };
    for upper in [0, 1, 2, 3] {
        swap(upper, 4, 0x0000_0000_ffff_ffff);
    }
    for upper in [0, 1, 4, 5] {
        swap(upper, 2, 0x0000_ffff_0000_ffff);
    }
    for upper in [0, 2, 4, 6] {
        swap(upper, 1, 0x00ff_00ff_00ff_00ff);
    }
    rows
}

/// The vertical pass over rows of `stride` samples.
struct Vertical<'a> {
    source: &'a [u8],
    stride: usize,
    coefficients: &'a Coefficients,
    weights: Vec<i32>,
    pool: &'a mut BufferPool,
}

impl<'a> Vertical<'a> {
    fn new(
        source: &'a [u8],
        stride: usize,
        coefficients: &'a Coefficients,
        pool: &'a mut BufferPool,
    ) -> Self {
        Self { source, stride, coefficients, weights: coefficients.fixed_point(), pool }
    }
}

impl pulp::NullaryFnOnce for Vertical<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let mut output = self.pool.take(self.coefficients.bounds.len() * self.stride);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn transposition_swaps_rows_and_columns() {
        let rows: [u64; 8] = std::array::from_fn(|row| {
            u64::from_le_bytes(std::array::from_fn(|column| (row * 8 + column) as u8))
        });
        let columns = transpose(rows);
        for (column, word) in columns.iter().enumerate() {
            let expected: [u8; 8] = std::array::from_fn(|row| (row * 8 + column) as u8);
            assert_eq!(word.to_le_bytes(), expected);
        }
    }

    proptest! {
        #[test]
        fn scatter_undoes_gather(stride in 1_usize..70, rows in 1_usize..=LANES, seed: u8) {
            let source: Vec<u8> = (0..stride * rows).map(|i| (i * 31) as u8 ^ seed).collect();
            let mut block = vec![[0; LANES]; stride];
            gather(&source, stride, 0, &mut block);
            let mut output = vec![0; source.len()];
            scatter(&block, &mut output, stride);
            prop_assert_eq!(output, source);
        }

        /// The vectorised passes against Pillow's loops written plainly.
        #[test]
        fn both_passes_equal_the_plain_loops(
            width in 1_usize..60, height in 1_usize..60, w in 1_usize..40, h in 1_usize..40, seed: u64, cubic: bool,
        ) {
            let filter = if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let span = |source, resized| Span { source, resized, offset: 0, target: resized };
            let source: Vec<u8> = (0..width * height * 3)
                .map(|i| ((i as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
                .collect();
            let (x, y) = (span(width, w), span(height, h));
            let pass = |source: &[u8], span: Span, at: &dyn Fn(usize, usize, usize) -> usize, others: usize| {
                let all = Coefficients::new(span.source, span.resized, 0..span.resized, filter);
                let weights = all.fixed_point();
                let mut out = vec![0; others * span.resized * 3];
                for (other, position, channel) in (0..others)
                    .flat_map(|o| (0..span.resized).flat_map(move |p| (0..3).map(move |c| (o, p, c))))
                {
                    let (first, count) = all.bounds[position];
                    let sum = (0..count).fold(HALF, |sum, tap| {
                        let sample = source[at(other, first + tap, span.source) * 3 + channel];
                        sum + i32::from(sample) * weights[position * all.taps + tap]
                    });
                    out[at(other, position, span.resized) * 3 + channel] = clip8(sum);
                }
                out
            };
            let along_rows = |other: usize, position: usize, length: usize| other * length + position;
            let mut expected = source.clone();
            let steps = if vertical_first(x, y) { [false, true] } else { [true, false] };
            let (mut columns, mut lines) = (width, height);
            for horizontal in steps {
                if horizontal && x.source != x.resized {
                    expected = pass(&expected, x, &along_rows, lines);
                    columns = w;
                } else if !horizontal && y.source != y.resized {
                    let stride = columns;
                    expected = pass(&expected, y, &move |other, position, _| position * stride + other, columns);
                    lines = h;
                }
            }
            let region = Region::whole(width, height);
            let source = Source { values: &source, region: &region };
            prop_assert_eq!(resize::<3>(source, x, y, filter, &mut BufferPool::default()), expected);
        }
    }
}
