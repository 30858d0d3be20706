//! TIFF: the crate `tiff` reads strips, tiles and compression; samples are mapped to Pillow's modes here.

use std::borrow::Cow;
use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use super::{DecodeOptions, Fault, Mode, Raw, Samples, unpack_bits};
use crate::preprocess::image::high_bytes;

/// Values of the tag `PhotometricInterpretation`.
const WHITE_IS_ZERO: u16 = 0;
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;
/// Value of the tag `ExtraSamples` for alpha that the colours are multiplied with.
const ASSOCIATED_ALPHA: u16 = 1;
/// Value of the tag `ExtraSamples` for alpha proper.
const UNASSOCIATED_ALPHA: u16 = 2;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let (bytes, photometric) = as_black_is_zero(bytes);
    let mut decoder = Decoder::new(Cursor::new(&*bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions().map_err(fault)?;
    let (width, height) = options.checked(width.into(), height.into())?;
    let mut limits = Limits::default();
    // The widest pixel is four 32-bit samples.
    limits.decoding_buffer_size = width.saturating_mul(height).saturating_mul(16).max(1 << 16);
    limits.intermediate_buffer_size = limits.decoding_buffer_size.saturating_add(1 << 20);
    decoder = decoder.with_limits(limits);
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).map_err(fault)?.unwrap_or(1);
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(fault)?.unwrap_or_default();
    let palette = match photometric {
        PALETTE => read_palette(&decoder.get_tag_u16_vec(Tag::ColorMap).map_err(fault)?),
        _ => Vec::new(),
    };
    let color = decoder.colortype().map_err(fault)?;
    let mut data = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(fault)?;
    if layout.planes > 1 {
        data = interleaved(data, layout.planes)?;
    }
    let inverted = photometric == WHITE_IS_ZERO;
    let (mode, samples) = match (data, color) {
        (DecodingResult::U8(data), ColorType::Gray(bits @ (1 | 2 | 4 | 8))) => {
            let bits = usize::from(bits);
            let mut values = unpack_bits(&data, width, height, bits)?;
            let max = ((1_u16 << bits) - 1) as u8;
            if photometric == PALETTE {
                (Mode::Palette, Samples::U8(values))
            } else {
                let level = |value: u8| if inverted { max - value } else { value } * (255 / max);
                values.iter_mut().for_each(|value| *value = level(*value));
                (if bits == 1 { Mode::Bilevel } else { Mode::Gray }, Samples::U8(values))
            }
        }
        (DecodingResult::U16(data), ColorType::Gray(16)) => (Mode::Gray16, Samples::U16(data)),
        (DecodingResult::I8(data), ColorType::Gray(8)) => {
            (Mode::Gray, Samples::U8(data.into_iter().map(|value| value as u8).collect()))
        }
        (DecodingResult::I16(data), ColorType::Gray(16)) => {
            (Mode::Int32, Samples::I32(data.into_iter().map(i32::from).collect()))
        }
        (DecodingResult::U32(data), ColorType::Gray(32)) => {
            (Mode::Int32, Samples::I32(data.into_iter().map(|value| value as i32).collect()))
        }
        (DecodingResult::I32(data), ColorType::Gray(32)) => (Mode::Int32, Samples::I32(data)),
        (DecodingResult::F32(data), ColorType::Gray(32)) => (Mode::Float32, Samples::F32(data)),
        (DecodingResult::U8(data), color) => color_mode(color, &extra, data)?,
        (DecodingResult::U16(data), ColorType::RGB(16) | ColorType::RGBA(16) | ColorType::CMYK(16)) => {
            color_mode(color, &extra, high_bytes(&data))?
        }
        (_, color) => return Err(Fault::Unsupported(format!("{color:?}"))),
    };
    Ok(Raw { palette, orientation, ..Raw::new(width, height, mode, samples) })
}

/// Samples that are stored channel by channel, pixel by pixel.
fn interleaved(data: DecodingResult, planes: usize) -> Result<DecodingResult, Fault> {
    fn transposed<T: Copy>(data: &[T], planes: usize) -> Vec<T> {
        let pixels = data.len() / planes;
        (0..pixels * planes).map(|index| data[index % planes * pixels + index / planes]).collect()
    }
    Ok(match data {
        DecodingResult::U8(data) => DecodingResult::U8(transposed(&data, planes)),
        DecodingResult::U16(data) => DecodingResult::U16(transposed(&data, planes)),
        _ => return Err(Fault::Unsupported("planes of these samples".to_owned())),
    })
}

