//! The inverse discrete cosine transform in libjpeg's accurate integer arithmetic (`jidctint.c`: Loeffler, Ligtenberg and
//! Moschytz with 13 bits of fraction), and its reduced forms for 4, 2 and 1 samples a side (`jidctred.c`).
//!
//! Eight blocks are transformed side by side, so that each step is the same operation on eight neighbouring numbers: plain
//! loops that the compiler turns into vectors, with nothing to transpose.
//!
//! Values that no encoder writes but damage does wrap around and saturate at 16 bits where they do in libjpeg-turbo's vector
//! code for x86, which is what Pillow runs: damaged files have its pixels too.

use super::coefficients::{GROUP, Group, LANES};
use super::header::QuantTable;

/// Fraction bits of the constants.
const CONST_BITS: u32 = 13;
/// Fraction bits that are kept between the passes.
const PASS1_BITS: u32 = 2;

/// A constant in fixed point.
const fn fix(value: f64) -> i32 {
    (value * (1 << CONST_BITS) as f64 + if value < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// Columns of the natural order that hold all coefficients up to this one of the zigzag order.
const fn columns(extent: u8) -> usize {
    match extent {
        0 => 1,
        1..=2 => 2,
        3..=5 => 3,
        6..=9 => 4,
        10..=14 => 5,
        15..=20 => 6,
        21..=27 => 7,
        _ => 8,
    }
}

/// Transforms the blocks of a group into samples of 8 bits, `size` (1, 2, 4 or 8) a side, and writes them into rows of
/// `stride` samples: the first sample of the first block comes at the start of `output`. `extent` is the last coefficient
/// in zigzag order that any of the blocks has.
#[inline(always)]
pub(super) fn transform(
    group: &Group,
    extent: u8,
    quant: &QuantTable,
    size: usize,
    output: &mut [u8],
    stride: usize,
) {
    let mut middle = [0; GROUP];
    match size {
        8 => {
            pass_one::<8>(group, quant, columns(extent), &mut middle, eight, CONST_BITS - PASS1_BITS);
            wrap_flat_columns(group, quant, &mut middle);
            pass_two::<8>(&middle, output, stride, eight, CONST_BITS + PASS1_BITS + 3);
        }
        4 => {
            pass_one::<4>(group, quant, columns(extent), &mut middle, four, CONST_BITS - PASS1_BITS + 1);
            pass_two::<4>(&middle, output, stride, four, CONST_BITS + PASS1_BITS + 3 + 1);
        }
        2 => {
            pass_one::<2>(group, quant, columns(extent), &mut middle, two, CONST_BITS - PASS1_BITS + 2);
            pass_two::<2>(&middle, output, stride, two, CONST_BITS + PASS1_BITS + 3 + 2);
        }
        _ => {
            for (sample, &dc) in output.iter_mut().zip(&group[..LANES]) {
                *sample = clamp(descale(i32::from(dc).wrapping_mul(quant[0]), 3));
            }
        }
    }
}

/// Along the columns. The result of row `r`, column `c` and block `lane` is at `(r * 8 + c) * LANES + lane`.
#[inline(always)]
fn pass_one<const N: usize>(
    group: &Group,
    quant: &QuantTable,
    columns: usize,
    middle: &mut [i16; GROUP],
    kernel: impl Fn([i16; 8]) -> [i32; N],
    shift: u32,
) {
    for column in 0..columns {
        let steps: [i16; 8] = std::array::from_fn(|row| quant[row * 8 + column] as i16);
        let input: [&[i16; LANES]; 8] = std::array::from_fn(|row| lanes(group, row * 8 + column));
        let mut sums = [[0; LANES]; N];
        for lane in 0..LANES {
            let sum = kernel(std::array::from_fn(|row| input[row][lane].wrapping_mul(steps[row])));
            for row in 0..N {
                sums[row][lane] = saturate(descale(sum[row], shift));
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let start = (row * 8 + column) * LANES;
            middle[start..start + LANES].copy_from_slice(sums);
        }
    }
}

/// Blocks with nothing but their first row take a short cut in libjpeg-turbo, which wraps what [`pass_one`] saturates.
#[inline(always)]
fn wrap_flat_columns(group: &Group, quant: &QuantTable, middle: &mut [i16; GROUP]) {
    const LIMIT: u16 = i16::MAX as u16 >> PASS1_BITS;
    let first_row = |column: usize| {
        lanes(group, column).iter().map(move |&value| value.wrapping_mul(quant[column] as i16))
    };
    let largest = (0..8).flat_map(first_row).fold(0, |largest, value| value.unsigned_abs().max(largest));
    if largest > LIMIT {
        for lane in 0..LANES {
            if (8..64).all(|place| lanes(group, place)[lane] == 0) {
                for place in 0..64 {
                    let value = lanes(group, place % 8)[lane].wrapping_mul(quant[place % 8] as i16);
                    middle[place * LANES + lane] = value << PASS1_BITS;
                }
            }
        }
    }
}

/// Along the rows, with rounding to samples.
#[inline(always)]
fn pass_two<const N: usize>(
    middle: &[i16; GROUP],
    output: &mut [u8],
    stride: usize,
    kernel: impl Fn([i16; 8]) -> [i32; N],
    shift: u32,
) {
    for (row, output) in output.chunks_mut(stride).take(N).enumerate() {
        let input: [&[i16; LANES]; 8] = std::array::from_fn(|column| lanes(middle, row * 8 + column));
        // Four samples of a block to a number.
        let mut low = [0_u32; LANES];
        let mut high = [0_u32; LANES];
        for lane in 0..LANES {
            let sums = kernel(std::array::from_fn(|column| input[column][lane]));
            for (column, &sum) in sums.iter().enumerate() {
                let sample = u32::from(clamp(descale(sum, shift))) << (column % 4 * 8);
                if column < 4 {
                    low[lane] |= sample;
                } else {
                    high[lane] |= sample;
                }
            }
        }
        for ((block, low), high) in output.chunks_exact_mut(N).zip(low).zip(high) {
            let bytes = (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
            block.copy_from_slice(&bytes[..N]);
        }
    }
}

/// The lanes of a coefficient.
#[inline(always)]
fn lanes<T>(values: &[T; GROUP], index: usize) -> &[T; LANES] {
    &values.as_chunks::<LANES>().0[index % 64]
}

#[inline(always)]
fn descale(value: i32, bits: u32) -> i32 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

/// The nearest number of 16 bits.
#[inline(always)]
fn saturate(value: i32) -> i16 {
    value.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// A sample from its difference to the middle of the range.
#[inline(always)]
fn clamp(value: i32) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

/// The full transform, unscaled.
#[inline(always)]
fn eight(x: [i16; 8]) -> [i32; 8] {
    let mul = i32::wrapping_mul;
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    // These sums have 16 bits.
    let t0 = i32::from(x[0].wrapping_add(x[4])) << CONST_BITS;
    let t1 = i32::from(x[0].wrapping_sub(x[4])) << CONST_BITS;
    let z3 = i32::from(x[7].wrapping_add(x[3]));
    let z4 = i32::from(x[5].wrapping_add(x[1]));
    let x = x.map(i32::from);
    // Even part.
    let z1 = mul(add(x[2], x[6]), fix(0.541_196_100));
    let t2 = sub(z1, mul(x[6], fix(1.847_759_065)));
    let t3 = add(z1, mul(x[2], fix(0.765_366_865)));
    let even = [add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3)];
    // Odd part.
    let z5 = mul(add(z3, z4), fix(1.175_875_602));
    let z1 = mul(add(x[7], x[1]), fix(0.899_976_223));
    let z2 = mul(add(x[5], x[3]), fix(2.562_915_447));
    let z3 = sub(z5, mul(z3, fix(1.961_570_560)));
    let z4 = sub(z5, mul(z4, fix(0.390_180_644)));
    let odd = [
        add(sub(mul(x[1], fix(1.501_321_110)), z1), z4),
        add(sub(mul(x[3], fix(3.072_711_026)), z2), z3),
        add(sub(mul(x[5], fix(2.053_119_869)), z2), z4),
        add(sub(mul(x[7], fix(0.298_631_336)), z1), z3),
    ];
    [
        add(even[0], odd[0]),
        add(even[1], odd[1]),
        add(even[2], odd[2]),
        add(even[3], odd[3]),
        sub(even[3], odd[3]),
        sub(even[2], odd[2]),
        sub(even[1], odd[1]),
        sub(even[0], odd[0]),
    ]
}

/// Four samples of the eight coefficients, unscaled.
#[inline(always)]
fn four(x: [i16; 8]) -> [i32; 4] {
    let x = x.map(i32::from);
    let mul = i32::wrapping_mul;
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    let t0 = x[0] << (CONST_BITS + 1);
    let t2 = sub(mul(x[2], fix(1.847_759_065)), mul(x[6], fix(0.765_366_865)));
    let even = [add(t0, t2), sub(t0, t2)];
    let odd = [
        add(
            sub(mul(x[3], fix(0.899_976_223)), mul(x[7], fix(0.509_795_579))),
            sub(mul(x[1], fix(2.562_915_447)), mul(x[5], fix(0.601_344_887))),
        ),
        add(
            sub(mul(x[5], fix(1.451_774_981)), mul(x[7], fix(0.211_164_243))),
            sub(mul(x[1], fix(1.061_594_337)), mul(x[3], fix(2.172_734_803))),
        ),
    ];
    [add(even[0], odd[0]), add(even[1], odd[1]), sub(even[1], odd[1]), sub(even[0], odd[0])]
}

/// Two samples of the eight coefficients, unscaled.
#[inline(always)]
fn two(x: [i16; 8]) -> [i32; 2] {
    let x = x.map(i32::from);
    let mul = i32::wrapping_mul;
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    let even = x[0] << (CONST_BITS + 2);
    let odd = add(
        sub(mul(x[5], fix(0.850_430_095)), mul(x[7], fix(0.720_959_822))),
        sub(mul(x[1], fix(3.624_509_785)), mul(x[3], fix(1.272_758_580))),
    );
    [add(even, odd), sub(even, odd)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The transform of one block by its definition, in double precision.
    fn plain(block: &[f64; 64]) -> [f64; 64] {
        let factor = |k: usize| if k == 0 { 0.5_f64.sqrt() } else { 1.0 };
        let wave = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|index| {
            let (x, y) = (index % 8, index / 8);
            let terms = (0..64).map(|k| {
                let (u, v) = (k % 8, k / 8);
                factor(u) * factor(v) * block[k] * wave(x, u) * wave(y, v)
            });
            terms.sum::<f64>() / 4.0 + 128.0
        })
    }

    /// Damaged coefficients: 4 * 9000 saturates, but wraps in a block without rows that differ.
    #[test]
    fn too_large_values_wrap_where_the_reference_wraps_them() {
        let mut group = [0; GROUP];
        group[..LANES].fill(9000);
        group[8 * LANES + 1] = 1;
        let mut rows = [7; GROUP];
        transform(&group, 63, &[1; 64], 8, &mut rows, 64);
        assert!(rows.chunks(64).all(|row| row[..8] == [0; 8] && row[8..16] == [255; 8]));
    }

    proptest! {
        #[test]
        fn the_transform_is_the_definition_rounded(
            values in proptest::collection::vec(-60_i16..60, GROUP), step in 1_i32..4, extent in 0_u8..64,
        ) {
            let zigzag = super::super::header::ZIGZAG;
            let mut group = [0; GROUP];
            for &place in &zigzag[..=usize::from(extent)] {
                let start = usize::from(place) * LANES;
                group[start..start + LANES].copy_from_slice(&values[start..start + LANES]);
            }
            let quant = [step; 64];
            let mut rows = [0; GROUP];
            transform(&group, extent, &quant, 8, &mut rows, 64);
            for lane in 0..LANES {
                let block = std::array::from_fn(|k| f64::from(i32::from(group[k * LANES + lane]) * step));
                for (index, expected) in plain(&block).into_iter().enumerate() {
                    let found = f64::from(rows[index / 8 * 64 + lane * 8 + index % 8]);
                    prop_assert!((found - expected.clamp(0.0, 255.0)).abs() < 1.0, "{found} for {expected}");
                }
            }
        }

        #[test]
        fn reduced_blocks_have_the_mean_of_the_whole(dc in -500_i16..500) {
            let mut group = [0; GROUP];
            group[..LANES].fill(dc);
            for size in [1, 2, 4, 8] {
                let mut rows = [0; GROUP];
                transform(&group, 0, &[2; 64], size, &mut rows, LANES * size);
                let expected = f64::from(dc) / 4.0 + 128.0;
                for &found in &rows[..LANES * size * size] {
                    prop_assert!((f64::from(found) - expected.clamp(0.0, 255.0)).abs() <= 0.5);
                }
            }
        }
    }
}
