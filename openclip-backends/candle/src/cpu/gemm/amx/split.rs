//! The product in 32-bit floats, by tiles: each number is the sum of three bfloat16 numbers, so that a product of two is the sum
//! of nine, of which six count. They take less than half the time of the processor's multiplications of 32-bit floats.

use std::ops::Range;

use rten_simd::{
    Isa,
    ops::{BitOps, NumOps},
};

use super::{
    DEPTH, PARTS, ROWS, SPLIT_LINES, STEP, Tiles, WIDTH, ahead,
    parts::{split_panel, split_row},
};
use crate::cpu::{
    aligned::AlignedVec,
    gemm::{
        Epilogue, PanelSource,
        product::Product,
        sums::{self, Group, Streams, TiledProduct},
    },
    matrix::Matrix,
    scratch::Scratch,
};

/// Steps of a panel that are worked on together: 12 KiB of parts, so that they, those that are made and fetched meanwhile, and
/// the rows of a tile fit into the 48 KiB of a first-level cache.
const BLOCK: usize = 2;
/// Steps that all panels are worked through before the next ones, so that the parts of a few hundred rows stay in a
/// second-level cache: 4.5 KiB of a row.
const PASS: usize = 24;
/// Fewer rows than this don't make up for splitting the weights.
const FEWEST_ROWS: usize = 37;
/// Fewer columns than this don't make up for splitting the rows.
const FEWEST_COLUMNS: usize = 128;

/// Whether a product of this size is faster by tiles.
pub fn suits(rows: usize, depth: usize, columns: usize) -> bool {
    rows >= FEWEST_ROWS && depth >= STEP && columns >= FEWEST_COLUMNS && super::is_available()
}

/// Computes the product.
pub fn multiply<W: PanelSource<Word = f32>>(product: Product<W>) {
    let Product { x, weights, panels, mut target, epilogue } = product;
    assert_eq!(weights.depth(), x.columns(), "depth of a product");
    assert_eq!(weights.width(), WIDTH, "panels for another processor");
    let steps = weights.depth().div_ceil(DEPTH);
    let passes = steps.div_ceil(PASS);
    for pass in 0..passes {
        let (first, last) = (pass == 0, pass + 1 == passes);
        let depths = pass * steps / passes * DEPTH..weights.depth().min((pass + 1) * steps / passes * DEPTH);
        let epilogue = Epilogue {
            bias: epilogue.bias.filter(|_| last),
            accumulate: !first || epilogue.accumulate,
            activation: epilogue.activation.filter(|_| last),
        };
        let rows = SplitRows::new(x.part(0..x.rows(), depths.clone()));
        let split = Split {
            tiles: Tiles::new(x.rows()),
            x: &rows,
            weights,
            depths,
            stored: AlignedVec::default(),
            block: Scratch::new(BLOCK * PARTS * STEP * WIDTH),
            steps: 0..0,
        };
        sums::multiply(split, x.rows(), panels.clone(), target.reborrow(), epilogue);
    }
}

/// A matrix `[M, K]` in parts: `[M, steps, PARTS, DEPTH]`, filled up with zeros.
struct SplitRows {
    words: Scratch,
    /// Words from row to row.
    stride: usize,
}

impl SplitRows {
    fn new(x: Matrix) -> Self {
        let words = x.columns().div_ceil(DEPTH) * PARTS * STEP;
        // A gap keeps rows that lie a power of two apart from sharing the same places of a cache.
        let stride = words + STEP;
        // The last group of rows may reach over the end.
        let mut split = Scratch::new((x.rows() + ROWS) * stride);
        for (row, target) in split.chunks_exact_mut(stride).take(x.rows()).enumerate() {
            // SAFETY: the processor has the instructions, or this product would not suit it.
            unsafe { split_row(x.row(row), bytemuck::cast_slice_mut(&mut target[..words])) };
        }
        Self { words: split, stride }
    }
}

/// A product while it is computed.
struct Split<'a, W: PanelSource> {
    tiles: Tiles,
    x: &'a SplitRows,
    weights: &'a W,
    /// The rows of weights that it takes.
    depths: Range<usize>,
    /// Where weights become 32-bit floats that aren't stored like that.
    stored: AlignedVec<f32>,
    /// The block at hand: `[steps, PARTS, STEP, WIDTH]` pairs of neighbours in depth.
    block: Scratch,
    /// Its steps.
    steps: Range<usize>,
}

impl<W: PanelSource<Word = f32>> Split<'_, W> {
    /// All steps.
    fn all_steps(&self) -> usize {
        self.depths.len().div_ceil(DEPTH)
    }

    /// The steps of a block.
    fn steps_of(&self, block: usize) -> Range<usize> {
        let (steps, blocks) = (self.all_steps(), self.blocks());
        block * steps / blocks..(block + 1) * steps / blocks
    }

    /// The rows of weights that belong to a block.
    fn depths_of(&self, block: usize) -> Range<usize> {
        let (steps, Range { start, end }) = (self.steps_of(block), self.depths.clone());
        start + steps.start * DEPTH..end.min(start + steps.end * DEPTH)
    }
}

impl<W: PanelSource<Word = f32>> TiledProduct for Split<'_, W> {
    type Sum = f32;

    fn height(&self) -> usize {
        self.tiles.height()
    }

    fn columns(&self) -> usize {
        self.weights.columns()
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn blocks(&self) -> usize {
        self.all_steps().div_ceil(BLOCK)
    }

    fn stored(&self, panel: usize, block: usize) -> &[u8] {
        self.weights.stored(panel, self.depths_of(block))
    }

    // Inlined into the product, it is compiled for the product's instruction set.
    #[inline(always)]
    fn begin(&mut self, panel: usize, block: usize) {
        self.steps = self.steps_of(block);
        let depths = self.depths_of(block);
        let rows = self.weights.block(panel, depths, &mut self.stored).as_chunks::<WIDTH>().0;
        let pairs = bytemuck::cast_slice_mut::<f32, u32>(&mut self.block).as_chunks_mut().0;
        // SAFETY: as for the rows.
        unsafe { split_panel(rows, pairs) };
    }

    #[inline(always)]
    fn add<I: Isa>(&self, _: I, group: Group, next: Streams, sums: &mut [f32]) {
        let (stride, height) = (self.x.stride, self.tiles.height());
        let x = &self.x.words[group.row * stride + self.steps.start * PARTS * STEP..];
        assert!(
            sums.len() == height * WIDTH
                && (height - 1) * stride + self.steps.len() * PARTS * STEP <= x.len()
                && self.steps.len() * PARTS * STEP * WIDTH <= self.block.len(),
            "a tile of a product"
        );
        // SAFETY: rows, block and sums are as long as they must be.
        unsafe {
            self.tiles.add_split(
                x.as_ptr().cast(),
                stride * size_of::<f32>(),
                self.steps.len(),
                self.block.as_ptr().cast(),
                sums.as_mut_ptr(),
                ahead(next, group.index, self.steps.len() * SPLIT_LINES, self.block.as_ptr().cast()),
            );
        }
    }

    #[inline(always)]
    fn value<I: Isa>(&self, isa: I, _: usize, _: usize, sums: &[f32], bias: I::F32) -> I::F32 {
        isa.f32().add(isa.f32().load(sums), bias)
    }
}
