//! Upsampling of chroma and conversion to RGB, row by row, in libjpeg's integer arithmetic (`jdsample.c`, `jdcolor.c`).

/// Samples of a row in full width: each sample becomes two, three parts of itself and one of its neighbour. `line` has one
/// more sample on either side. `bias` and `shift` round what was scaled by `1 << shift`.
#[inline(always)]
pub(super) fn double(line: &[u16], bias: [u16; 2], shift: u32, output: &mut [u8]) {
    let count = output.len() / 2;
    let (before, samples, after) = (&line[..count], &line[1..=count], &line[2..count + 2]);
    let pairs = output.as_chunks_mut::<2>().0.iter_mut();
    for (pair, ((before, sample), after)) in pairs.zip(before.iter().zip(samples).zip(after)) {
        let left = (3 * sample + before + bias[0]) >> shift;
        let right = (3 * sample + after + bias[1]) >> shift;
        *pair = (left | right << 8).to_le_bytes();
    }
}

/// Three parts of a row and one of its neighbour, scaled by 4.
#[inline(always)]
pub(super) fn blend(near: &[u8], far: &[u8], output: &mut [u16]) {
    for ((output, &near), &far) in output.iter_mut().zip(near).zip(far) {
        *output = 3 * u16::from(near) + u16::from(far);
    }
}

/// Repeats every sample `factor` times.
#[inline(always)]
pub(super) fn repeat(samples: &[u8], factor: usize, output: &mut [u8]) {
    for (output, &sample) in output.chunks_mut(factor).zip(samples) {
        output.fill(sample);
    }
}

/// Fraction bits of the colour constants.
const SCALE_BITS: u32 = 16;

const fn fix(value: f64) -> i32 {
    (value * (1 << SCALE_BITS) as f64 + 0.5) as i32
}

/// One pixel.
#[inline(always)]
fn to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << (SCALE_BITS - 1);
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((fix(1.402) * cr + HALF) >> SCALE_BITS);
    let g = y + ((HALF - fix(0.344_14) * cb - fix(0.714_14) * cr) >> SCALE_BITS);
    let b = y + ((fix(1.772) * cb + HALF) >> SCALE_BITS);
    [r, g, b].map(|value| value.clamp(0, 255) as u8)
}

/// Luma and chroma to RGB.
#[inline(always)]
pub(super) fn ycbcr_row(y: &[u8], cb: &[u8], cr: &[u8], output: &mut [u8]) {
    let pixels = output.as_chunks_mut::<3>().0.iter_mut();
    for (pixel, ((&y, &cb), &cr)) in pixels.zip(y.iter().zip(cb).zip(cr)) {
        *pixel = to_rgb(y, cb, cr);
    }
}

/// Luma and chroma of inverted inks and black to CMYK.
#[inline(always)]
pub(super) fn ycck_row(y: &[u8], cb: &[u8], cr: &[u8], k: &[u8], output: &mut [u8]) {
    let pixels = output.as_chunks_mut::<4>().0.iter_mut();
    for (pixel, (((&y, &cb), &cr), &k)) in pixels.zip(y.iter().zip(cb).zip(cr).zip(k)) {
        let [r, g, b] = to_rgb(y, cb, cr);
        *pixel = [255 - r, 255 - g, 255 - b, k];
    }
}

/// Planes to interleaved channels.
#[inline(always)]
pub(super) fn interleave<const C: usize>(planes: [&[u8]; C], output: &mut [u8]) {
    for (index, pixel) in output.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        *pixel = planes.map(|plane| plane[index]);
    }
}
