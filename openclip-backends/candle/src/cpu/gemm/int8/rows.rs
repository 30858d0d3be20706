//! Rows in 8-bit integers, as the processor's dot product takes them.

use rayon::prelude::*;
use rten_simd::{
    Isa, SimdOp,
    ops::{BitOps, FloatOps, NarrowSaturate, NumOps},
};

use super::kernel::Kernel;
use crate::cpu::{matrix::Matrix, scratch::Scratch, threads::Threads};

/// A matrix `[M, K]` whose rows were rounded to integers with a factor and an offset each.
pub struct QuantizedRows {
    values: Scratch,
    /// Bytes from row to row.
    stride: usize,
    depth: usize,
    rows: Vec<Factors>,
}

/// What turns the integers of a row into numbers: `scale * (integer - zero)`.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    pub scale: f32,
    /// What is still to be subtracted from each integer.
    pub zero: i32,
}

impl QuantizedRows {
    /// Rounds the rows of `x` for `weights`.
    pub fn new(x: Matrix, weights: &super::Int8Panels, threads: Threads) -> Self {
        Self::for_kernel(x, weights.kernel(), threads)
    }

    pub(super) fn for_kernel(x: Matrix, kernel: &Kernel, threads: Threads) -> Self {
        let depth = x.columns();
        let bytes = kernel.groups(depth) * kernel.group * kernel.value_bytes();
        // A gap keeps rows that lie a power of two apart from sharing the same places of a cache.
        let stride = bytes.next_multiple_of(4) + 64;
        // The last tile may reach over the end.
        let mut values = Scratch::new(((x.rows() + kernel.rows) * stride).div_ceil(size_of::<f32>()));
        let targets = &mut values.bytes_mut()[..x.rows() * stride];
        let one = |row: usize, target: &mut [u8]| {
            let (target, rest) = target.split_at_mut(depth * kernel.value_bytes());
            rest.fill(0);
            match kernel.widened {
                true => {
                    Quantize { x: x.row(row), target: Widened(bytemuck::cast_slice_mut(target)) }.dispatch()
                }
                false => Quantize { x: x.row(row), target: Bytes(target) }.dispatch(),
            }
        };
        let rows = match threads {
            Threads::One => {
                (0..).zip(targets.chunks_exact_mut(stride)).map(|(row, target)| one(row, target)).collect()
            }
            Threads::All => targets
                .par_chunks_exact_mut(stride)
                .enumerate()
                .map(|(row, target)| one(row, target))
                .collect(),
        };
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

    /// What belongs to the row's integers.
    pub(super) fn row(&self, row: usize) -> Factors {
        self.rows[row]
    }
}

/// Where the integers of a row go.
trait Target {
    /// What is left to subtract from integers that are stored here, when `zero` stands for 0.
    fn left(zero: i16) -> i32;

    /// Stores a register of integers without offset, at `place`.
    fn store<I: Isa>(&mut self, isa: I, place: usize, values: [I::I16; 2], zero: I::I16);

    /// Stores one of them.
    fn store_one(&mut self, place: usize, value: i16, zero: i16);
}

/// 16-bit integers without offset.
struct Widened<'a>(&'a mut [i16]);

impl Target for Widened<'_> {
    fn left(_: i16) -> i32 {
        0
    }

    #[inline(always)]
    fn store<I: Isa>(&mut self, isa: I, place: usize, [low, high]: [I::I16; 2], _: I::I16) {
        let ops = isa.i16();
        ops.store(low, &mut self.0[place..]);
        ops.store(high, &mut self.0[place + ops.len()..]);
    }

    #[inline(always)]
    fn store_one(&mut self, place: usize, value: i16, _: i16) {
        self.0[place] = value;
    }
}

/// Bytes with the offset in them.
struct Bytes<'a>(&'a mut [u8]);

