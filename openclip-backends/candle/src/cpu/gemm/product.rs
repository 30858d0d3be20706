//! How a product passes through its rows, panels and tiles, written once for all instruction sets and for every
//! arithmetic that adds up 32-bit floats.

use std::ops::Range;

use bytemuck::Pod;
use openclip_core::backend::Activation;
use rten_simd::{Isa, ops::BitOps};

use super::{
    PanelSource,
    tile::{prefetch, tiles},
};
use crate::cpu::{
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
/// Panels that few rows are multiplied with at once.
const STREAMS: usize = 2;
/// Depth of the part of the panels that all rows are multiplied with before the next: 128 KiB of them, which stay in a
/// second-level cache meanwhile.
const STREAMED_DEPTH: usize = 512;
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

impl Epilogue<'_> {
    /// What happens to the product of one of several blocks of depth, which are added up: bias and activation come last.
    fn of_block<'b>(&self, block: usize, blocks: usize, bias: &'b [f32]) -> Epilogue<'b> {
        let last = block + 1 == blocks;
        Epilogue {
            bias: last.then_some(bias),
            accumulate: block > 0 || self.accumulate,
            activation: self.activation.filter(|_| last),
        }
    }
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
        // More rows than the last number are worth a tile of more rows and fewer panels.
        if const { size_of::<I::F32>() == 64 } {
            self.in_tiles::<I, _, 12, 2>(isa, arithmetic, 36);
        } else if const { size_of::<I::F32>() == 32 } {
            self.in_tiles::<I, _, 6, 2>(isa, arithmetic, 12);
        } else {
            self.in_tiles::<I, _, 6, 4>(isa, arithmetic, 12);
        }
    }

    /// With tiles of at most `ROWS` rows and `VECTORS` registers per row; up to `streamed` rows in several streams.
    #[inline(always)]
    fn in_tiles<I: Isa, A: Arithmetic<I, Word = W::Word>, const ROWS: usize, const VECTORS: usize>(
        mut self,
        isa: I,
        arithmetic: A,
        streamed: usize,
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
        let mut panels = self.panels.clone();
        if rows <= streamed {
            panels.start = self.in_streams::<I, A, ROWS, VECTORS>(isa, arithmetic);
        }
        let mut scratch = AlignedVec::default();
        let passes = depth.div_ceil(PASS).max(1);
        let blocks = passes * depth.div_ceil(passes * (BLOCK / width)).max(1);
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

    /// All of the few rows of `x` times as many panels as can be taken [`STREAMS`] at a time, from the first on. Gives the first
    /// that is left.
    ///
    /// With so few rows most time goes into reading weights, and a core reads faster in several places at once.
    #[inline(always)]
    fn in_streams<I: Isa, A: Arithmetic<I, Word = W::Word>, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        isa: I,
        arithmetic: A,
    ) -> usize {
        let (rows, depth, width) = (self.x.rows(), self.weights.depth(), self.weights.width());
        let first = self.panels.start;
        let each = self.panels.end.min(self.weights.columns() / width).saturating_sub(first) / STREAMS;
        let (groups, blocks) = ((rows * STREAMS).div_ceil(ROWS), depth.div_ceil(STREAMED_DEPTH).max(1));
        let stride = self.target.stride();
        for step in 0..each {
            // A stream passes through neighbouring panels.
            let places: [usize; STREAMS] = std::array::from_fn(|stream| stream * each + step);
            let [Some(one), Some(other)] = places.map(|place| self.weights.whole(first + place)) else {
                return first;
            };
            let mut bias = [0.0; STREAMS * MOST_COLUMNS];
            if let Some(values) = self.epilogue.bias {
                for (bias, place) in bias.chunks_exact_mut(width).zip(places) {
                    bias.copy_from_slice(&values[(first + place) * width..][..width]);
                }
            }
            for block in 0..blocks {
                let epilogue = self.epilogue.of_block(block, blocks, &bias);
                let depths = block * depth / blocks..(block + 1) * depth / blocks;
                let words = depths.start * width..depths.end * width;
                let panels = [one, other].map(|panel| panel[words.clone()].as_ptr());
                for group in 0..groups {
                    let (from, to) = (group * rows / groups, (group + 1) * rows / groups);
                    let x = self.x.part(from..to, depths.clone());
                    let targets = places.map(|place| self.target.as_mut_ptr(from, place * width));
                    // SAFETY: rows `from..to` and `width` columns from each place on lie in the target.
                    unsafe {
                        tiles::<I, A, ROWS, VECTORS, STREAMS>(
                            (isa, arithmetic),
                            x,
                            panels,
                            epilogue,
                            targets,
                            stride,
                        );
                    }
                }
            }
        }
        first + STREAMS * each
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
            let epilogue = self.epilogue.of_block(block, blocks, bias);
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
                    tiles::<I, A, ROWS, VECTORS, 1>(
                        (isa, arithmetic),
                        x,
                        [panel.as_ptr()],
                        epilogue,
                        [target],
                        stride,
                    )
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
                tiles::<I, A, ROWS, VECTORS, 1>(
                    (isa, arithmetic),
                    x,
                    [panel.as_ptr()],
                    epilogue,
                    [tile.as_mut_ptr()],
                    width,
                )
            };
            for (row, tile) in (from..to).zip(tile.chunks_exact(width)) {
                self.target.row(row)[columns.clone()].copy_from_slice(&tile[..columns.len()]);
            }
        }
    }
}
