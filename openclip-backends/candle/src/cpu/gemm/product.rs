//! How a product passes through its rows, panels and tiles, written once for all instruction sets and for every
//! arithmetic that adds up 32-bit floats.

use std::ops::Range;

use bytemuck::Pod;
use openclip_core::backend::Activation;
use rten_simd::{
    Isa, Simd, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

use super::PanelSource;
use crate::cpu::{
    activation::with_activation,
    aligned::AlignedVec,
    matrix::{Matrix, MatrixMut},
};

/// Rows of the largest tile.
const MOST_ROWS: usize = 12;
/// Words of a panel that are worked on together: 8 KiB of it, so that they, those that are fetched meanwhile and the rows
/// of a tile fit into a first-level cache of 32 KiB, of which a neighbour may have half.
const BLOCK: usize = 2048;
/// Depth that all panels are worked through before the next part of the depth, so that the part of a hundred rows that is
/// needed meanwhile, 100 KiB, stays in a second-level cache although weights and results pass through it.
const PASS: usize = 256;
/// Columns of the widest tile.
const MOST_COLUMNS: usize = 32;

/// What rows and panels hold for each step of depth, and how it is multiplied.
pub trait Arithmetic<I: Isa>: Copy {
    /// 32 bits of a row or of a column: a number, or several neighbours in depth.
    type Word: Pod;
    /// A register of words.
    type Words: Copy;

    /// `word` in all lanes.
    fn splat(self, isa: I, word: Self::Word) -> Self::Words;

    /// The words of a register.
    ///
    /// # Safety
    /// As many words as a register has lanes can be read from `words` on.
    unsafe fn load(self, isa: I, words: *const Self::Word) -> Self::Words;

    /// `sum + a b` in each lane.
    fn multiply_add(self, isa: I, a: Self::Words, b: Self::Words, sum: I::F32) -> I::F32;
}

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

/// A product `target = act(x W + b)`, or with what the target holds added before the activation, for the columns of
/// `panels`.
///
/// # Shapes
/// `x [M, K]`, `weights [K, N]`, `target [M, the columns of the panels]`, and the epilogue's bias `[N]`, `K` in words.
pub struct Product<'a, W: PanelSource> {
    pub x: Matrix<'a, W::Word>,
    pub weights: &'a W,
    pub panels: Range<usize>,
    pub target: MatrixMut<'a>,
    pub epilogue: Epilogue<'a>,
}

