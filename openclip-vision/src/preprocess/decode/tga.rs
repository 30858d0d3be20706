//! Truevision Targa. The format has no magic number, so it is tried last and its header must make sense in full.
//! Kinds and modes are those of Pillow's `TgaImagePlugin`.

use super::reader::Reader;
use super::{DecodeOptions, Fault, Mode, Raw, unpack_bits};

const HEADER: usize = 18;
/// Where a version 2 file's extension area says what its alpha means.
const ATTRIBUTES_TYPE: usize = 494;
const FOOTER: usize = 26;

/// Whether the first bytes can be a Targa header.
pub(super) fn has_header(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..HEADER) else { return false };
    matches!(header[1], 0 | 1)
        && matches!(header[2], 1 | 2 | 3 | 9 | 10 | 11)
        && (header[12] | header[13] != 0)
        && (header[14] | header[15] != 0)
        && matches!(header[16], 1 | 8 | 16 | 24 | 32)
}

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let mut reader = Reader::new(bytes);
    let header: [u8; HEADER] = reader.array()?;
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (width, height) = options.checked(word(12).into(), word(14).into())?;
    let (kind, depth, flags) = (header[2], header[16], header[17]);
    reader.take(header[0].into())?;
    let palette = if header[1] == 1 {
        read_palette(&mut reader, word(3).into(), word(5).into(), header[7])?
    } else {
        Vec::new()
    };
    let mode = match (kind & 7, depth) {
        (1, 8) if header[1] == 1 => Mode::Palette,
        (3, 1) => Mode::Bilevel,
        (3, 8) => Mode::Gray,
        (3, 16) => Mode::GrayAlpha,
        (2, 24) => Mode::Rgb,
        (2, 16 | 32) => Mode::Rgba,
        _ => return Err(Fault::Unsupported(format!("type {kind} with {depth} bits per pixel"))),
    };
    let stride = (width * usize::from(depth)).div_ceil(8);
    let size = stride.saturating_mul(height);
    let packed = if kind & 8 == 0 {
        reader.take(size)?.to_vec()
    } else {
        run_lengths(&mut reader, size, usize::from(depth).div_ceil(8))?
    };
    let mut samples = match (mode, depth) {
        (Mode::Bilevel, _) => {
            unpack_bits(&packed, width, height, 1)?.into_iter().map(|bit| bit * 255).collect()
        }
        (Mode::Rgb, _) => packed.as_chunks::<3>().0.iter().flat_map(|&[b, g, r]| [r, g, b]).collect(),
        (Mode::Rgba, 16) => packed.as_chunks::<2>().0.iter().flat_map(|&pair| five_bits(pair)).collect(),
        (Mode::Rgba, _) => packed.as_chunks::<4>().0.iter().flat_map(|&[b, g, r, a]| [r, g, b, a]).collect(),
        _ => packed,
    };
    if mode == Mode::Rgba && alpha_is_void(bytes) {
        samples.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| pixel[3] = 255);
    }
    // Bit 5: rows from the top; bit 4: columns from the right. As orientations: 1, 2, 4 and 3.
    let orientation = match flags & 0x30 {
        0x20 => 1,
        0x30 => 2,
        0x10 => 3,
        _ => 4,
    };
    Ok(Raw { palette, orientation, ..Raw::bytes(width, height, mode, samples) })
}

/// Entries before `start` are black.
fn read_palette(
    reader: &mut Reader<'_>,
    start: usize,
    size: usize,
    depth: u8,
) -> Result<Vec<[u8; 3]>, Fault> {
    let entry = match depth {
        16 | 24 | 32 => usize::from(depth / 8),
        _ => return Err(Fault::Unsupported(format!("a palette of {depth} bits per entry"))),
    };
    let entries = reader.take(size * entry)?.chunks_exact(entry).map(|entry| match *entry {
        [low, high] => {
            let [r, g, b, _] = five_bits([low, high]);
            [r, g, b]
        }
        _ => [entry[2], entry[1], entry[0]],
    });
    Ok(std::iter::repeat_n([0; 3], start).chain(entries).take(256).collect())
}

/// 5 bits per channel and an inverted alpha bit, as RGBA.
fn five_bits(pair: [u8; 2]) -> [u8; 4] {
    let value = u32::from(u16::from_le_bytes(pair));
    let channel = |shift: u32| ((value >> shift & 31) * 255 / 31) as u8;
    [channel(10), channel(5), channel(0), if value >> 15 == 0 { 255 } else { 0 }]
}

fn run_lengths(reader: &mut Reader<'_>, size: usize, pixel: usize) -> Result<Vec<u8>, Fault> {
    let mut output = Vec::new();
    while output.len() < size {
        let packet = reader.u8()?;
        let count = usize::from(packet & 127) + 1;
        if packet & 128 == 0 {
            output.extend_from_slice(reader.take(count * pixel)?);
        } else {
            let value = reader.take(pixel)?;
            (0..count).for_each(|_| output.extend_from_slice(value));
        }
    }
    output.truncate(size);
    Ok(output)
}

/// Whether a version 2 file says that it has no alpha.
fn alpha_is_void(bytes: &[u8]) -> bool {
    let Some((_, footer)) = bytes.split_last_chunk::<FOOTER>() else { return false };
    let offset = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
    footer.ends_with(b"TRUEVISION-XFILE.\0")
        && offset != 0
        && bytes.get(offset.saturating_add(ATTRIBUTES_TYPE)) == Some(&0)
}
