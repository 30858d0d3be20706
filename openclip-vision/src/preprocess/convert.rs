//! From an image in any mode to 8-bit RGB of the target size: resizing in the mode's own arithmetic, padding in the
//! mode's own values, then Pillow's `convert("RGB")` (`libImaging/Convert.c`).

use super::geometry::Geometry;
use super::image::{DecodedImage, Mode, Samples};
use super::resample::{self, Source};
use super::resample_wide;
use super::scratch::BufferPool;

/// Resizes, crops, pads with `fill` in every channel and converts to interleaved RGB.
pub(crate) fn to_rgb(image: &DecodedImage, geometry: &Geometry, fill: u8, pool: &mut BufferPool) -> Vec<u8> {
    let window = window_rgb(image, geometry, pool);
    let (columns, rows) = (geometry.x.window().len(), geometry.y.window().len());
    let (width, height) = (geometry.x.target, geometry.y.target);
    if (columns, rows) == (width, height) {
        return window;
    }
    let color = fill_rgb(image, fill);
    let mut output: Vec<u8> = color.iter().copied().cycle().take(width * height * 3).collect();
    let left = geometry.x.padding() * 3;
    let below = output.chunks_exact_mut(width * 3).skip(geometry.y.padding());
    for (target, source) in below.zip(window.chunks_exact(columns * 3)) {
        target[left..left + columns * 3].copy_from_slice(source);
    }
    output
}

/// The crop's window in RGB.
fn window_rgb(image: &DecodedImage, geometry: &Geometry, pool: &mut BufferPool) -> Vec<u8> {
    let Geometry { x, y, interpolation } = *geometry;
    let region = image.region();
    let source = |values| Source { values, region };
    let resized = x.source != x.resized || y.source != y.resized;
    match (image.samples(), image.mode()) {
        (Samples::U8(values), Mode::Rgb) => resample::resize::<3>(source(values), x, y, interpolation, pool),
        (Samples::U8(values), Mode::Gray) => {
            gray(resample::resize::<1>(source(values), x, y, interpolation, pool).into_iter())
        }
        (Samples::U8(values), Mode::GrayAlpha) if resized => {
            let premultiplied = premultiply::<2>(values);
            let window = resample::resize::<2>(source(&premultiplied), x, y, interpolation, pool);
            gray(window.as_chunks::<2>().0.iter().map(|&[value, alpha]| unpremultiply(value, alpha)))
        }
        (Samples::U8(values), Mode::GrayAlpha) => {
            let window = resample::crop::<2>(values, x.source, x.window(), y.window(), pool);
            gray(window.as_chunks::<2>().0.iter().map(|pixel| pixel[0]))
        }
        (Samples::U8(values), Mode::Rgba) if resized => {
            let premultiplied = premultiply::<4>(values);
            let window = resample::resize::<4>(source(&premultiplied), x, y, interpolation, pool);
            let pixels = window.as_chunks::<4>().0.iter();
            pixels.flat_map(|&[r, g, b, alpha]| [r, g, b].map(|value| unpremultiply(value, alpha))).collect()
        }
        (Samples::U8(values), Mode::Rgba) => {
            let window = resample::crop::<4>(values, x.source, x.window(), y.window(), pool);
            window.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
        }
        (Samples::U8(values), Mode::Cmyk) => {
            let window = resample::resize::<4>(source(values), x, y, interpolation, pool);
            window.as_chunks::<4>().0.iter().flat_map(|&pixel| cmyk_to_rgb(pixel)).collect()
        }
        (Samples::U8(values), Mode::Palette) => match image.palette() {
            Some(palette) => {
                let window = resample_wide::nearest(values, x, y);
                window.into_iter().flat_map(|index| palette[usize::from(index)]).collect()
            }
            None => gray(resample_wide::nearest(values, x, y).into_iter()),
        },
        (Samples::U8(values), _) => gray(resample_wide::nearest(values, x, y).into_iter()),
        (Samples::U16(values), _) => {
            let window = resample_wide::resize(values, x, y, interpolation);
            gray(window.into_iter().map(|value| value.min(255) as u8))
        }
        (Samples::I32(values), _) => {
            let window = resample_wide::resize(values, x, y, interpolation);
            gray(window.into_iter().map(|value| value.clamp(0, 255) as u8))
        }
        // A float to integer conversion truncates, saturates and takes a NaN to 0.
        (Samples::F32(values), _) => {
            gray(resample_wide::resize(values, x, y, interpolation).into_iter().map(|value| value as u8))
        }
    }
}

/// The colour of a pixel whose every channel is `fill` in the image's mode.
fn fill_rgb(image: &DecodedImage, fill: u8) -> [u8; 3] {
    match image.mode() {
        Mode::Bilevel => [if fill == 0 { 0 } else { 255 }; 3],
        Mode::Cmyk => cmyk_to_rgb([fill; 4]),
        Mode::Palette => image.palette().map_or([fill; 3], |palette| palette[usize::from(fill)]),
        _ => [fill; 3],
    }
}