impl Target for Bytes<'_> {
    fn left(zero: i16) -> i32 {
        zero.into()
    }

    #[inline(always)]
    fn store<I: Isa>(&mut self, isa: I, place: usize, [low, high]: [I::I16; 2], zero: I::I16) {
        let ops = isa.i16();
        let bytes = ops.narrow_saturate(ops.add(low, zero), ops.add(high, zero));
        isa.u8().store(bytes, &mut self.0[place..]);
    }

    #[inline(always)]
    fn store_one(&mut self, place: usize, value: i16, zero: i16) {
        self.0[place] = (value + zero).clamp(0, 255) as u8;
    }
}

/// Rounds a row to 255 steps from its least to its largest value.
struct Quantize<'a, T> {
    x: &'a [f32],
    target: T,
}

impl<T: Target> SimdOp for Quantize<'_, T> {
    type Output = Factors;

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) -> Factors {
        let (floats, shorts) = (isa.f32(), isa.i16());
        let Range { least, most, finite } = range(isa, self.x);
        let scale = if most > least { (most - least) / 255.0 } else { 1.0 };
        let (inverse, zero) = (scale.recip(), (-least / scale).round_ties_even() as i16);
        let (lowest, highest) = (-zero, 255 - zero);

        let (inverses, zeros) = (floats.splat(inverse), shorts.splat(zero));
        let bounds = [shorts.splat(lowest), shorts.splat(highest)];
        let pair = 2 * floats.len();
        let mut fours = self.x.chunks_exact(2 * pair);
        for (index, four) in fours.by_ref().enumerate() {
            let low = rounded(isa, &four[..pair], inverses, bounds);
            let high = rounded(isa, &four[pair..], inverses, bounds);
            self.target.store(isa, index * 2 * pair, [low, high], zeros);
        }
        let rest = fours.remainder();
        for (place, value) in (self.x.len() - rest.len()..).zip(rest) {
            let value = (value * inverse).round_ties_even() as i16;
            self.target.store_one(place, value.clamp(lowest, highest), zero);
        }
        // What isn't a number must not become one.
        Factors { scale: if finite { scale } else { f32::NAN }, zero: T::left(zero) }
    }
}

/// Two registers of values as integers between the bounds.
#[inline(always)]
fn rounded<I: Isa>(isa: I, values: &[f32], inverse: I::F32, [lowest, highest]: [I::I16; 2]) -> I::I16 {
    let (floats, shorts) = (isa.f32(), isa.i16());
    let (low, high) = values.split_at(floats.len());
    let low = floats.to_int_round(floats.mul(floats.load(low), inverse));
    let high = floats.to_int_round(floats.mul(floats.load(high), inverse));
    shorts.min(shorts.max(isa.i32().narrow_saturate(low, high), lowest), highest)
}

/// What a row's values lie between, zero included: so the offset is an integer.
struct Range {
    least: f32,
    most: f32,
    finite: bool,
}

#[inline(always)]
fn range<I: Isa>(isa: I, x: &[f32]) -> Range {
    let ops = isa.f32();
    let (mut least, mut most, mut nothing) = (ops.zero(), ops.zero(), ops.zero());
    let mut registers = x.chunks_exact(ops.len());
    for register in registers.by_ref() {
        let values = ops.load(register);
        (least, most) = (ops.min(values, least), ops.max(values, most));
        // Zero, or not a number.
        nothing = ops.mul_add(values, ops.zero(), nothing);
    }
    let mut range = Range { least: 0.0, most: 0.0, finite: ops.sum(nothing) == 0.0 };
    let mut lanes = [[0.0; 16]; 2];
    ops.store(least, &mut lanes[0]);
    ops.store(most, &mut lanes[1]);
    let kept = lanes.as_flattened().iter().copied();
    for value in registers.remainder().iter().copied().chain(kept) {
        range.least = range.least.min(value);
        range.most = range.most.max(value);
        range.finite &= value.is_finite();
    }
    range
}
