//! The product in 32-bit floats, written once for all instruction sets.

use std::ops::Range;

use openclip_core::backend::Activation;
use rten_simd::{
    Isa, Simd, SimdOp, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

use super::PanelSource;
use crate::cpu::{
    activation::with_activation,
    matrix::{Matrix, MatrixMut},
};

/// Rows of the largest tile.
const MOST_ROWS: usize = 12;
/// Columns of the widest tile.
const MOST_COLUMNS: usize = 32;

/// Columns of a tile where a register holds `lanes` values: with 12 rows (16 lanes) or 6, the tile and what is
/// multiplied into it fill the 32 or 16 registers.
pub fn tile_columns(lanes: usize) -> usize {
    if lanes == 16 { MOST_COLUMNS } else { 16 }
}

/// What happens to a product before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[N]`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// Whether the product is added to what the target holds.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Option<Activation>,
}

/// `target = act(x W + b)`, or with what the target holds added before the activation, for the columns of `panels` (all
/// panels of `weights` are `0..N.div_ceil(width)`).
///
/// # Shapes
/// `x [M, K]`, `weights [K, N]`, `target [M, the columns of the panels]`, and the epilogue's bias `[N]`.
pub fn multiply<W: PanelSource>(
    x: Matrix,
    weights: &W,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    Multiply { x, weights, panels, target, epilogue }.dispatch();
}

struct Multiply<'a, W> {
    x: Matrix<'a>,
    weights: &'a W,
    panels: Range<usize>,
    target: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

impl<W: PanelSource> SimdOp for Multiply<'_, W> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        const {
            assert!(size_of::<I::F32>() <= 64);
        }
        if const { size_of::<I::F32>() == 64 } {
            self.run::<I, 12, 2>(isa);
        } else if const { size_of::<I::F32>() == 32 } {
            self.run::<I, 6, 2>(isa);
        } else {
            self.run::<I, 6, 4>(isa);
        }
    }
}

