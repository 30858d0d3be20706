//! The product of rows and weights in integers, and back to floats.

use std::ops::Range;

use rten_simd::{
    Isa,
    ops::{BitOps, NumOps, ToFloat},
};

use super::{Int8Panels, QuantizedRows, kernel::Started};
use crate::cpu::{
    gemm::{
        Epilogue,
        sums::{self, Group, Streams, TiledProduct},
    },
    matrix::MatrixMut,
};

/// `target = act(x W + b)`, or with what the target holds added before the activation, for `rows` of `x` and the columns
/// of `panels`.
///
/// # Shapes
/// `x [M, K]`, `weights [K, N]`, `target [the rows, the columns of the panels]`, and the epilogue's bias `[N]`.
pub fn multiply(
    x: &QuantizedRows,
    rows: Range<usize>,
    weights: &Int8Panels,
    panels: Range<usize>,
    target: MatrixMut,
    epilogue: Epilogue,
) {
    assert_eq!(x.depth(), weights.depth(), "depth of a product");
    let kernel = weights.kernel().start(rows.len());
    let tiles = Integers { kernel, x, first: rows.start, weights, panel: 0, groups: 0..0 };
    sums::multiply(tiles, rows.len(), panels, target, epilogue);
}

/// A product while it is computed.
struct Integers<'a> {
    kernel: Started,
    x: &'a QuantizedRows,
    /// The row of `x` that is the first.
    first: usize,
    weights: &'a Int8Panels,
    /// The panel at hand.
    panel: usize,
    /// Its groups of depth at hand.
    groups: Range<usize>,
}

impl Integers<'_> {
    fn groups(&self, block: usize) -> Range<usize> {
        let (steps, blocks) = (self.weights.groups() / self.weights.kernel().step, self.blocks());
        let step = self.weights.kernel().step;
        block * steps / blocks * step..(block + 1) * steps / blocks * step
    }
}

impl TiledProduct for Integers<'_> {
    type Sum = i32;

    fn height(&self) -> usize {
        self.kernel.height()
    }

    fn columns(&self) -> usize {
        self.weights.columns()
    }

    fn width(&self) -> usize {
        self.weights.width()
    }

    fn blocks(&self) -> usize {
        let kernel = self.weights.kernel();
        self.weights.groups().div_ceil(kernel.block / kernel.group).max(1)
    }

    fn stored(&self, panel: usize, block: usize) -> &[u8] {
        bytemuck::cast_slice(self.weights.block(panel, self.groups(block)))
    }

    #[inline(always)]
    fn begin(&mut self, panel: usize, block: usize) {
        (self.panel, self.groups) = (panel, self.groups(block));
    }

    #[inline(always)]
    fn add<I: Isa>(&self, isa: I, group: Group, next: Streams, sums: &mut [i32]) {
        let kernel = self.weights.kernel();
        let offset = self.groups.start * kernel.group * kernel.value_bytes();
        let x = &self.x.bytes_from(self.first + group.row)[offset..];
        let panel = self.weights.block(self.panel, self.groups.clone());
        if !self.kernel.fetches() {
            group.fetch(isa, next);
        }
        self.kernel.add(group, (x, self.x.stride()), panel, sums, next);
    }

    /// `scale * scales * (sums - zero * column sums) + bias`.
    #[inline(always)]
    fn value<I: Isa>(&self, isa: I, row: usize, column: usize, sums: &[i32], bias: I::F32) -> I::F32 {
        let (floats, integers) = (isa.f32(), isa.i32());
        let factors = self.x.row(self.first + row);
        let (scales, column_sums) = self.weights.columns_from(column);
        let mut sum = integers.load(sums);
        if factors.zero != 0 {
            let offset = integers.mul(integers.splat(factors.zero), integers.load(column_sums));
            sum = integers.sub(sum, offset);
        }
        let factor = floats.mul(floats.splat(factors.scale), floats.load(scales));
        floats.mul_add(integers.to_float(sum), factor, bias)
    }
}
