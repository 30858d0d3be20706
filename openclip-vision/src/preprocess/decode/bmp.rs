//! Windows bitmaps, read here because the libraries for them hide the palette. Kinds and modes are those of Pillow's
//! `BmpImagePlugin`.

use super::reader::Reader;
use super::{DecodeOptions, Fault, Mode, Raw, unpack_bits};

/// Position of the information header, whose first field is its size.
const INFO_HEADER: usize = 14;

/// Whether an information header of a known size follows the magic bytes.
pub(super) fn has_header(bytes: &[u8]) -> bool {
    matches!(bytes.get(INFO_HEADER..INFO_HEADER + 4), Some(&[12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// Reads a stored pixel as RGBA.
type Unpack = fn(&[u8]) -> [u8; 4];

/// How the pixels are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    RunLength8,
    RunLength4,
    BitFields,
}

struct Header {
    width: u64,
    height: u64,
    top_down: bool,
    bits: u16,
    compression: Compression,
    colors: usize,
    color_bytes: usize,
    /// Masks of red, green, blue and alpha.
    masks: [u32; 4],
    /// Where the pixels start.
    offset: usize,
}

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let mut reader = Reader::new(bytes);
    let header = Header::read(&mut reader)?;
    let (width, height) = options.checked(header.width, header.height)?;
    let palette = if header.bits <= 8 { header.read_palette(&mut reader)? } else { Vec::new() };
    let mut pixels = Reader::new(bytes);
    pixels.position = if header.offset == 0 { reader.position } else { header.offset };
    match header.bits {
        1 | 4 | 8 => header.decode_indexed(pixels, width, height, palette),
        _ => header.decode_color(pixels, width, height),
    }
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.take(10)?;
        let mut offset = reader.u32_le()? as usize;
        let size = reader.u32_le()? as usize;
        let fields = reader.take(size.checked_sub(4).ok_or(Fault::Truncated)?)?;
        let mut fields = Reader::new(fields);
        let mut header = if size == 12 {
            let (width, height) = (fields.u16_le()?, fields.u16_le()?);
            fields.take(2)?;
            Self {
                width: width.into(),
                height: height.into(),
                top_down: false,
                bits: fields.u16_le()?,
                compression: Compression::None,
                colors: 0,
                color_bytes: 3,
                masks: [0; 4],
                offset: 0,
            }
        } else {
            let (width, height) = (fields.u32_le()?, fields.u32_le()?);
            // A negative height, as far as Pillow recognises one, means rows from the top.
            let top_down = height >> 24 == 0xff;
            fields.take(2)?;
            let bits = fields.u16_le()?;
            let compression = match fields.u32_le()? {
                0 => Compression::None,
                1 => Compression::RunLength8,
                2 => Compression::RunLength4,
                3 => Compression::BitFields,
                other => return Err(Fault::Unsupported(format!("compression {other}"))),
            };
            fields.take(12)?;
            let colors = fields.u32_le()? as usize;
            fields.take(4)?;
            let mut masks = [0; 4];
            if compression == Compression::BitFields {
                let count = if size >= 56 { 4 } else { 3 };
                let source = if size >= 52 { &mut fields } else { &mut *reader };
                for mask in &mut masks[..count] {
                    *mask = source.u32_le()?;
                }
            }
            let height = if top_down { u64::from(height.wrapping_neg()) } else { height.into() };
            let width = width.into();
            Self { width, height, top_down, bits, compression, colors, color_bytes: 4, masks, offset: 0 }
        };
        if !matches!(header.bits, 1 | 4 | 8 | 16 | 24 | 32) {
            return Err(Fault::Unsupported(format!("{} bits per pixel", header.bits)));
        }
        if header.colors == 0 && header.bits <= 8 {
            header.colors = 1 << header.bits;
        }
        if offset == INFO_HEADER + size && header.bits <= 8 {
            offset = offset.saturating_add(header.color_bytes.saturating_mul(header.colors));
        }
        header.offset = offset;
        Ok(header)
    }

    fn read_palette(&self, reader: &mut Reader<'_>) -> Result<Vec<[u8; 3]>, Fault> {
        if self.colors == 0 || self.colors > 65_536 {
            return Err(Fault::Unsupported(format!("a palette of {} colours", self.colors)));
        }
        // A file may end within its palette as far as the palette goes; the pixels must be there.
        let available = (reader.rest().len() / self.color_bytes).min(self.colors);
        let entries = reader.take(available * self.color_bytes)?;
        Ok(entries.chunks_exact(self.color_bytes).map(|entry| [entry[2], entry[1], entry[0]]).collect())
    }

    fn decode_indexed(
        &self,
        mut reader: Reader<'_>,
        width: usize,
        height: usize,
        palette: Vec<[u8; 3]>,
    ) -> Result<Raw, Fault> {
        let indices = match self.compression {
            Compression::RunLength8 | Compression::RunLength4 => {
                let four_bits = self.compression == Compression::RunLength4;
                run_lengths(&mut reader, width, height, four_bits)?
            }
            Compression::None => {
                let bits = usize::from(self.bits);
                let used = (width * bits).div_ceil(8);
                let stride = used.next_multiple_of(4);
                let mut packed = Vec::new();
                for _ in 0..height {
                    packed.extend_from_slice(padded_row(&mut reader, used, stride)?);
                }
                unpack_bits(&packed, width, height, bits)?
            }
            Compression::BitFields => return Err(Fault::Unsupported("bit fields with a palette".to_owned())),
        };
        let indices = self.ordered(indices, width);
        let is_gray = |level: fn(usize) -> usize| {
            palette.len() == self.colors
                && palette
                    .iter()
                    .enumerate()
                    .all(|(i, color)| color.iter().all(|&v| usize::from(v) == level(i)))
        };
        if self.colors == 2 && is_gray(|index| index * 255) {
            let white = |index: u8| if index == 0 { 0 } else { 255 };
            return Ok(Raw::bytes(width, height, Mode::Bilevel, indices.into_iter().map(white).collect()));
        }
        if self.colors > 2 && is_gray(|index| index) {
            return Ok(Raw::bytes(width, height, Mode::Gray, indices));
        }
        Ok(Raw { palette, ..Raw::bytes(width, height, Mode::Palette, indices) })
    }

    fn decode_color(&self, mut reader: Reader<'_>, width: usize, height: usize) -> Result<Raw, Fault> {
        let (mode, unpack) = self.color_layout()?;
        let pixel = usize::from(self.bits / 8);
        let stride = (width * pixel).next_multiple_of(4);
        if reader.rest().len() / stride + 1 < height {
            return Err(Fault::Truncated);
        }
        let mut samples = Vec::with_capacity(width * height * mode.channels());
        for _ in 0..height {
            for pixel in padded_row(&mut reader, width * pixel, stride)?.chunks_exact(pixel) {
                samples.extend_from_slice(&unpack(pixel)[..mode.channels()]);
            }
        }
        Ok(Raw::bytes(width, height, mode, self.ordered(samples, width * mode.channels())))
    }

    /// The mode of a file without palette, and the function that reads a pixel as RGBA.
    fn color_layout(&self) -> Result<(Mode, Unpack), Fault> {
        let fields = match self.compression {
            Compression::None => None,
            Compression::BitFields => Some(self.masks),
            _ => return Err(Fault::Unsupported("run lengths of colours".to_owned())),
        };
        Ok(match (self.bits, fields) {
            (16, None | Some([0x7c00, 0x3e0, 0x1f, _])) => (Mode::Rgb, |p| {
                let value = u32::from(u16::from_le_bytes([p[0], p[1]]));
                [scale(value >> 10, 31), scale(value >> 5, 31), scale(value, 31), 255]
            }),
            (16, Some([0xf800, 0x7e0, 0x1f, _])) => (Mode::Rgb, |p| {
                let value = u32::from(u16::from_le_bytes([p[0], p[1]]));
                [scale(value >> 11, 31), scale(value >> 5, 63), scale(value, 31), 255]
            }),
            (24, None | Some([0xff_0000, 0xff00, 0xff, _])) => (Mode::Rgb, |p| [p[2], p[1], p[0], 255]),
            (32, None | Some([0xff_0000, 0xff00, 0xff, 0])) => (Mode::Rgb, |p| [p[2], p[1], p[0], 255]),
            (32, Some([0xff00_0000, 0xff_0000, 0xff00, 0])) => (Mode::Rgb, |p| [p[3], p[2], p[1], 255]),
            (32, Some([0xff00_0000, 0xff00, 0xff, 0])) => (Mode::Rgb, |p| [p[3], p[1], p[0], 255]),
            (32, Some([0xff00_0000, 0xff_0000, 0xff00, 0xff])) => (Mode::Rgba, |p| [p[3], p[2], p[1], p[0]]),
            (32, Some([0xff, 0xff00, 0xff_0000, 0xff00_0000])) => (Mode::Rgba, |p| [p[0], p[1], p[2], p[3]]),
            (32, Some([0xff_0000, 0xff00, 0xff, 0xff00_0000] | [0, 0, 0, 0])) => {
                (Mode::Rgba, |p| [p[2], p[1], p[0], p[3]])
            }
            (32, Some([0xff00_0000, 0xff00, 0xff, 0xff_0000])) => (Mode::Rgba, |p| [p[3], p[1], p[0], p[2]]),
            _ => return Err(Fault::Unsupported("this layout of bit fields".to_owned())),
        })
    }

    /// Rows from the top.
    fn ordered(&self, samples: Vec<u8>, stride: usize) -> Vec<u8> {
        if self.top_down {
            return samples;
        }
        samples.chunks_exact(stride).rev().flatten().copied().collect()
    }
}

/// The next row of `used` bytes padded to `stride`; the file may end before the last row's padding.
fn padded_row<'a>(reader: &mut Reader<'a>, used: usize, stride: usize) -> Result<&'a [u8], Fault> {
    let row = reader.take(used)?;
    let padding = (stride - used).min(reader.rest().len());
    reader.take(padding)?;
    Ok(row)
}

