//! Rows in 8-bit integers, as the processor's dot product takes them.

use rten_simd::SimdOp;
use rten_vecmath::{MinMax, Quantize, Sum};

use super::kernel::Kernel;
use crate::cpu::{matrix::Matrix, scratch::Scratch};

/// A matrix `[M, K]` whose rows were rounded to integers with a factor and an offset each.
pub struct QuantizedRows {
    values: Scratch,
    /// Bytes from row to row.
    stride: usize,
    depth: usize,
    /// Per row: the factor, and what is still to be subtracted from each integer.
    rows: Vec<(f32, i32)>,
}

impl QuantizedRows {
    /// Rounds the rows of `x` for `weights`.
    pub fn new(x: Matrix, weights: &super::Int8Panels) -> Self {
        Self::for_kernel(x, weights.kernel())
    }

    pub(super) fn for_kernel(x: Matrix, kernel: &Kernel) -> Self {
        let depth = x.columns();
        let bytes = depth.next_multiple_of(kernel.group) * if kernel.widened { 2 } else { 1 };
        // A gap keeps rows that lie a power of two apart from sharing the same places of a cache.
        let stride = bytes.next_multiple_of(4) + 64;
        let mut values = Scratch::new((x.rows() * stride).div_ceil(size_of::<f32>()));
        let mut narrow = vec![0_u8; depth];
        let mut rows = Vec::with_capacity(x.rows());
        for (row, target) in (0..x.rows()).zip(values.bytes_mut().chunks_exact_mut(stride)) {
            let x = x.row(row);
            let (least, most) = MinMax::new(x).dispatch();
            // Zero has to be one of the values, so that the offset is an integer.
            let (least, most) = (least.min(0.0), most.max(0.0));
            let scale = if most > least { (most - least) / 255.0 } else { 1.0 };
            let zero = (-least / scale).round_ties_even() as u8;
            Quantize::new(x, uninit(&mut narrow), scale.recip(), zero).dispatch();
            match kernel.widened {
                true => {
                    let (pairs, rest) = target.split_at_mut(2 * depth);
                    for (target, &value) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(&narrow) {
                        *target = (i16::from(value) - i16::from(zero)).to_ne_bytes();
                    }
                    rest.fill(0);
                    rows.push((scale, 0));
                }
                false => {
                    let (bytes, rest) = target.split_at_mut(depth);
                    bytes.copy_from_slice(&narrow);
                    rest.fill(0);
                    rows.push((scale, i32::from(zero)));
                }
            }
            // What isn't a number must not become one.
            if let Some((scale, _)) = rows.last_mut().filter(|_| !Sum::new(x).dispatch().is_finite()) {
                *scale = f32::NAN;
            }
        }
        Self { values, stride, depth, rows }
    }

    /// `K`.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// The bytes from the row `first` on.
    pub(super) fn bytes_from(&self, first: usize) -> &[u8] {
        &self.values.bytes()[first * self.stride..]
    }

    /// The factor of a row, and what is to be subtracted from each of its integers.
    pub(super) fn row(&self, row: usize) -> (f32, i32) {
        self.rows[row]
    }
}

fn uninit(values: &mut [u8]) -> &mut [std::mem::MaybeUninit<u8>] {
    // SAFETY: the layout is the same, and `Quantize` writes initialised values only.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}
