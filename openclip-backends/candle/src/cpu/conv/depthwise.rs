//! Depthwise convolutions: every output channel sees one input channel. Vectors run along the channels, and a step
//! computes several neighbouring windows, so that a weight is loaded once for all of them.

use openclip_core::backend::Activation;
use rayon::prelude::*;
use rten_simd::{
    Isa, SimdOp, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

use super::Geometry;
use crate::cpu::{activation::with_activation, aligned::AlignedVec, scratch::Scratch};

/// Channels that are worked on at once: their part of a band of rows fits the second-level cache. A multiple of every
/// vector's length.
const TILE: usize = 64;
/// Channels are padded to a multiple of this, the length of the longest vectors.
const LANES: usize = 16;
/// Rows of windows that are worked on at once. The more there are, the fewer rows of the map are read twice.
const BAND: usize = 8;
/// Windows of one step.
const STEP: usize = 8;

/// A depthwise convolution.
#[derive(Debug)]
pub struct DepthwiseConv2d {
    geometry: Geometry,
    channels: usize,
    outputs: usize,
    /// `[kernel_h * kernel_w, padded outputs]`.
    weight: AlignedVec<f32>,
    /// `[padded outputs]`.
    bias: AlignedVec<f32>,
    activation: Option<Activation>,
}

impl DepthwiseConv2d {
    /// From a weight `[out, 1, kernel_h, kernel_w]`; output `o` sees channel `o * channels / outputs`.
    pub fn new(
        geometry: Geometry,
        channels: usize,
        outputs: usize,
        weight: &[f32],
        bias: Option<&[f32]>,
        activation: Option<Activation>,
    ) -> Self {
        let (places, padded) = (geometry.kernel[0] * geometry.kernel[1], outputs.next_multiple_of(LANES));
        let mut by_place = AlignedVec::new(places * padded);
        for (output, weight) in weight.chunks_exact(places.max(1)).enumerate() {
            weight.iter().enumerate().for_each(|(place, &value)| by_place[place * padded + output] = value);
        }
        let mut padded_bias = AlignedVec::new(padded);
        if let Some(bias) = bias {
            padded_bias[..outputs].copy_from_slice(bias);
        }
        Self { geometry, channels, outputs, weight: by_place, bias: padded_bias, activation }
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// `x [N, H, W, C]` to `target [N, windows, out]`.
    pub fn run(&self, x: &[f32], size: [usize; 2], windows: [usize; 2], target: &mut [f32]) {
        let row = windows[1] * self.outputs;
        let (map, result) = (size[0] * size[1] * self.channels, windows[0] * row);
        if map == 0 || result == 0 {
            return;
        }
        let rows = target.len() / row;
        let band = (rows / (2 * rayon::current_num_threads())).clamp(1, BAND);
        x.par_chunks_exact(map).zip(target.par_chunks_exact_mut(result)).for_each(|(x, target)| {
            target.par_chunks_mut(band * row).enumerate().for_each(|(index, target)| {
                self.band(x, size, index * band, windows[1], target);
            });
        });
    }

    /// The rows of windows from `first` on of one map.
    fn band(&self, x: &[f32], [height, width]: [usize; 2], first: usize, across: usize, target: &mut [f32]) {
        let Geometry { kernel, stride, padding } = self.geometry;
        let rows = target.len() / (across * self.outputs);
        let lines = (rows - 1) * stride[0] + kernel[0];
        let columns = (across - 1) * stride[1] + kernel[1];
        let repeat = self.outputs / self.channels.max(1);
        let mut padded = Scratch::new(lines * columns * TILE);
        for start in (0..self.outputs).step_by(TILE) {
            let filled = TILE.min(self.outputs - start);
            let depth = filled.next_multiple_of(LANES);
            for (line, padded) in padded.chunks_exact_mut(columns * depth).take(lines).enumerate() {
                let row = (first * stride[0] + line).checked_sub(padding[0]).filter(|&row| row < height);
                for (column, padded) in padded.chunks_exact_mut(depth).enumerate() {
                    let column = column.checked_sub(padding[1]).filter(|&column| column < width);
                    let (Some(row), Some(column)) = (row, column) else {
                        padded.fill(0.0);
                        continue;
                    };
                    let place = &x[(row * width + column) * self.channels..][..self.channels];
                    let (values, rest) = padded.split_at_mut(filled);
                    match repeat {
                        1 => values.copy_from_slice(&place[start..start + filled]),
                        _ => values
                            .iter_mut()
                            .enumerate()
                            .for_each(|(o, value)| *value = place[(start + o) / repeat]),
                    }
                    rest.fill(0.0);
                }
            }
            Tile {
                conv: self,
                padded: &padded[..lines * columns * depth],
                columns,
                start,
                depth,
                filled,
                across,
                target,
            }
            .dispatch();
        }
        if let Some(activation) = self.activation {
            with_activation!(activation, op => op.map_mut(target));
        }
    }
}

/// A band of windows for some channels.
struct Tile<'a> {
    conv: &'a DepthwiseConv2d,
    /// The part of the map that the windows see, `[lines, columns, depth]`.
    padded: &'a [f32],
    columns: usize,
    /// The first output channel, how many are computed, and how many of these there are.
    start: usize,
    depth: usize,
    filled: usize,
    /// Windows of a row.
    across: usize,
    /// `[rows, across, outputs]`.
    target: &'a mut [f32],
}

impl SimdOp for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let rows = self.target.len() / (self.across * self.conv.outputs);
        for row in 0..rows {
            let mut window = 0;
            while window < self.across {
                window += match self.across - window {
                    STEP.. => self.step::<I, STEP>(isa, row, window),
                    4.. => self.step::<I, 4>(isa, row, window),
                    2.. => self.step::<I, 2>(isa, row, window),
                    _ => self.step::<I, 1>(isa, row, window),
                };
            }
        }
    }
}

