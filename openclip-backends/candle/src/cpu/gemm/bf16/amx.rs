//! The product by tiles of AMX.

use std::ops::Range;

use rten_simd::{
    Isa,
    ops::{BitOps, NumOps},
};

use super::Bf16Rows;
use crate::cpu::{
    gemm::{
        Epilogue, Panels,
        amx::{PLAIN_LINES, STEP, Tiles, WIDTH, ahead},
        sums::{self, Group, Streams, TiledProduct},
    },
    matrix::MatrixMut,
};

/// Steps of a panel that are worked on together: 32 KiB of the 48 KiB of a first-level cache.
const BLOCK: usize = 16;

/// `target = act(x W + b)`, as [`super::multiply`].
///
/// # Panics
/// When `x` isn't as deep as the weights in whole steps, or on a processor without tiles.
pub fn multiply(
    x: &Bf16Rows,
    rows: Range<usize>,
    pairs: &Panels<u32>,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    assert!(pairs.depth().is_multiple_of(STEP) && pairs.depth() <= x.stride, "depth of a product");
    assert_eq!(pairs.width(), WIDTH, "panels for another processor");
    let words = &bytemuck::cast_slice(&x.words)[rows.start * x.stride..];
    let tiles = Tiles::new(rows.len());
    let product = Pairs { tiles, words, stride: x.stride, pairs, panel: 0, depths: 0..0 };
    sums::multiply(product, rows.len(), panels, target, epilogue);
}

/// A product while it is computed.
struct Pairs<'a> {
    tiles: Tiles,
    /// The rows, and as many more as a group that reaches over their end has.
    words: &'a [u32],
    /// Words from row to row.
    stride: usize,
    pairs: &'a Panels<u32>,
    /// The panel at hand.
    panel: usize,
    /// Its rows at hand.
    depths: Range<usize>,
}

impl Pairs<'_> {
    fn depths(&self, block: usize) -> Range<usize> {
        let (steps, blocks) = (self.pairs.depth() / STEP, self.blocks());
        block * steps / blocks * STEP..(block + 1) * steps / blocks * STEP
    }
}

impl TiledProduct for Pairs<'_> {
    type Sum = f32;

    fn height(&self) -> usize {
        self.tiles.height()
    }

    fn columns(&self) -> usize {
        self.pairs.columns()
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn blocks(&self) -> usize {
        (self.pairs.depth() / STEP).div_ceil(BLOCK)
    }

    fn stored(&self, panel: usize, block: usize) -> &[u8] {
        self.pairs.bytes(panel, self.depths(block))
    }

    #[inline(always)]
    fn begin(&mut self, panel: usize, block: usize) {
        (self.panel, self.depths) = (panel, self.depths(block));
    }

    #[inline(always)]
    fn add<I: Isa>(&self, _: I, group: Group, next: Streams, sums: &mut [f32]) {
        let x = &self.words[group.row * self.stride + self.depths.start..];
        let panel = self.pairs.rows(self.panel, self.depths.clone());
        let (height, steps) = (self.tiles.height(), self.depths.len() / STEP);
        assert!(
            sums.len() == height * WIDTH && (height - 1) * self.stride + self.depths.len() <= x.len(),
            "a tile of a product"
        );
        // SAFETY: `x` and the sums were just compared; the panel has as many rows as it has steps.
        unsafe {
            self.tiles.add_pairs(
                x.as_ptr().cast(),
                self.stride * size_of::<u32>(),
                steps,
                panel.as_ptr().cast(),
                sums.as_mut_ptr(),
                ahead(next, group.index, steps * PLAIN_LINES, panel.as_ptr().cast()),
            );
        }
    }

    #[inline(always)]
    fn value<I: Isa>(&self, isa: I, _: usize, _: usize, sums: &[f32], bias: I::F32) -> I::F32 {
        isa.f32().add(isa.f32().load(sums), bias)
    }
}
