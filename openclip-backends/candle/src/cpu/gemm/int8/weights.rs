//! Weights in 8-bit integers.

use std::ops::Range;

use openclip_core::{
    backend::WeightLayout,
    weights::{channel_scale, quantized_value},
};
use rayon::prelude::*;

use super::kernel::{Kernel, kernel};
use crate::cpu::packed::PackedValues;

/// A weight `[K, N]` in integers, `[N, K]`, with a factor per column: the largest value of a column becomes 127.
#[derive(Debug)]
pub struct QuantizedColumns {
    /// `[N, K]`.
    pub values: Vec<i8>,
    /// `[N]`.
    pub scales: Vec<f32>,
    /// `K`.
    pub depth: usize,
}

impl QuantizedColumns {
    /// Rounds `weight`, whose columns `K` long lie one after the other or side by side as `layout` says.
    pub fn new(weight: &[f32], layout: WeightLayout, depth: usize, count: usize) -> Self {
        let value = |n: usize, k: usize| match layout {
            WeightLayout::OutIn => weight[n * depth + k],
            WeightLayout::InOut => weight[k * count + n],
        };
        let mut values = vec![0; count * depth];
        let scales = values.par_chunks_exact_mut(depth.max(1)).enumerate().map(|(n, targets)| {
            let largest = (0..depth).map(|k| value(n, k).abs()).fold(0.0, f32::max);
            let scale = channel_scale(largest);
            for (k, target) in targets.iter_mut().enumerate() {
                *target = quantized_value(value(n, k), scale);
            }
            scale
        });
        let scales = scales.collect();
        Self { values, scales, depth }
    }
}

/// A weight in panels for the processor's dot product: `[N / width, K / group, width, group]`,
/// filled up with zeros to whole steps of depth.
#[derive(Debug)]
pub struct Int8Panels {
    values: PackedValues<i8>,
    /// Per column, filled up to whole panels.
    scales: Vec<f32>,
    /// The sum of each column, filled up to whole panels.
    sums: Vec<i32>,
    depth: usize,
    columns: usize,
    kernel: &'static Kernel,
}

impl Int8Panels {
    /// Packs `weight`.
    pub fn new(weight: &QuantizedColumns) -> Self {
        Self::for_kernel(weight, kernel())
    }

    /// Packs `weight` for one of the dot products.
    pub(super) fn for_kernel(weight: &QuantizedColumns, kernel: &'static Kernel) -> Self {
        let (depth, columns, Kernel { width, group, .. }) = (weight.depth, weight.scales.len(), kernel);
        let panels = columns.div_ceil(*width);
        let len = kernel.groups(depth) * group * width;
        let pack = |(panel, values): (usize, &mut [i8])| {
            for column in 0..width.min(&(columns - panel * width)).to_owned() {
                let stored = &weight.values[(panel * width + column) * depth..][..depth];
                for (k, &value) in stored.iter().enumerate() {
                    values[(k / group * width + column) * group + k % group] = value;
                }
            }
        };
        let values = PackedValues::new(panels * len, |values| {
            values.par_chunks_exact_mut(len.max(1)).enumerate().for_each(pack);
        });
        let mut scales = weight.scales.clone();
        scales.resize(panels * width, 0.0);
        let sum = |stored: &[i8]| stored.iter().map(|&value| i32::from(value)).sum();
        let mut sums: Vec<i32> = match depth {
            0 => vec![0; columns],
            depth => weight.values.chunks_exact(depth).map(sum).collect(),
        };
        sums.resize(panels * width, 0);
        Self { values, scales, sums, depth, columns, kernel }
    }

    /// Dimensions of the panels of a `[K, N]` matrix on this processor.
    pub fn dims(depth: usize, columns: usize) -> [usize; 4] {
        let kernel = kernel();
        [columns.div_ceil(kernel.width), kernel.groups(depth), kernel.width, kernel.group]
    }

    /// All panels, and factors and sums of their columns.
    pub fn parts(&self) -> (&PackedValues<i8>, &[f32], &[i32]) {
        (&self.values, &self.scales, &self.sums)
    }

    /// Panels that have been packed before on a processor like this one; `None` when their parts aren't as long as they are.
    pub fn from_parts(
        depth: usize,
        columns: usize,
        values: PackedValues<i8>,
        scales: Vec<f32>,
        sums: Vec<i32>,
    ) -> Option<Self> {
        let dims @ [panels, _, width, _] = Self::dims(depth, columns);
        let fits = values.len() == dims.iter().product::<usize>()
            && [scales.len(), sums.len()] == [panels * width; 2];
        fits.then(|| Self { values, scales, sums, depth, columns, kernel: kernel() })
    }

    /// Rows `K`.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns `N`.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of a panel.
    pub fn width(&self) -> usize {
        self.kernel.width
    }

    pub(super) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// Groups of neighbours in depth.
    pub(super) fn groups(&self) -> usize {
        self.kernel.groups(self.depth)
    }

    /// These groups of the panel `index`.
    pub(super) fn block(&self, index: usize, groups: Range<usize>) -> &[i8] {
        let (start, size) = (index * self.groups(), self.kernel.group * self.kernel.width);
        &self.values[(start + groups.start) * size..(start + groups.end) * size]
    }

    /// Factors and sums of the columns from `first` on.
    pub(super) fn columns_from(&self, first: usize) -> (&[f32], &[i32]) {
        (&self.scales[first..], &self.sums[first..])
    }
}
