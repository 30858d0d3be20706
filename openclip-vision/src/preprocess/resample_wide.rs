//! Resizing of images that aren't 8-bit colour: 16-bit, 32-bit integer and floating point samples in double precision
//! with Pillow's rounding between the passes, and nearest neighbour for palette and bilevel images.

use super::config::Interpolation;
use super::filter::Coefficients;
use super::geometry::Span;
use super::resample::vertical_first;

/// A sample type that Pillow resamples in double precision.
pub(crate) trait WideSample: Copy {
    /// The sample as a double.
    fn to_f64(self) -> f64;
    /// Rounded as Pillow rounds a weighted sum.
    fn from_sum(sum: f64) -> Self;
}

/// Pillow's `ROUND_UP`: half away from zero, through an addition that may itself round.
fn round_away(sum: f64) -> f64 {
    (if sum >= 0.0 { sum + 0.5 } else { sum - 0.5 }).trunc()
}

impl WideSample for u16 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_sum(sum: f64) -> Self {
        round_away(sum) as Self
    }
}

impl WideSample for i32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_sum(sum: f64) -> Self {
        round_away(sum) as Self
    }
}

impl WideSample for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_sum(sum: f64) -> Self {
        sum as Self
    }
}

/// Resizes and crops an image of one channel; the result is the crop's window.
pub(crate) fn resize<T: WideSample>(source: &[T], x: Span, y: Span, filter: Interpolation) -> Vec<T> {
    let pass = |span: Span| {
        (span.source != span.resized)
            .then(|| Coefficients::new(span.source, span.resized, span.window(), filter))
    };
    let (horizontal, vertical) = (pass(x), pass(y));
    if vertical_first(x, y) {
        let rows = columns_pass(source, x.source, vertical.as_ref(), y);
        rows_pass(&rows, x.source, horizontal.as_ref(), x)
    } else {
        let columns = rows_pass(source, x.source, horizontal.as_ref(), x);
        columns_pass(&columns, x.window().len(), vertical.as_ref(), y)
    }
}

/// Resizes (or only crops) every row.
fn rows_pass<T: WideSample>(source: &[T], width: usize, pass: Option<&Coefficients>, span: Span) -> Vec<T> {
    let rows = source.chunks_exact(width);
    let Some(pass) = pass else {
        return rows.flat_map(|row| &row[span.window()]).copied().collect();
    };
    rows.flat_map(|row| {
        pass.bounds.iter().zip(pass.weights.chunks_exact(pass.taps)).map(|(&(first, count), weights)| {
            let taps = row[first..first + count].iter().zip(weights);
            T::from_sum(taps.fold(0.0, |sum, (sample, weight)| sum + sample.to_f64() * weight))
        })
    })
    .collect()
}

/// Resizes (or only crops) every column of an image of `width` columns.
fn columns_pass<T: WideSample>(
    source: &[T],
    width: usize,
    pass: Option<&Coefficients>,
    span: Span,
) -> Vec<T> {
    let Some(pass) = pass else {
        let rows = span.window();
        return source[rows.start * width..rows.end * width].to_vec();
    };
    let mut sums = vec![0.0; width];
    let mut output = Vec::with_capacity(width * pass.bounds.len());
    for (&(first, count), weights) in pass.bounds.iter().zip(pass.weights.chunks_exact(pass.taps)) {
        sums.fill(0.0);
        for (row, weight) in source[first * width..(first + count) * width].chunks_exact(width).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, sample)| *sum += sample.to_f64() * weight);
        }
        output.extend(sums.iter().map(|&sum| T::from_sum(sum)));
    }
    output
}

/// Resizes by nearest neighbour and crops an image of one channel.
pub(crate) fn nearest(source: &[u8], x: Span, y: Span) -> Vec<u8> {
    let columns = nearest_positions(x);
    nearest_positions(y)
        .into_iter()
        .flat_map(|row| {
            let row = &source[row * x.source..(row + 1) * x.source];
            columns.iter().map(move |&column| row[column])
        })
        .collect()
}

/// The source position of every kept output position. Pillow adds up the step, so rounding accumulates as it does
/// there.
fn nearest_positions(span: Span) -> Vec<usize> {
    let step = f64::from(span.source as f32) / span.resized as f64;
    let window = span.window();
    let mut position = step * 0.5;
    let mut positions = Vec::with_capacity(window.len());
    for index in 0..window.end {
        if index >= window.start {
            positions.push((position as usize).min(span.source - 1));
        }
        position += step;
    }
    positions
}