impl<W: PanelSource> Multiply<'_, W> {
    /// With tiles of at most `ROWS` rows and `VECTORS` registers per row.
    #[inline(always)]
    fn run<I: Isa, const ROWS: usize, const VECTORS: usize>(mut self, isa: I) {
        let (depth, width) = (self.weights.depth(), VECTORS * isa.f32().len());
        let (rows, columns) = (self.x.rows(), self.weights.columns());
        let first_column = self.panels.start * width;
        assert_eq!(width, self.weights.width(), "panels for another processor");
        assert_eq!(depth, self.x.columns(), "depth of a product");
        assert_eq!(
            (rows, columns.min(self.panels.end * width) - first_column),
            (self.target.rows(), self.target.columns()),
            "target of a product"
        );
        if rows == 0 {
            return;
        }
        let groups = rows.div_ceil(ROWS);
        let mut scratch = None;
        for index in self.panels.clone() {
            let panel = self.weights.panel(index, &mut scratch);
            assert_eq!(panel.len(), depth * width, "panel of a product");
            let start = index * width;
            let filled = width.min(columns - start);
            let mut bias = [0.0; MOST_COLUMNS];
            if let Some(values) = self.epilogue.bias {
                bias[..filled].copy_from_slice(&values[start..start + filled]);
            }
            // Groups of equal size, up to one row: a last one of a row or two would waste most of its registers.
            for group in 0..groups {
                let (from, to) = (group * rows / groups, (group + 1) * rows / groups);
                let x = self.x.part(from..to, 0..depth);
                if filled == width {
                    let stride = self.target.stride();
                    let target = self.target.as_mut_ptr(from, start - first_column);
                    // SAFETY: rows `from..to` and columns `start..start + width` lie in the target.
                    unsafe { self.tile::<I, ROWS, VECTORS>(isa, x, panel, &bias, target, stride) };
                } else {
                    let mut tile = [0.0; MOST_ROWS * MOST_COLUMNS];
                    let columns = start - first_column..start - first_column + filled;
                    for (row, tile) in (from..to).zip(tile.chunks_exact_mut(width)) {
                        tile[..filled].copy_from_slice(&self.target.row(row)[columns.clone()]);
                    }
                    // SAFETY: the tile has room for `MOST_ROWS` rows of `width` columns.
                    unsafe { self.tile::<I, ROWS, VECTORS>(isa, x, panel, &bias, tile.as_mut_ptr(), width) };
                    for (row, tile) in (from..to).zip(tile.chunks_exact(width)) {
                        self.target.row(row)[columns.clone()].copy_from_slice(&tile[..filled]);
                    }
                }
            }
        }
    }

    /// # Safety
    /// `target` has as many rows as `x`, `stride` apart, of `VECTORS` registers each.
    #[inline(always)]
    unsafe fn tile<I: Isa, const ROWS: usize, const VECTORS: usize>(
        &self,
        isa: I,
        x: Matrix,
        panel: &[f32],
        bias: &[f32; MOST_COLUMNS],
        target: *mut f32,
        stride: usize,
    ) {
        let accumulate = self.epilogue.accumulate;
        macro_rules! rows {
            ($($rows:literal)*) => {
                match x.rows() {
                    $($rows if const { $rows <= ROWS } => {
                        // SAFETY: `x` has this many rows; the rest is the caller's promise.
                        unsafe { tile::<I, $rows, VECTORS>(isa, x, panel, bias, target, stride, accumulate) }
                    })*
                    rows => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12);
        if let Some(activation) = self.epilogue.activation {
            // SAFETY: as above.
            with_activation!(activation, op => unsafe {
                activate::<I, VECTORS>(isa, &op, target, x.rows(), stride)
            });
        }
    }
}

/// # Safety
/// `x` has `ROWS` rows; `target` has `ROWS` rows, `stride` apart, of `VECTORS` registers each; `panel` has as many rows as
/// `x` has columns, of `VECTORS` registers each.
#[inline(always)]
unsafe fn tile<I: Isa, const ROWS: usize, const VECTORS: usize>(
    isa: I,
    x: Matrix,
    panel: &[f32],
    bias: &[f32; MOST_COLUMNS],
    target: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let mut sums = [[ops.zero(); VECTORS]; ROWS];
    let (mut left, mut right, distance) = (x.as_ptr(), panel.as_ptr(), x.stride());
    for _ in 0..x.columns() {
        // SAFETY: `left` walks along the first row of `x`, from which `ROWS` rows can be read, and `right` along the panel.
        unsafe {
            let mut values = [ops.zero(); VECTORS];
            for (vector, value) in values.iter_mut().enumerate() {
                *value = ops.load_ptr(right.add(vector * lanes));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = ops.splat(*left.add(row * distance));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = ops.mul_add(factor, value, *sum);
                }
            }
            left = left.add(1);
            right = right.add(VECTORS * lanes);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, sum) in sums.into_iter().enumerate() {
            // SAFETY: the target has this row and this register, and the bias `MOST_COLUMNS` values.
            unsafe {
                let place = target.add(row * stride + vector * lanes);
                let mut sum = ops.add(sum, ops.load_ptr(bias.as_ptr().add(vector * lanes)));
                if accumulate {
                    sum = ops.add(sum, ops.load_ptr(place));
                }
                ops.store_ptr(sum, place);
            }
        }
    }
}

/// # Safety
/// `target` has `rows` rows, `stride` apart, of `VECTORS` registers each.
#[inline(always)]
unsafe fn activate<I: Isa, const VECTORS: usize>(
    isa: I,
    op: &impl SimdUnaryOp<f32>,
    target: *mut f32,
    rows: usize,
    stride: usize,
) {
    let ops = isa.f32();
    for row in 0..rows {
        for vector in 0..VECTORS {
            // SAFETY: the target has this row and this register.
            unsafe {
                let place = target.add(row * stride + vector * ops.len());
                ops.store_ptr(op.eval(isa, ops.load_ptr(place).same_cast()).same_cast(), place);
            }
        }
    }
}