/// Stretches the low bits of `value` under `max` to 255, truncating.
fn scale(value: u32, max: u32) -> u8 {
    ((value & max) * 255 / max) as u8
}

/// Undoes the run-length encoding; positions that are skipped have index 0.
fn run_lengths(
    reader: &mut Reader<'_>,
    width: usize,
    height: usize,
    four_bits: bool,
) -> Result<Vec<u8>, Fault> {
    let total = width * height;
    let mut output: Vec<u8> = Vec::new();
    let mut column = 0;
    while output.len() < total {
        let (Ok(count), Ok(value)) = (reader.u8(), reader.u8()) else { break };
        match (count, value) {
            (0, 0) => {
                output.resize(output.len().next_multiple_of(width), 0);
                column = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (Ok(right), Ok(up)) = (reader.u8(), reader.u8()) else { break };
                let skip = (usize::from(right) + usize::from(up) * width).min(total - output.len());
                output.resize(output.len() + skip, 0);
                column = output.len() % width;
            }
            (0, literal) => {
                let count = usize::from(literal).min(total - output.len());
                let byte_count = if four_bits { count.div_ceil(2) } else { count };
                let Ok(bytes) = reader.take(byte_count) else { break };
                if four_bits {
                    output.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(count));
                } else {
                    output.extend_from_slice(bytes);
                }
                column += usize::from(literal);
                reader.position = reader.position.next_multiple_of(2);
            }
            (count, value) => {
                let count = usize::from(count).min(width.saturating_sub(column));
                let pair = if four_bits { [value >> 4, value & 15] } else { [value; 2] };
                output.extend(pair.into_iter().cycle().take(count));
                column += count;
            }
        }
    }
    if output.len() < total {
        return Err(Fault::Truncated);
    }
    output.truncate(total);
    Ok(output)
}