impl Tile<'_> {
    /// `COUNT` windows of a row from `window` on.
    #[inline(always)]
    fn step<I: Isa, const COUNT: usize>(&mut self, isa: I, row: usize, window: usize) -> usize {
        let ops = isa.f32();
        let lanes = ops.len();
        let Geometry { kernel: [lines, places], stride, .. } = self.conv.geometry;
        let outputs = self.conv.weight.len() / (lines * places);
        let (column, next) = (window * stride[1], stride[1] * self.depth);
        // What is read below ends where the last window's last line does, and the last weight's vector.
        let end = ((row * stride[0] + lines - 1) * self.columns + column + (COUNT - 1) * stride[1] + places)
            * self.depth;
        assert!(
            end <= self.padded.len()
                && self.start + self.depth <= outputs
                && self.depth.is_multiple_of(lanes)
        );
        for channel in (0..self.filled).step_by(lanes) {
            let mut sums = [ops.load(&self.conv.bias[self.start + channel..]); COUNT];
            for line in 0..lines {
                let from = ((row * stride[0] + line) * self.columns + column) * self.depth + channel;
                for place in 0..places {
                    let at = (line * places + place) * outputs + self.start + channel;
                    // SAFETY: `at + lanes <= lines * places * outputs`, the length of the weight.
                    let weight = unsafe { ops.load_ptr(self.conv.weight.as_ptr().add(at)) };
                    for (index, sum) in sums.iter_mut().enumerate() {
                        let at = from + place * self.depth + index * next;
                        // SAFETY: `at + lanes <= end`, within the padded map.
                        let value = unsafe { ops.load_ptr(self.padded.as_ptr().add(at)) };
                        *sum = ops.mul_add(weight, value, *sum);
                    }
                }
            }
            let left = self.filled - channel;
            for (index, sum) in sums.into_iter().enumerate() {
                let at = (row * self.across + window + index) * self.conv.outputs + self.start + channel;
                let target = &mut self.target[at..at + left.min(lanes)];
                if left >= lanes {
                    ops.store(sum, target);
                } else {
                    let mut values = [0.0; LANES];
                    ops.store(sum, &mut values);
                    target.copy_from_slice(&values[..target.len()]);
                }
            }
        }
        COUNT
    }
}
