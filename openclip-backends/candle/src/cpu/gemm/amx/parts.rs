//! Numbers in parts: `x = h + m + l` with three bfloat16 numbers, each the nearest to what the ones before leave over. As they
//! hold 8 bits each, and a 32-bit float 24, nothing is left.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_permutex2var_epi16, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

use super::{DEPTH, PARTS, STEP, WIDTH};

/// 32-bit words of a register.
const LANES: usize = 16;

/// Rounds to the upper half of the bits what is left of two registers of numbers, takes it away, and gives the halves in the
/// order that `places` says. What isn't a number leaves something over that isn't one either.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn next_part(rest: &mut [__m512; 2], places: __m512i) -> __m512i {
    let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
    let [first, second] = rest.map(|number| _mm512_add_epi32(_mm512_castps_si512(number), half));
    let part = _mm512_permutex2var_epi16(first, places, second);
    for (rest, rounded) in rest.iter_mut().zip([first, second]) {
        *rest = _mm512_sub_ps(*rest, _mm512_castsi512_ps(_mm512_and_si512(rounded, upper)));
    }
    part
}

/// The parts of two registers of numbers, the largest first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn parts(mut rest: [__m512; 2], places: __m512i) -> [__m512i; PARTS] {
    let (first, second) = (next_part(&mut rest, places), next_part(&mut rest, places));
    let [left, right] = rest.map(|number| _mm512_castps_si512(number));
    // No more than 8 bits are left.
    [first, second, _mm512_permutex2var_epi16(left, places, right)]
}

/// Where the upper halves of the words of two registers are: those of one after those of the other, or by turns.
#[inline]
#[target_feature(enable = "avx512f")]
fn places(by_turns: bool) -> __m512i {
    let places: [u16; 2 * LANES] = std::array::from_fn(|place| {
        let word = if by_turns { place / 2 + place % 2 * LANES } else { place };
        (2 * word + 1) as u16
    });
    // SAFETY: the array is as long as a register.
    unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }
}

/// Splits a row of numbers into lines `[steps, PARTS]` of `DEPTH` halves each, filled up with zeros.
///
/// # Panics
/// When there aren't as many lines.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn split_row(row: &[f32], lines: &mut [[u32; STEP]]) {
    assert_eq!(lines.len(), row.len().div_ceil(DEPTH) * PARTS, "lines of a row");
    let places = places(false);
    for (numbers, lines) in row.chunks(DEPTH).zip(lines.chunks_exact_mut(PARTS)) {
        let register = |start: usize| {
            let there = numbers.len().saturating_sub(start).min(LANES);
            // SAFETY: only the numbers that are there are read.
            unsafe {
                let first = numbers.as_ptr().add(start.min(numbers.len()));
                _mm512_maskz_loadu_ps(((1_u32 << there) - 1) as u16, first)
            }
        };
        for (line, part) in lines.iter_mut().zip(parts([register(0), register(LANES)], places)) {
            // SAFETY: a line is as long as a register.
            unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), part) };
        }
    }
}

/// Splits rows of a panel into `[steps, PARTS, STEP, WIDTH]` pairs of neighbours in depth, filled up with zeros.
///
/// # Panics
/// When `pairs` isn't long enough.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn split_panel(rows: &[[f32; WIDTH]], pairs: &mut [[u32; WIDTH]]) {
    let places = places(true);
    for (step, rows) in rows.chunks(DEPTH).enumerate() {
        let pairs = &mut pairs[step * PARTS * STEP..][..PARTS * STEP];
        for pair in 0..STEP {
            for column in (0..WIDTH).step_by(LANES) {
                let register = |row: usize| match rows.get(row) {
                    // SAFETY: a row has a register from the column on.
                    Some(row) => unsafe { _mm512_loadu_ps(row.as_ptr().add(column)) },
                    None => _mm512_setzero_ps(),
                };
                let both = [register(2 * pair), register(2 * pair + 1)];
                for (part, value) in parts(both, places).into_iter().enumerate() {
                    // SAFETY: so has a row of pairs.
                    unsafe {
                        let place = pairs[part * STEP + pair].as_mut_ptr().add(column);
                        _mm512_storeu_si512(place.cast(), value);
                    }
                }
            }
        }
    }
}