impl<W: PanelSource> Product<'_, W> {
    /// Computes it with tiles of the size that suits the instruction set.
    #[inline(always)]
    pub fn run<I: Isa>(self, isa: I, arithmetic: impl Arithmetic<I, Word = W::Word>) {
        const {
            assert!(size_of::<I::F32>() <= 64 && size_of::<W::Word>() == 4);
        }
        if const { size_of::<I::F32>() == 64 } {
            self.in_tiles::<I, _, 12, 2>(isa, arithmetic);
        } else if const { size_of::<I::F32>() == 32 } {
            self.in_tiles::<I, _, 6, 2>(isa, arithmetic);
        } else {
            self.in_tiles::<I, _, 6, 4>(isa, arithmetic);
        }
    }

    /// With tiles of at most `ROWS` rows and `VECTORS` registers per row.
    #[inline(always)]
    fn in_tiles<I: Isa, A: Arithmetic<I, Word = W::Word>, const ROWS: usize, const VECTORS: usize>(
        mut self,
        isa: I,
        arithmetic: A,
    ) {
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
        if rows == 0 || columns == 0 {
            return;
        }
        let mut scratch = AlignedVec::default();
        let passes = depth.div_ceil(PASS).max(1);
        let blocks = passes * depth.div_ceil(passes * (BLOCK / width)).max(1);
        let panels = self.panels.clone();
        let steps = (0..passes).flat_map(|pass| panels.clone().map(move |index| (pass, index)));
        for (pass, index) in steps {
            let start = index * width;
            let filled = width.min(columns - start);
            let mut bias = [0.0; MOST_COLUMNS];
            if let Some(values) = self.epilogue.bias {
                bias[..filled].copy_from_slice(&values[start..start + filled]);
            }
            let place = start - first_column..start - first_column + filled;
            if filled == width {
                let pass = pass * blocks / passes..(pass + 1) * blocks / passes;
                self.panel::<I, A, ROWS, VECTORS>(
                    (isa, arithmetic),
                    index,
                    (pass, blocks),
                    &mut scratch,
                    &bias,
                    place.start,
                );
            } else if pass == 0 {
                self.last_panel::<I, A, ROWS, VECTORS>((isa, arithmetic), index, &mut scratch, &bias, place);
            }
        }
    }

    /// All rows of `x` times some of the blocks of a panel. They pass by a block that stays in the first-level cache while
    /// the next block is fetched from memory; what the target holds between two blocks stays in that cache too.
    #[inline(always)]
    fn panel<I: Isa, A: Arithmetic<I, Word = W::Word>, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        (isa, arithmetic): (I, A),
        index: usize,
        (pass, blocks): (Range<usize>, usize),
        scratch: &mut AlignedVec<W::Word>,
        bias: &[f32; MOST_COLUMNS],
        column: usize,
    ) {
        let (rows, depth, width) = (self.x.rows(), self.weights.depth(), self.weights.width());
        let groups = rows.div_ceil(ROWS);
        let stride = self.target.stride();
        for block in pass.clone() {
            let depths = |block: usize| block * depth / blocks..(block + 1) * depth / blocks;
            let (first, last) = (block == 0, block + 1 == blocks);
            let epilogue = Epilogue {
                bias: last.then_some(bias.as_slice()),
                accumulate: !first || self.epilogue.accumulate,
                activation: self.epilogue.activation.filter(|_| last),
            };
            let next = if block + 1 < pass.end {
                self.weights.stored(index, depths(block + 1))
            } else if (index + 1) * width < self.weights.columns() {
                self.weights.stored(index + 1, depths(pass.start))
            } else {
                &[]
            };
            let depths = depths(block);
            let panel = self.weights.block(index, depths.clone(), scratch);
            assert_eq!(panel.len(), depths.len() * width, "block of a panel");
            // Groups of equal size, up to one row: a last one of a row or two would waste most of its registers.
            for group in 0..groups {
                let (from, to) = (group * rows / groups, (group + 1) * rows / groups);
                prefetch(isa, &next[group * next.len() / groups..(group + 1) * next.len() / groups]);
                let x = self.x.part(from..to, depths.clone());
                let target = self.target.as_mut_ptr(from, column);
                // SAFETY: rows `from..to` and `width` columns from `column` on lie in the target.
                unsafe {
                    any_tile::<I, A, ROWS, VECTORS>((isa, arithmetic), x, panel, epilogue, target, stride)
                };
            }
        }
    }

    /// All rows of `x` times the last panel, which has fewer columns than a tile.
    #[inline(always)]
    fn last_panel<I: Isa, A: Arithmetic<I, Word = W::Word>, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        (isa, arithmetic): (I, A),
        index: usize,
        scratch: &mut AlignedVec<W::Word>,
        bias: &[f32; MOST_COLUMNS],
        columns: Range<usize>,
    ) {
        let (rows, depth, width) = (self.x.rows(), self.weights.depth(), self.weights.width());
        let groups = rows.div_ceil(ROWS);
        let panel = self.weights.block(index, 0..depth, scratch);
        assert_eq!(panel.len(), depth * width, "block of a panel");
        let epilogue = Epilogue { bias: Some(bias), ..self.epilogue };
        for group in 0..groups {
            let (from, to) = (group * rows / groups, (group + 1) * rows / groups);
            let mut tile = [0.0; MOST_ROWS * MOST_COLUMNS];
            for (row, tile) in (from..to).zip(tile.chunks_exact_mut(width)) {
                tile[..columns.len()].copy_from_slice(&self.target.row(row)[columns.clone()]);
            }
            let x = self.x.part(from..to, 0..depth);
            // SAFETY: the tile has room for `MOST_ROWS` rows of `width` columns.
            unsafe {
                any_tile::<I, A, ROWS, VECTORS>(
                    (isa, arithmetic),
                    x,
                    panel,
                    epilogue,
                    tile.as_mut_ptr(),
                    width,
                )
            };
            for (row, tile) in (from..to).zip(tile.chunks_exact(width)) {
                self.target.row(row)[columns.clone()].copy_from_slice(&tile[..columns.len()]);
            }
        }
    }
}

