//! Convolutions over all channels: windows are gathered, the rest is a matrix product.

use std::ops::Range;

use super::Geometry;
use crate::cpu::{
    linear::PackedLinear,
    matrix::{Matrix, MatrixMut},
    scratch::Scratch,
    threads::{Threads, in_tiles},
};

/// Values between the rows of gathered windows, beyond their length: rows that lie a power of two apart would share the
/// same few places of the first-level cache.
const GAP: usize = 16;

/// How the values of a feature map lie, and with them the weight's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Channel by channel, `[C, H, W]`: as images come.
    Planes,
    /// Place by place, `[H, W, C]`: as layers give them.
    Places,
}

/// A convolution over all channels.
#[derive(Debug)]
pub struct DenseConv2d {
    geometry: Geometry,
    channels: usize,
    order: Order,
    layer: PackedLinear,
}

impl DenseConv2d {
    /// Up to this number of channels an input is an image.
    const IMAGE_CHANNELS: usize = 4;

    /// Whether maps of `channels` channels are taken channel by channel.
    pub fn takes_planes(channels: usize) -> bool {
        channels <= Self::IMAGE_CHANNELS
    }

    /// A convolution of `channels` channels whose windows are multiplied by `layer`, with a weight in the order that
    /// [`reorder`](Self::reorder) gives it.
    pub fn new(geometry: Geometry, channels: usize, layer: PackedLinear) -> Self {
        let order = if Self::takes_planes(channels) { Order::Planes } else { Order::Places };
        Self { geometry, channels, order, layer }
    }

    /// A weight `[out, in, kernel_h, kernel_w]` with the inputs in the order of gathered windows.
    pub fn reorder(weight: &[f32], channels: usize, places: usize) -> Vec<f32> {
        let window = (channels * places).max(1);
        let mut reordered = vec![0.0; weight.len()];
        for (from, to) in weight.chunks_exact(window).zip(reordered.chunks_exact_mut(window)) {
            for (channel, from) in from.chunks_exact(places).enumerate() {
                from.iter().enumerate().for_each(|(place, &value)| to[place * channels + channel] = value);
            }
        }
        reordered
    }

    /// Whether it takes maps `[N, C, H, W]`, and not `[N, H, W, C]`.
    pub fn planes(&self) -> bool {
        self.order == Order::Planes
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    pub fn outputs(&self) -> usize {
        self.layer.outputs()
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// `x`, `batch` maps of `size` places, to `target [N * windows, out]`.
    pub fn run(&self, x: &[f32], batch: usize, size: [usize; 2], windows: [usize; 2], target: MatrixMut) {
        let (rows, depth) = (batch * windows[0] * windows[1], self.layer.inputs());
        let Geometry { kernel, stride, padding } = self.geometry;
        if (self.order, kernel, stride, padding) == (Order::Places, [1; 2], [1; 2], [0; 2]) {
            return self.layer.run(Matrix::new(x, rows, depth, depth), target, false, Threads::All);
        }
        in_tiles(rows, target, |windows_of_tile: Range<usize>, target, threads| {
            let count = windows_of_tile.len();
            let mut gathered = Scratch::new(count * (depth + GAP));
            for (window, target) in windows_of_tile.zip(gathered.chunks_exact_mut(depth + GAP)) {
                self.gather(x, size, windows, window, &mut target[..depth]);
            }
            self.layer.run(Matrix::new(&gathered, count, depth, depth + GAP), target, false, threads);
        });
    }

    /// The values of a window side by side, zeros where it reaches over the edge.
    fn gather(
        &self,
        x: &[f32],
        [height, width]: [usize; 2],
        windows: [usize; 2],
        window: usize,
        target: &mut [f32],
    ) {
        let Geometry { kernel: [lines, columns], stride, padding } = self.geometry;
        let (planes, values) = match self.order {
            Order::Planes => (self.channels, 1),
            Order::Places => (1, self.channels),
        };
        let (input, window) = (window / (windows[0] * windows[1]), window % (windows[0] * windows[1]));
        let [top, left] = [window / windows[1] * stride[0], window % windows[1] * stride[1]];
        // Columns of the window that lie on the map.
        let first = padding[1].saturating_sub(left).min(columns);
        let last = (width + padding[1]).saturating_sub(left).clamp(first, columns);
        for (line, target) in target.chunks_exact_mut(columns * values).enumerate() {
            let (plane, line) = (line / lines, line % lines);
            let row = (top + line).checked_sub(padding[0]).filter(|&row| row < height);
            let Some(row) = row.filter(|_| first < last) else {
                target.fill(0.0);
                continue;
            };
            let start = ((input * planes + plane) * height + row) * width + left + first - padding[1];
            target[..first * values].fill(0.0);
            target[first * values..last * values]
                .copy_from_slice(&x[start * values..][..(last - first) * values]);
            target[last * values..].fill(0.0);
        }
    }
}
