//! Tiles of a product: as many values as registers hold, added up along the depth.

use bytemuck::Pod;
use rten_simd::{
    Isa, Simd, SimdUnaryOp,
    ops::{BitOps, NumOps},
};

use super::product::{Arithmetic, Epilogue};
use crate::cpu::{activation::with_activation, aligned::LINE, matrix::Matrix};

/// Asks for memory that will be read soon.
#[inline(always)]
pub fn prefetch<I: Isa, T: Pod>(isa: I, values: &[T]) {
    for line in bytemuck::cast_slice::<T, u8>(values).chunks(LINE) {
        isa.u8().prefetch(line.as_ptr());
    }
}

/// Bytes between what is read of a panel that comes from memory and what is fetched meanwhile.
const AHEAD: usize = 2048;

/// A tile of as many rows as `x` has, at most `ROWS / PANELS`, for each of some panels. Where there are several, they are
/// fetched while they are read.
///
/// # Safety
/// Each of `targets` has as many rows as `x`, `stride` apart, of `VECTORS` registers each; each of `panels` has as many rows
/// as `x` has columns, of `VECTORS` registers each; the epilogue's bias has `VECTORS` registers for each panel.
#[inline(always)]
pub unsafe fn tiles<
    I: Isa,
    A: Arithmetic<I>,
    const ROWS: usize,
    const VECTORS: usize,
    const PANELS: usize,
>(
    (isa, arithmetic): (I, A),
    x: Matrix<A::Word>,
    panels: [*const A::Word; PANELS],
    epilogue: Epilogue,
    targets: [*mut f32; PANELS],
    stride: usize,
) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match x.rows() {
                $($rows if const { $rows * PANELS <= ROWS } => {
                    // SAFETY: `x` has this many rows; the rest is the caller's promise.
                    unsafe {
                        tiles_of::<I, A, $rows, VECTORS, PANELS>(
                            (isa, arithmetic), x, panels, epilogue, targets, stride,
                        )
                    }
                })*
                rows => unreachable!("tiles of {rows} rows"),
            }
        };
    }
    rows!(1 2 3 4 5 6 7 8 9 10 11 12);
    if let Some(activation) = epilogue.activation {
        for target in targets {
            // SAFETY: the caller's promise.
            unsafe {
                with_activation!(activation, op => activate::<I, VECTORS>(isa, &op, target, x.rows(), stride));
            }
        }
    }
}

/// # Safety
/// As [`tiles`], and `x` has `ROWS` rows.
#[inline(always)]
unsafe fn tiles_of<I: Isa, A: Arithmetic<I>, const ROWS: usize, const VECTORS: usize, const PANELS: usize>(
    (isa, arithmetic): (I, A),
    x: Matrix<A::Word>,
    mut panels: [*const A::Word; PANELS],
    epilogue: Epilogue,
    targets: [*mut f32; PANELS],
    stride: usize,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let mut sums = [[[ops.zero(); VECTORS]; PANELS]; ROWS];
    let (mut left, distance) = (x.as_ptr(), x.stride());
    for _ in 0..x.columns() {
        for (index, panel) in panels.iter_mut().enumerate() {
            if const { PANELS > 1 } {
                for line in 0..(VECTORS * size_of::<I::F32>()).div_ceil(LINE) {
                    // Nothing is read there, so it may lie behind the panels.
                    isa.u8().prefetch(panel.cast::<u8>().wrapping_add(AHEAD + line * LINE));
                }
            }
            // SAFETY: `left` walks along the first row of `x`, from which `ROWS` rows can be read, and `panel` along a panel.
            unsafe {
                let words: [A::Words; VECTORS] =
                    std::array::from_fn(|vector| arithmetic.load(isa, panel.add(vector * lanes)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let factor = arithmetic.splat(isa, *left.add(row * distance));
                    for (sum, words) in sums[index].iter_mut().zip(words) {
                        *sum = arithmetic.multiply_add(isa, factor, words, *sum);
                    }
                }
                *panel = panel.add(VECTORS * lanes);
            }
        }
        // SAFETY: as above.
        left = unsafe { left.add(1) };
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (index, (sums, target)) in sums.into_iter().zip(targets).enumerate() {
            for (vector, mut sum) in sums.into_iter().enumerate() {
                // SAFETY: target and bias have this register.
                unsafe {
                    let place = target.add(row * stride + vector * lanes);
                    if let Some(bias) = epilogue.bias {
                        sum =
                            ops.add(sum, ops.load_ptr(bias.as_ptr().add((index * VECTORS + vector) * lanes)));
                    }
                    if epilogue.accumulate {
                        sum = ops.add(sum, ops.load_ptr(place));
                    }
                    ops.store_ptr(sum, place);
                }
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