/// Asks for memory that will be read soon.
#[inline(always)]
pub fn prefetch<I: Isa, T: Pod>(isa: I, values: &[T]) {
    for line in bytemuck::cast_slice::<T, u8>(values).chunks(64) {
        isa.u8().prefetch(line.as_ptr());
    }
}

/// The tile of as many rows as `x` has, at most `ROWS`.
///
/// # Safety
/// `target` has as many rows as `x`, `stride` apart, of `VECTORS` registers each; `panel` has as many rows as `x` has
/// columns, of `VECTORS` registers each; the epilogue's bias has `VECTORS` registers.
#[inline(always)]
unsafe fn any_tile<I: Isa, A: Arithmetic<I>, const ROWS: usize, const VECTORS: usize>(
    (isa, arithmetic): (I, A),
    x: Matrix<A::Word>,
    panel: &[A::Word],
    epilogue: Epilogue,
    target: *mut f32,
    stride: usize,
) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match x.rows() {
                $($rows if const { $rows <= ROWS } => {
                    // SAFETY: `x` has this many rows; the rest is the caller's promise.
                    unsafe { tile::<I, A, $rows, VECTORS>((isa, arithmetic), x, panel, epilogue, target, stride) }
                })*
                rows => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12);
    if let Some(activation) = epilogue.activation {
        // SAFETY: the caller's promise.
        unsafe {
            with_activation!(activation, op => activate::<I, VECTORS>(isa, &op, target, x.rows(), stride));
        }
    }
}

/// # Safety
/// As [`any_tile`], and `x` has `ROWS` rows.
#[inline(always)]
unsafe fn tile<I: Isa, A: Arithmetic<I>, const ROWS: usize, const VECTORS: usize>(
    (isa, arithmetic): (I, A),
    x: Matrix<A::Word>,
    panel: &[A::Word],
    epilogue: Epilogue,
    target: *mut f32,
    stride: usize,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let mut sums = [[ops.zero(); VECTORS]; ROWS];
    let (mut left, mut right, distance) = (x.as_ptr(), panel.as_ptr(), x.stride());
    for _ in 0..x.columns() {
        // SAFETY: `left` walks along the first row of `x`, from which `ROWS` rows can be read, and `right` along the panel.
        unsafe {
            let words: [A::Words; VECTORS] =
                std::array::from_fn(|vector| arithmetic.load(isa, right.add(vector * lanes)));
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = arithmetic.splat(isa, *left.add(row * distance));
                for (sum, words) in sums.iter_mut().zip(words) {
                    *sum = arithmetic.multiply_add(isa, factor, words, *sum);
                }
            }
            left = left.add(1);
            right = right.add(VECTORS * lanes);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, mut sum) in sums.into_iter().enumerate() {
            // SAFETY: target and bias have this register.
            unsafe {
                let place = target.add(row * stride + vector * lanes);
                if let Some(bias) = epilogue.bias {
                    sum = ops.add(sum, ops.load_ptr(bias.as_ptr().add(vector * lanes)));
                }
                if epilogue.accumulate {
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
