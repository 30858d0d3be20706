//! PNG: the crate `png` undoes compression and filters, samples are mapped to Pillow's modes here.

use ::png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use super::{DecodeOptions, Fault, Mode, Raw, Samples, unpack_bits};
use crate::preprocess::image::{gray_alpha16_to_rgba, high_bytes};

/// Memory that the decoder may use besides the image; text chunks and colour profiles aren't read.
const WORKING_MEMORY: usize = 64 << 20;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let mut decoder = ::png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(fault)?;
    let (width, height) = options.checked(header.width.into(), header.height.into())?;
    // The widest pixel has 8 bytes; a row or two of them are buffered.
    decoder.set_limits(Limits { bytes: WORKING_MEMORY.saturating_add(width.saturating_mul(32)) });
    let mut reader = decoder.read_info().map_err(fault)?;
    let size = reader.output_buffer_size().ok_or(Fault::Damaged("too large".to_owned()))?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(fault)?;
    if (frame.width as usize, frame.height as usize) != (width, height) {
        return Err(Fault::Damaged("its first frame doesn't cover the image".to_owned()));
    }
    let info = reader.info();
    let (color, depth) = (info.color_type, info.bit_depth);
    let packed = |data: &[u8], bits| unpack_bits(data, width, height, bits);
    let scaled = |data: &[u8], bits, factor: u8| {
        packed(data, bits).map(|values| values.into_iter().map(|value| value * factor).collect::<Vec<_>>())
    };
    let (mode, samples) = match (color, depth) {
        (ColorType::Grayscale, BitDepth::One) => (Mode::Bilevel, Samples::U8(scaled(&data, 1, 255)?)),
        (ColorType::Grayscale, BitDepth::Two) => (Mode::Gray, Samples::U8(scaled(&data, 2, 85)?)),
        (ColorType::Grayscale, BitDepth::Four) => (Mode::Gray, Samples::U8(scaled(&data, 4, 17)?)),
        (ColorType::Grayscale, BitDepth::Eight) => (Mode::Gray, Samples::U8(data)),
        (ColorType::Grayscale, BitDepth::Sixteen) => (Mode::Gray16, Samples::U16(big_endian(&data))),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
            (Mode::Rgba, Samples::U8(gray_alpha16_to_rgba(&big_endian(&data))))
        }
        (ColorType::GrayscaleAlpha, _) => (Mode::GrayAlpha, Samples::U8(data)),
        (ColorType::Rgb, BitDepth::Sixteen) => (Mode::Rgb, Samples::U8(high_bytes(&big_endian(&data)))),
        (ColorType::Rgb, _) => (Mode::Rgb, Samples::U8(data)),
        (ColorType::Rgba, BitDepth::Sixteen) => (Mode::Rgba, Samples::U8(high_bytes(&big_endian(&data)))),
        (ColorType::Rgba, _) => (Mode::Rgba, Samples::U8(data)),
        (ColorType::Indexed, BitDepth::One) => (Mode::Palette, Samples::U8(packed(&data, 1)?)),
        (ColorType::Indexed, BitDepth::Two) => (Mode::Palette, Samples::U8(packed(&data, 2)?)),
        (ColorType::Indexed, BitDepth::Four) => (Mode::Palette, Samples::U8(packed(&data, 4)?)),
        (ColorType::Indexed, _) => (Mode::Palette, Samples::U8(data)),
    };
    let palette = info.palette.as_deref().unwrap_or_default().as_chunks::<3>().0.to_vec();
    Ok(Raw { palette, ..Raw::new(width, height, mode, samples) })
}

fn big_endian(data: &[u8]) -> Vec<u16> {
    data.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect()
}

fn fault(error: DecodingError) -> Fault {
    match &error {
        DecodingError::IoError(error) => Fault::from_io(error),
        _ => Fault::damaged(error),
    }
}
