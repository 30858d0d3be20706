//! Portable any-maps: `P1` to `P6` and the grey float map `Pf`, with the scaling of Pillow's `PpmImagePlugin`.

use super::reader::Reader;
use super::{DecodeOptions, Fault, Mode, Raw, Samples, unpack_bits};

/// Longest number in a header or a plain file.
const MAX_TOKEN: usize = 10;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw, Fault> {
    let mut reader = Reader::new(bytes);
    let [_, kind, _] = reader.array()?;
    let width = number(token(&mut reader)?)?;
    let height = number(token(&mut reader)?)?;
    let (width, height) = options.checked(width, height)?;
    match kind {
        b'1' => plain_bilevel(reader.rest(), width, height),
        b'4' => {
            let bits = unpack_bits(reader.rest(), width, height, 1)?;
            let samples = bits.into_iter().map(|bit| if bit == 0 { 255 } else { 0 }).collect();
            Ok(Raw::bytes(width, height, Mode::Bilevel, samples))
        }
        b'f' => float_map(&mut reader, width, height),
        _ => {
            let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
            let max = number(token(&mut reader)?)?;
            let max = u16::try_from(max).ok().filter(|&max| max > 0).ok_or_else(|| {
                Fault::Damaged(format!("a largest value of {max}, which isn't between 1 and 65535"))
            })?;
            let count = width * height * channels;
            let values = if matches!(kind, b'2' | b'3') {
                plain_values(reader.rest(), count, max)?
            } else {
                binary_values(&mut reader, count, max)?
            };
            Ok(scaled(values, width, height, channels, max))
        }
    }
}

/// A word of the header; comments run from `#` to the end of the line.
fn token<'a>(reader: &mut Reader<'a>) -> Result<Vec<u8>, Fault> {
    let mut token = Vec::new();
    while token.len() <= MAX_TOKEN {
        let Ok(byte) = reader.u8() else { break };
        if is_space(byte) {
            if token.is_empty() {
                continue;
            }
            break;
        }
        if byte == b'#' {
            while !matches!(reader.u8(), Ok(b'\r' | b'\n') | Err(_)) {}
            continue;
        }
        token.push(byte);
    }
    match token.len() {
        0 => Err(Fault::Truncated),
        1..=MAX_TOKEN => Ok(token),
        _ => Err(Fault::Damaged("a number of more than 10 digits".to_owned())),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn number(token: impl AsRef<[u8]>) -> Result<u64, Fault> {
    let text = String::from_utf8_lossy(token.as_ref());
    text.parse().map_err(|_| Fault::Damaged(format!("{text:?} is not a number")))
}

/// The words of a plain file's data, without comments.
fn plain_data(data: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(data.len());
    let mut comment = false;
    for &byte in data {
        match byte {
            b'\r' | b'\n' if comment => comment = false,
            b'#' => comment = true,
            _ if !comment => output.push(byte),
            _ => {}
        }
    }
    output
}

fn plain_bilevel(data: &[u8], width: usize, height: usize) -> Result<Raw, Fault> {
    let count = width * height;
    let mut samples = Vec::new();
    for byte in plain_data(data).into_iter().filter(|&byte| !is_space(byte)).take(count) {
        samples.push(match byte {
            b'0' => 255,
            b'1' => 0,
            other => return Err(Fault::Damaged(format!("{:?} is not 0 or 1", char::from(other)))),
        });
    }
    if samples.len() < count {
        return Err(Fault::Truncated);
    }
    Ok(Raw::bytes(width, height, Mode::Bilevel, samples))
}

fn plain_values(data: &[u8], count: usize, max: u16) -> Result<Vec<u16>, Fault> {
    let data = plain_data(data);
    let mut values = Vec::new();
    for token in data.split(|&byte| is_space(byte)).filter(|token| !token.is_empty()).take(count) {
        if token.len() > MAX_TOKEN {
            return Err(Fault::Damaged("a number of more than 10 digits".to_owned()));
        }
        let value = number(token)?;
        match u16::try_from(value) {
            Ok(value) if value <= max => values.push(value),
            _ => return Err(Fault::Damaged(format!("the value {value} is larger than {max}"))),
        }
    }
    if values.len() < count { Err(Fault::Truncated) } else { Ok(values) }
}

fn binary_values(reader: &mut Reader<'_>, count: usize, max: u16) -> Result<Vec<u16>, Fault> {
    if max < 256 {
        return Ok(reader.take(count)?.iter().map(|&byte| u16::from(byte)).collect());
    }
    let bytes = reader.take(count.saturating_mul(2))?;
    Ok(bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect())
}

/// Grey above 8 bits becomes `I` with 65535 for the largest value, all else 8 bits with 255.
fn scaled(values: Vec<u16>, width: usize, height: usize, channels: usize, max: u16) -> Raw {
    let to = |target: u16, value: u16| {
        if max == target {
            return f64::from(value);
        }
        (f64::from(value) / f64::from(max) * f64::from(target)).round_ties_even().min(f64::from(target))
    };
    if channels == 1 && max > 255 {
        let samples = values.into_iter().map(|value| to(65_535, value) as i32).collect();
        return Raw::new(width, height, Mode::Int32, Samples::I32(samples));
    }
    let mode = if channels == 1 { Mode::Gray } else { Mode::Rgb };
    let samples = values.into_iter().map(|value| to(255, value) as u8).collect();
    Raw::bytes(width, height, mode, samples)
}

/// Rows from the bottom; the sign of the scale tells the byte order.
fn float_map(reader: &mut Reader<'_>, width: usize, height: usize) -> Result<Raw, Fault> {
    let token = token(reader)?;
    let text = String::from_utf8_lossy(&token);
    let scale = text.parse::<f64>().ok().filter(|scale| *scale != 0.0 && scale.is_finite());
    let scale = scale.ok_or_else(|| Fault::Damaged(format!("{text:?} is not a scale")))?;
    let bytes = reader.take((width * height).saturating_mul(4))?;
    let read = if scale < 0.0 { f32::from_le_bytes } else { f32::from_be_bytes };
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&four| read(four)).collect();
    let samples = values.chunks_exact(width).rev().flatten().copied().collect();
    Ok(Raw::new(width, height, Mode::Float32, Samples::F32(samples)))
}