/// 8-bit colour.
fn color_mode(color: ColorType, extra: &[u16], data: Vec<u8>) -> Result<(Mode, Samples), Fault> {
    let mode = match color {
        ColorType::Multiband { bit_depth: 8, num_samples: 2 } if extra == [UNASSOCIATED_ALPHA] => {
            Mode::GrayAlpha
        }
        ColorType::RGB(_) => Mode::Rgb,
        ColorType::RGBA(_) => Mode::Rgba,
        ColorType::CMYK(_) => Mode::Cmyk,
        other => return Err(Fault::Unsupported(format!("{other:?}"))),
    };
    let data = match (mode, extra.first()) {
        (Mode::Rgba, Some(&ASSOCIATED_ALPHA)) => {
            data.as_chunks::<4>().0.iter().flat_map(|&pixel| without_alpha(pixel)).collect()
        }
        _ => data,
    };
    Ok((mode, Samples::U8(data)))
}

/// Divides the colours by alpha, truncating; a transparent pixel is black.
fn without_alpha([r, g, b, alpha]: [u8; 4]) -> [u8; 4] {
    let divided = |value: u8| match alpha {
        0 => 0,
        _ => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    };
    [divided(r), divided(g), divided(b), alpha]
}

/// All reds, then all greens, then all blues, 16 bits each.
fn read_palette(map: &[u16]) -> Vec<[u8; 3]> {
    let size = map.len() / 3;
    (0..size).map(|index| [0, 1, 2].map(|channel| (map[channel * size + index] >> 8) as u8)).collect()
}

/// The file with its photometric interpretation, if that is white-is-zero or a palette, replaced by black-is-zero, and
/// the interpretation that it had. The crate `tiff` doesn't read palettes, and it inverts some white-is-zero images
/// that Pillow doesn't; this way it hands out the stored samples.
fn as_black_is_zero(bytes: &[u8]) -> (Cow<'_, [u8]>, u16) {
    let Some((position, little_endian)) = photometric_position(bytes) else {
        return (Cow::Borrowed(bytes), BLACK_IS_ZERO);
    };
    let pair = [bytes[position], bytes[position + 1]];
    let value = if little_endian { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    if !matches!(value, WHITE_IS_ZERO | PALETTE) {
        return (Cow::Borrowed(bytes), value);
    }
    let mut patched = bytes.to_vec();
    let pair = if little_endian { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    patched[position..position + 2].copy_from_slice(&pair);
    (Cow::Owned(patched), value)
}

/// Where the first directory holds the value of its photometric interpretation, and whether the file is little-endian.
fn photometric_position(bytes: &[u8]) -> Option<(usize, bool)> {
    let little_endian = bytes.starts_with(b"II");
    let big_tiff = bytes.get(2..4)?.contains(&b'+');
    let number = |at: usize, size: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let push = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        let value = if little_endian { field.iter().rev().fold(0, push) } else { field.iter().fold(0, push) };
        usize::try_from(value).ok()
    };
    let (pointer, width, count_size, entry, value_at) =
        if big_tiff { (8, 8, 8, 20, 12) } else { (4, 4, 2, 12, 8) };
    let directory = number(pointer, width)?;
    let count = number(directory, count_size)?.min(4096);
    let first = directory.checked_add(count_size)?;
    let photometric = usize::from(Tag::PhotometricInterpretation.to_u16());
    (0..count).map_while(|index| first.checked_add(index * entry)).find_map(|at| {
        let value = at.checked_add(value_at)?;
        (number(at, 2)? == photometric && number(value, 2).is_some()).then_some((value, little_endian))
    })
}

fn fault(error: TiffError) -> Fault {
    match &error {
        TiffError::IoError(error) => Fault::from_io(error),
        TiffError::UnsupportedError(error) => Fault::Unsupported(error.to_string()),
        _ => Fault::damaged(error),
    }
}
