//! Matrices that are packed for one product, in a thread's own scratch memory.

use std::ops::Range;

use super::{PanelSource, panel_width};
use crate::cpu::{aligned::AlignedVec, matrix::Matrix, scratch::Scratch};

/// A `[K, N]` matrix in panels, as [`Panels`](super::Panels) has them.
pub struct Operand {
    values: Scratch,
    depth: usize,
    columns: usize,
    width: usize,
}

impl Operand {
    fn empty(depth: usize, columns: usize) -> Self {
        let width = panel_width();
        Self { values: Scratch::new(columns.div_ceil(width) * depth * width), depth, columns, width }
    }

    /// The matrix itself.
    pub fn new(matrix: Matrix) -> Self {
        let mut operand = Self::empty(matrix.rows(), matrix.columns());
        let (depth, width) = (operand.depth, operand.width);
        for (panel, values) in operand.values.chunks_exact_mut((depth * width).max(1)).enumerate() {
            let columns = panel * width..matrix.columns().min((panel + 1) * width);
            for (k, target) in values.chunks_exact_mut(width).enumerate() {
                let (filled, rest) = target.split_at_mut(columns.len());
                filled.copy_from_slice(&matrix.row(k)[columns.clone()]);
                rest.fill(0.0);
            }
        }
        operand
    }

    /// The transposed matrix times `scale`.
    pub fn transposed(matrix: Matrix, scale: f32) -> Self {
        let mut operand = Self::empty(matrix.columns(), matrix.rows());
        let (depth, width) = (operand.depth, operand.width);
        for (panel, values) in operand.values.chunks_exact_mut((depth * width).max(1)).enumerate() {
            for column in 0..width {
                let targets = values.iter_mut().skip(column).step_by(width);
                let row = panel * width + column;
                match row < matrix.rows() {
                    true => targets.zip(matrix.row(row)).for_each(|(target, value)| *target = value * scale),
                    false => targets.for_each(|target| *target = 0.0),
                }
            }
        }
        operand
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(self.width)
    }
}

impl PanelSource for Operand {
    type Word = f32;

    fn depth(&self) -> usize {
        self.depth
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn width(&self) -> usize {
        self.width
    }

    fn stored(&self, _: usize, _: Range<usize>) -> &[u8] {
        // It has just been written, so it's in a cache.
        &[]
    }

    fn block<'a>(&'a self, index: usize, depths: Range<usize>, _: &'a mut AlignedVec<f32>) -> &'a [f32] {
        let start = index * self.depth;
        &self.values[(start + depths.start) * self.width..(start + depths.end) * self.width]
    }
}
