//! Decoding of image files into Pillow's modes. The format is recognised by content, never by file name; the number of
//! pixels is checked against a limit before anything is decoded; damaged and truncated files are errors that name the
//! file, as they are in Pillow.
//!
//! | format | read | modes |
//! |---|---|---|
//! | PNG | all colour types and depths, interlaced, first frame of an animation | `1` (grey 1), `L` (grey 2, 4, 8), `I;16` (grey 16), `LA` (8), `RGB` (8; 16 keeps the high byte), `RGBA` (8; 16 and grey-alpha 16 keep the high byte), `P` (palette) |
//! | JPEG | baseline and progressive, 8 bits | `L`, `RGB`, `CMYK` (inverted, as Adobe writes it) |
//! | GIF | first frame | `P`, or `L` when there is no palette or it is the grey ramp |
//! | WebP | lossy, lossless, first frame of an animation | `RGB`, or `RGBA` when the file has alpha |
//! | BMP | 1, 4, 8, 16, 24, 32 bits, bit fields, run lengths | `P`, `1` (black and white palette), `L` (grey ramp), `RGB`, `RGBA` (bit fields with alpha) |
//! | TIFF | strips and tiles, uncompressed, LZW, Deflate, PackBits, CCITT; turned by its orientation tag | `1`, `L`, `I;16`, `I`, `F`, `LA`, `P`, `RGB`, `RGBA`, `CMYK` |
//! | PNM | `P1` to `P6`, `Pf` | `1`, `L`, `I` (grey above 8 bits), `RGB`, `F` |
//! | TGA | plain and run lengths | `P`, `1`, `L`, `LA`, `RGB`, `RGBA` |
//!
//! EXIF orientation is ignored except in TIFF, because the reference ignores it. Decoding is exact (the same samples
//! as Pillow's) for all formats. Where the reference is lenient with damage it is sometimes followed no further than to the
//! last pixel: a PNG with a wrong checksum or without its end marker is an error here.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod pnm;
mod reader;
mod tga;
mod tiff;
mod webp;

use std::path::Path;

use openclip_core::panics::caught;

pub(crate) use self::jpeg::JpegScratch;
use super::error::{Fault, ImageError};
use super::image::{DecodedImage, Mode, Region, Samples};
use super::pipeline::read;
use super::scratch::Scratch;

/// Pillow's limit, above which it refuses an image as a decompression bomb.
pub const DEFAULT_MAX_PIXELS: u64 = 178_956_970;

/// How files are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Largest number of pixels that a header may announce; [`DEFAULT_MAX_PIXELS`] unless set.
    pub max_pixels: u64,
    /// Whether JPEGs that are much larger than what becomes of them may be decoded at a half, a quarter or an eighth of
    /// their size; not unless set. The result is no longer equal to the reference's, but close. Only those functions that
    /// know what becomes of an image make use of it: [`Preprocessor::prepare_bytes`](super::Preprocessor::prepare_bytes),
    /// [`Preprocessor::prepare_file`](super::Preprocessor::prepare_file) and [`BatchLoader`](super::BatchLoader).
    pub fast: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_pixels: DEFAULT_MAX_PIXELS, fast: false }
    }
}

impl DecodeOptions {
    /// The same with another pixel limit.
    pub fn with_max_pixels(mut self, max_pixels: u64) -> Self {
        self.max_pixels = max_pixels;
        self
    }

    /// The same with or without decoding of large JPEGs at reduced size.
    pub fn with_fast(mut self, fast: bool) -> Self {
        self.fast = fast;
        self
    }

    /// Checks announced dimensions and gives them back as sizes.
    fn checked(&self, width: u64, height: u64) -> Result<(usize, usize), Fault> {
        if width == 0 || height == 0 {
            return Err(Fault::Damaged(format!("{width}x{height} pixels")));
        }
        let limit = self.max_pixels;
        if width.checked_mul(height).is_none_or(|pixels| pixels > limit) {
            return Err(Fault::TooManyPixels { width, height, limit });
        }
        let side = |side: u64| usize::try_from(side).map_err(Fault::damaged);
        Ok((side(width)?, side(height)?))
    }
}