fn gray(values: impl Iterator<Item = u8>) -> Vec<u8> {
    values.flat_map(|value| [value; 3]).collect()
}

/// `a * b / 255`, rounded as Pillow's `MULDIV255`.
fn multiply_divide_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Multiplies the first `C - 1` channels by the last.
fn premultiply<const C: usize>(values: &[u8]) -> Vec<u8> {
    let mut output = values.to_vec();
    for pixel in output.as_chunks_mut::<C>().0 {
        let alpha = pixel[C - 1];
        pixel[..C - 1].iter_mut().for_each(|value| *value = multiply_divide_255(*value, alpha));
    }
    output
}

/// Undoes the multiplication by alpha, truncating.
fn unpremultiply(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => value,
        _ => (255 * u32::from(value) / u32::from(alpha)).min(255) as u8,
    }
}

fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let white = 255 - k;
    [c, m, y].map(|ink| white.saturating_sub(multiply_divide_255(ink, white)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::{ImageSize, Interpolation, PreprocessConfig, ResizeMode};
    use super::super::pipeline::Preprocessor;
    use super::*;

    fn preprocessor(size: [usize; 2], interpolation: Interpolation, resize_mode: ResizeMode) -> Preprocessor {
        let size = ImageSize::HeightWidth(size);
        let config = PreprocessConfig { size, interpolation, resize_mode, ..PreprocessConfig::default() };
        Preprocessor::new(config).unwrap()
    }

    fn image(mode: Mode, width: usize, height: usize, samples: Samples) -> DecodedImage {
        DecodedImage::from_samples("test".into(), width, height, mode, samples).unwrap()
    }

    proptest! {
        #[test]
        fn a_constant_image_stays_constant(
            width in 1_usize..200, height in 1_usize..200, h in 1_usize..80, w in 1_usize..80, value: u8, cubic: bool,
        ) {
            let filter = if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let squash = preprocessor([h, w], filter, ResizeMode::Squash);
            for mode in [Mode::Rgb, Mode::Gray, Mode::Bilevel] {
                let samples = Samples::U8(vec![value; width * height * mode.channels()]);
                let pixels = squash.resize_and_crop(&image(mode, width, height, samples)).unwrap();
                prop_assert!(pixels.data.iter().all(|&found| found == value), "{mode:?}");
            }
            let samples = Samples::U16(vec![u16::from(value); width * height]);
            let pixels = squash.resize_and_crop(&image(Mode::Gray16, width, height, samples)).unwrap();
            prop_assert!(pixels.data.iter().all(|&found| found == value));
        }

        #[test]
        fn the_same_size_changes_nothing(width in 1_usize..40, height in 1_usize..40, seed: u8) {
            let data: Vec<u8> = (0..width * height * 3).map(|i| (i * 37) as u8 ^ seed).collect();
            let squash = preprocessor([height, width], Interpolation::Bicubic, ResizeMode::Squash);
            let pixels = squash.resize_and_crop(&image(Mode::Rgb, width, height, Samples::U8(data.clone())));
            prop_assert_eq!(pixels.unwrap().data, data);
        }

        #[test]
        fn bilinear_stays_within_the_source_range(
            width in 1_usize..60, height in 1_usize..60, h in 1_usize..60, w in 1_usize..60, low in 0_u8..100,
        ) {
            let data: Vec<u8> = (0..width * height).map(|i| low + (i * 7919 % 101) as u8).collect();
            let squash = preprocessor([h, w], Interpolation::Bilinear, ResizeMode::Squash);
            let pixels = squash.resize_and_crop(&image(Mode::Gray, width, height, Samples::U8(data))).unwrap();
            prop_assert!(pixels.data.iter().all(|value| (low..=low + 100).contains(value)));
        }
    }

    #[test]
    fn alpha_is_premultiplied_only_when_resizing() {
        let samples = Samples::U8(vec![10, 20, 30, 0, 40, 50, 60, 0]);
        let rgba = image(Mode::Rgba, 2, 1, samples);
        let squash = |size| preprocessor(size, Interpolation::Bicubic, ResizeMode::Squash);
        assert_eq!(squash([1, 2]).resize_and_crop(&rgba).unwrap().data, [10, 20, 30, 40, 50, 60]);
        assert_eq!(squash([1, 1]).resize_and_crop(&rgba).unwrap().data, [0, 0, 0]);
    }

    #[test]
    fn wide_samples_are_clipped() {
        let squash = preprocessor([1, 3], Interpolation::Bicubic, ResizeMode::Squash);
        let gray16 = image(Mode::Gray16, 3, 1, Samples::U16(vec![7, 256, 65535]));
        assert_eq!(squash.resize_and_crop(&gray16).unwrap().data, [7, 7, 7, 255, 255, 255, 255, 255, 255]);
        let float = image(Mode::Float32, 3, 1, Samples::F32(vec![f32::NAN, 1.9, -3.0]));
        assert_eq!(squash.resize_and_crop(&float).unwrap().data, [0, 0, 0, 1, 1, 1, 0, 0, 0]);
    }
}
