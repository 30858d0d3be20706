//! The product of rows and weights in integers, and back to floats.

use std::ops::Range;

use rten_simd::{
    Isa, SimdOp, SimdUnaryOp,
    ops::{BitOps, NumOps, ToFloat},
};

use super::{Int8Panels, QuantizedRows};
use crate::cpu::{activation::with_activation, gemm::Epilogue, matrix::MatrixMut};

/// Values of the largest tile.
const TILE: usize = 12 * 32;

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
        let groups = rows.len().div_ceil(kernel.rows);
        let mut sums = [0; TILE];
        let mut line = [0.0; 32];
        for index in panels {
            let panel = weights.panel(index);
            let (scales, column_sums) = weights.columns_of(index);
            let start = index * width;
            let filled = width.min(weights.columns() - start);
            let mut bias = [0.0; 32];
            if let Some(values) = epilogue.bias {
                bias[..filled].copy_from_slice(&values[start..start + filled]);
            }
            let columns = start - first_column..start - first_column + filled;
            for group in 0..groups {
                let (from, to) = (group * rows.len() / groups, (group + 1) * rows.len() / groups);
                let bytes = x.bytes_from(rows.start + from);
                kernel.tile(to - from, bytes, x.stride(), x.depth(), panel, &mut sums);
                for (row, sums) in (from..to).zip(sums.chunks_exact(width)) {
                    let target = &mut target.row(row)[columns.clone()];
                    let line = &mut line[..width];
                    match epilogue.accumulate {
                        true => line[..filled].copy_from_slice(target),
                        false => line.fill(0.0),
                    }
                    let factors = x.row(rows.start + row);
                    finish(isa, &self.op, sums, factors, (scales, column_sums, &bias[..width]), line);
                    target.copy_from_slice(&line[..filled]);
                }
            }
        }
    }
}

/// `line = op(line + scale * scales * (sums - zero * column_sums) + bias)`, all of one length, a multiple of a register's.
#[inline(always)]
fn finish<I: Isa>(
    isa: I,
    op: &impl SimdUnaryOp<f32>,
    sums: &[i32],
    (scale, zero): (f32, i32),
    (scales, column_sums, bias): (&[f32], &[i32], &[f32]),
    line: &mut [f32],
) {
    let (floats, integers) = (isa.f32(), isa.i32());
    let (scale, zero) = (floats.splat(scale), integers.splat(zero));
    let lanes = floats.len();
    for start in (0..line.len()).step_by(lanes) {
        let place = start..start + lanes;
        let offset = integers.mul(zero, integers.load(&column_sums[place.clone()]));
        let sum = integers.to_float(integers.sub(integers.load(&sums[place.clone()]), offset));
        let factor = floats.mul(scale, floats.load(&scales[place.clone()]));
        let sum = floats.mul_add(sum, factor, floats.load(&bias[place.clone()]));
        let sum = floats.add(sum, floats.load(&line[place.clone()]));
        floats.store(op.eval(isa, sum), &mut line[place]);
    }
}
