//! The product of rows and weights in integers, and back to floats.

use std::ops::Range;

use rten_simd::{
    Isa, SimdOp, SimdUnaryOp,
    ops::{BitOps, NumOps, ToFloat},
};

use super::{Int8Panels, QuantizedRows, rows::Factors};
use crate::cpu::{
    activation::with_activation,
    gemm::{Epilogue, product::prefetch},
    matrix::MatrixMut,
    scratch::Scratch,
};

/// Columns of the widest tile.
const WIDEST: usize = 32;
/// Depth of a panel that is worked on together: with a tile's rows of that depth, those that are fetched meanwhile and the
/// sums it fits into a first-level cache of 32 KiB.
const BLOCK: usize = 512;

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
    let product = Product { x, rows, weights, panels, target, epilogue };
    match epilogue.activation {
        Some(activation) => with_activation!(activation, op => Finished { product, op }.dispatch()),
        None => Finished { product, op: Identity }.dispatch(),
    }
}

/// No activation.
struct Identity;

impl SimdUnaryOp<f32> for Identity {
    #[inline(always)]
    fn eval<I: Isa>(&self, _: I, x: I::F32) -> I::F32 {
        x
    }
}

struct Product<'a> {
    x: &'a QuantizedRows,
    rows: Range<usize>,
    weights: &'a Int8Panels,
    panels: Range<usize>,
    target: MatrixMut<'a>,
    epilogue: Epilogue<'a>,
}

struct Finished<'a, Op> {
    product: Product<'a>,
    op: Op,
}

impl<Op: SimdUnaryOp<f32>> SimdOp for Finished<'_, Op> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Product { x, rows, weights, panels, mut target, epilogue } = self.product;
        let kernel = weights.kernel();
        let width = kernel.width;
        let first_column = panels.start * width;
        assert_eq!(
            (rows.len(), weights.columns().min(panels.end * width) - first_column),
            (target.rows(), target.columns()),
            "target of a product"
        );
        let mut sums = Scratch::new(rows.len() * width);
        let sums: &mut [i32] = bytemuck::cast_slice_mut(&mut sums);
        for index in panels {
            sums.fill(0);
            add_products(isa, x, rows.clone(), weights, index, sums);

            let (scales, column_sums) = weights.columns_of(index);
            let start = index * width;
            let filled = width.min(weights.columns() - start);
            let mut bias = [0.0; WIDEST];
            if let Some(values) = epilogue.bias {
                bias[..filled].copy_from_slice(&values[start..start + filled]);
            }
            let columns = Columns { scales, sums: column_sums, bias: &bias[..width] };
            let place = start - first_column..start - first_column + filled;
            for (row, sums) in sums.chunks_exact(width).enumerate() {
                let factors = x.row(rows.start + row);
                let target = &mut target.row(row)[place.clone()];
                if filled == width {
                    finish(isa, &self.op, sums, factors, columns, epilogue.accumulate, target);
                } else {
                    let mut line = [0.0; WIDEST];
                    line[..filled].copy_from_slice(target);
                    finish(isa, &self.op, sums, factors, columns, epilogue.accumulate, &mut line[..width]);
                    target.copy_from_slice(&line[..filled]);
                }
            }
        }
    }
}

/// Adds the products of `rows` of `x` and a panel to `sums [the rows, width]`. The rows pass by a block of the panel that
/// stays in the first-level cache while the next block is fetched from memory.
#[inline(always)]
fn add_products<I: Isa>(
    isa: I,
    x: &QuantizedRows,
    rows: Range<usize>,
    weights: &Int8Panels,
    index: usize,
    sums: &mut [i32],
) {
    let kernel = weights.kernel();
    let (depth_groups, row_groups) = (weights.groups(), rows.len().div_ceil(kernel.rows));
    let blocks = depth_groups.div_ceil(BLOCK / kernel.group).max(1);
    let part = |block: usize| block * depth_groups / blocks..(block + 1) * depth_groups / blocks;
    for block in 0..blocks {
        let next: &[i8] = if block + 1 < blocks {
            weights.block(index, part(block + 1))
        } else if (index + 1) * kernel.width < weights.columns() {
            weights.block(index + 1, part(0))
        } else {
            &[]
        };
        let groups = part(block);
        let panel = weights.block(index, groups.clone());
        let offset = groups.start * kernel.group * kernel.value_bytes();
        for group in 0..row_groups {
            let (from, to) = (group * rows.len() / row_groups, (group + 1) * rows.len() / row_groups);
            prefetch(isa, &next[group * next.len() / row_groups..(group + 1) * next.len() / row_groups]);
            let bytes = &x.bytes_from(rows.start + from)[offset..];
            let sums = &mut sums[from * kernel.width..to * kernel.width];
            kernel.tile(to - from, bytes, x.stride(), groups.len(), panel, sums);
        }
    }
}

/// What belongs to the columns of a panel, all of one length, a multiple of a register's.
#[derive(Clone, Copy)]
struct Columns<'a> {
    scales: &'a [f32],
    sums: &'a [i32],
    bias: &'a [f32],
}

/// `target = op(scale * scales * (sums - zero * column sums) + bias)`, or with what the target holds added before `op`.
#[inline(always)]
fn finish<I: Isa>(
    isa: I,
    op: &impl SimdUnaryOp<f32>,
    sums: &[i32],
    factors: Factors,
    columns: Columns,
    accumulate: bool,
    target: &mut [f32],
) {
    let (floats, integers) = (isa.f32(), isa.i32());
    let (scale, zero) = (floats.splat(factors.scale), integers.splat(factors.zero));
    let lanes = floats.len();
    for start in (0..target.len()).step_by(lanes) {
        let place = start..start + lanes;
        let mut sum = integers.load(&sums[place.clone()]);
        if factors.zero != 0 {
            sum = integers.sub(sum, integers.mul(zero, integers.load(&columns.sums[place.clone()])));
        }
        let factor = floats.mul(scale, floats.load(&columns.scales[place.clone()]));
        let mut sum =
            floats.mul_add(integers.to_float(sum), factor, floats.load(&columns.bias[place.clone()]));
        if accumulate {
            sum = floats.add(sum, floats.load(&target[place.clone()]));
        }
        floats.store(op.eval(isa, sum), &mut target[place]);
    }
}