/// What a format's decoder returns.
struct Raw {
    width: usize,
    height: usize,
    mode: Mode,
    samples: Samples,
    /// What of the image the samples are.
    region: Region,
    palette: Vec<[u8; 3]>,
    orientation: u16,
}

impl Raw {
    fn new(width: usize, height: usize, mode: Mode, samples: Samples) -> Self {
        let region = Region::whole(width, height);
        Self { width, height, mode, samples, region, palette: Vec::new(), orientation: 1 }
    }

    fn bytes(width: usize, height: usize, mode: Mode, samples: Vec<u8>) -> Self {
        Self::new(width, height, mode, Samples::U8(samples))
    }
}

/// What is wanted of an image.
pub(crate) struct Wish {
    /// Samples for eight of the file: 8, 4, 2 or 1.
    pub scale: usize,
    /// The region of the scaled image.
    pub region: Region,
}

/// A format's name in messages and its decoder.
type Format = (&'static str, Decoder);

/// A decoder.
enum Decoder {
    /// One that gives whole images.
    Whole(fn(&[u8], &DecodeOptions) -> Result<Raw, Fault>),
    /// The one that decodes no more than is wanted.
    Jpeg,
}

/// Recognises a format by its first bytes.
fn sniff(bytes: &[u8]) -> Option<Format> {
    let is = |prefix: &[u8]| bytes.starts_with(prefix);
    Some(match bytes {
        _ if is(b"\x89PNG\r\n\x1a\n") => ("PNG", Decoder::Whole(png::decode)),
        _ if is(b"\xff\xd8\xff") => ("JPEG", Decoder::Jpeg),
        _ if is(b"GIF87a") || is(b"GIF89a") => ("GIF", Decoder::Whole(gif::decode)),
        _ if is(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => ("WebP", Decoder::Whole(webp::decode)),
        _ if is(b"BM") && bmp::has_header(bytes) => ("BMP", Decoder::Whole(bmp::decode)),
        _ if is(b"II*\0") || is(b"MM\0*") || is(b"II+\0") || is(b"MM\0+") => {
            ("TIFF", Decoder::Whole(tiff::decode))
        }
        [b'P', b'1'..=b'6' | b'f', next, ..] if next.is_ascii_whitespace() => {
            ("PNM", Decoder::Whole(pnm::decode))
        }
        _ if tga::has_header(bytes) => ("TGA", Decoder::Whole(tga::decode)),
        _ => return None,
    })
}

impl DecodedImage {
    /// Reads and decodes a file.
    ///
    /// ```no_run
    /// use openclip_vision::preprocess::DecodedImage;
    ///
    /// let image = DecodedImage::open("cat.jpg")?;
    /// println!("{} {}x{}", image.mode().name(), image.width(), image.height());
    /// # Ok::<(), openclip_vision::preprocess::ImageError>(())
    /// ```
    ///
    /// # Errors
    /// An [`ImageError`] naming the file: it can't be read, isn't an image, is truncated, damaged, or too large.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        Self::open_with(path, &DecodeOptions::default())
    }

    /// Reads and decodes a file under a given pixel limit.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Self, ImageError> {
        let (name, bytes) = read(path.as_ref())?;
        Self::from_bytes_with(name, &bytes, options)
    }

    /// Decodes a file in memory; `name` appears in error messages.
    ///
    /// # Errors
    /// An [`ImageError`] naming `name`: it isn't an image, is truncated, damaged, or too large.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, ImageError> {
        Self::from_bytes_with(name, bytes, &DecodeOptions::default())
    }

    /// Decodes a file in memory under a given pixel limit.
    ///
    /// # Errors
    /// As for [`Self::from_bytes`].
    pub fn from_bytes_with(
        name: impl Into<String>,
        bytes: &[u8],
        options: &DecodeOptions,
    ) -> Result<Self, ImageError> {
        let everything =
            |width, height| Wish { scale: 8, region: Region { columns: 0..width, rows: 0..height } };
        Self::from_bytes_for(name.into(), bytes, options, &mut Scratch::default(), everything)
    }

    /// Decodes what `wish` asks for when it gets to know an image's width and height, or more.
    pub(crate) fn from_bytes_for(
        name: String,
        bytes: &[u8],
        options: &DecodeOptions,
        scratch: &mut Scratch,
        wish: impl Fn(usize, usize) -> Wish,
    ) -> Result<Self, ImageError> {
        let Some((format, decoder)) = sniff(bytes) else {
            return Err(ImageError::NotAnImage { name });
        };
        // The libraries return errors for bad data; should one of them panic nevertheless, that too is this file's
        // error and no reason to lose a batch or a server's thread.
        let raw = caught(|| match decoder {
            Decoder::Whole(decode) => decode(bytes, options),
            Decoder::Jpeg => jpeg::decode(bytes, options, scratch, wish),
        })
        .unwrap_or_else(|| Err(Fault::damaged("its decoder failed")))
        .map_err(|fault| fault.named(&name, format))?;
        let mut image = Self::from_part(name, raw.width, raw.height, raw.mode, raw.samples, raw.region)?;
        if raw.mode == Mode::Palette {
            image = image.with_palette(&raw.palette);
        }
        Ok(image.oriented(raw.orientation))
    }
}

/// Spreads rows of packed samples of `bits` each (rows start at byte boundaries, the first sample is the highest) into
/// one byte per sample.
fn unpack_bits(packed: &[u8], width: usize, height: usize, bits: usize) -> Result<Vec<u8>, Fault> {
    let stride = (width * bits).div_ceil(8);
    if packed.len() < stride.saturating_mul(height) {
        return Err(Fault::Truncated);
    }
    let per_byte = 8 / bits;
    let mask = ((1_u16 << bits) - 1) as u8;
    let mut output = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(stride).take(height) {
        output.extend((0..width).map(|x| (row[x / per_byte] >> (8 - bits * (x % per_byte + 1))) & mask));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_not_the_name() {
        let error = DecodedImage::from_bytes("notes.png", b"just some text").unwrap_err().to_string();
        assert!(error.starts_with("notes.png: not an image"), "{error}");
        let error = DecodedImage::from_bytes("empty.jpg", b"").unwrap_err().to_string();
        assert!(error.starts_with("empty.jpg: not an image"), "{error}");
        let image = DecodedImage::from_bytes("photo.jpg", b"P5 1 1 255\n\x07").unwrap();
        assert_eq!(image.mode(), Mode::Gray);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = DecodedImage::open("no/such/file.png").unwrap_err().to_string();
        assert!(error.starts_with("no/such/file.png: "), "{error}");
    }

    #[test]
    fn the_pixel_limit_comes_before_decoding() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0".to_vec();
        let crc = {
            let mut crc = !0_u32;
            for byte in &png[12..] {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
                }
            }
            !crc
        };
        png.extend(crc.to_be_bytes());
        png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        let files: [(&str, &[u8]); 3] = [
            ("bomb.png", &png),
            ("bomb.ppm", b"P6 30000 30000 255\n"),
            ("bomb.gif", b"GIF89a\xff\xff\xff\xff\0\0\0"),
        ];
        for (name, bytes) in files {
            let error = DecodedImage::from_bytes(name, bytes).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("limit of 178956970 pixels"), "{error}");
        }
        let small = DecodeOptions::default().with_max_pixels(3);
        assert!(DecodedImage::from_bytes_with("x", b"P5 2 2 255\n\0\0\0\0", &small).is_err());
    }

    #[test]
    fn bits_are_spread_from_the_highest() {
        assert_eq!(unpack_bits(&[0b1010_0000, 0xff], 3, 2, 1).unwrap(), [1, 0, 1, 1, 1, 1]);
        assert_eq!(unpack_bits(&[0x1f], 2, 1, 4).unwrap(), [1, 15]);
        assert!(unpack_bits(&[0x1f], 3, 1, 4).is_err());
    }
}
