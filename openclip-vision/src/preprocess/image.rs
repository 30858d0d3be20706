//! A decoded image in the mode that Pillow would open it in. The reference resizes and crops *before* it converts to
//! RGB, so the mode decides the result: palette images are resized by nearest neighbour, alpha is premultiplied,
//! 16-bit samples are clipped to 255 only at the end.

use super::error::ImageError;

/// Pillow's image mode: the meaning and type of an image's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// `1`: black (0) and white (255), one byte per pixel.
    Bilevel,
    /// `L`: 8-bit grey.
    Gray,
    /// `LA`: 8-bit grey and alpha.
    GrayAlpha,
    /// `P`: 8-bit index into a palette of 256 colours.
    Palette,
    /// `RGB`: 8 bits per channel.
    Rgb,
    /// `RGBA`: 8 bits per channel, alpha not premultiplied.
    Rgba,
    /// `CMYK`: 8 bits per channel, 255 is full ink.
    Cmyk,
    /// `I;16`: 16-bit grey.
    Gray16,
    /// `I`: 32-bit signed grey.
    Int32,
    /// `F`: 32-bit floating point grey.
    Float32,
}

impl Mode {
    /// Pillow's name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilevel => "1",
            Self::Gray => "L",
            Self::GrayAlpha => "LA",
            Self::Palette => "P",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::Cmyk => "CMYK",
            Self::Gray16 => "I;16",
            Self::Int32 => "I",
            Self::Float32 => "F",
        }
    }

    /// Samples per pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
            _ => 1,
        }
    }
}

/// Samples in row-major order, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    F32(Vec<f32>),
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

/// A part of an image, in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub columns: std::ops::Range<usize>,
    pub rows: std::ops::Range<usize>,
}

impl Region {
    /// All of an image.
    pub(crate) fn whole(width: usize, height: usize) -> Self {
        Self { columns: 0..width, rows: 0..height }
    }
}

/// The colours of a palette image.
pub(crate) type Palette = Box<[[u8; 3]; 256]>;

/// An image in memory, in the mode that Pillow would give it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedImage {
    name: String,
    width: usize,
    height: usize,
    mode: Mode,
    samples: Samples,
    /// Which pixels the samples are: all of them, unless only a part was decoded because no more is needed.
    region: Region,
    palette: Option<Palette>,
}

impl DecodedImage {
    /// An 8-bit RGB image from interleaved pixels in row-major order. `name` appears in error messages.
    ///
    /// # Errors
    /// [`ImageError::Length`] when there aren't `width * height * 3` values, or a side is zero.
    pub fn from_rgb8(
        name: impl Into<String>,
        width: usize,
        height: usize,
        pixels: Vec<u8>,
    ) -> Result<Self, ImageError> {
        Self::from_samples(name.into(), width, height, Mode::Rgb, Samples::U8(pixels))
    }

    /// An image from samples that must fit its mode and dimensions.
    pub(crate) fn from_samples(
        name: String,
        width: usize,
        height: usize,
        mode: Mode,
        samples: Samples,
    ) -> Result<Self, ImageError> {
        Self::from_part(name, width, height, mode, samples, Region::whole(width, height))
    }

    /// An image of which only a region is there.
    pub(crate) fn from_part(
        name: String,
        width: usize,
        height: usize,
        mode: Mode,
        samples: Samples,
        region: Region,
    ) -> Result<Self, ImageError> {
        let pixels = region.columns.len().saturating_mul(region.rows.len());
        let expected = pixels.saturating_mul(mode.channels());
        if expected == 0 || samples.len() != expected {
            return Err(ImageError::Length { name, expected: expected.max(1), found: samples.len() });
        }
        Ok(Self { name, width, height, mode, samples, region, palette: None })
    }

    /// The same image with a palette of `colors`; entries beyond them are black.
    pub(crate) fn with_palette(mut self, colors: &[[u8; 3]]) -> Self {
        let mut palette = Box::new([[0; 3]; 256]);
        palette.iter_mut().zip(colors).for_each(|(entry, color)| *entry = *color);
        self.palette = Some(palette);
        self
    }

    /// The file or the name that was given to the bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The pixels that are there.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The samples, if they are bytes.
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        match self.samples {
            Samples::U8(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn palette(&self) -> Option<&[[u8; 3]; 256]> {
        self.palette.as_deref()
    }

    /// The image turned and mirrored as an EXIF or TIFF orientation (1 to 8) asks. The reference does this for TIFF
    /// files only.
    pub(crate) fn oriented(self, orientation: u16) -> Self {
        if !(2..=8).contains(&orientation) {
            return self;
        }
        let (width, height, channels) = (self.width, self.height, self.mode.channels());
        let swapped = orientation >= 5;
        let (new_width, new_height) = if swapped { (height, width) } else { (width, height) };
        let source = |x: usize, y: usize| match orientation {
            2 => (width - 1 - x, y),
            3 => (width - 1 - x, height - 1 - y),
            4 => (x, height - 1 - y),
            5 => (y, x),
            6 => (y, height - 1 - x),
            7 => (width - 1 - y, height - 1 - x),
            _ => (width - 1 - y, x),
        };
        let order =
            (0..new_height).flat_map(move |y| (0..new_width).map(move |x| (x, y))).flat_map(|(x, y)| {
                let (x, y) = source(x, y);
                let first = (y * width + x) * channels;
                first..first + channels
            });
        let samples = match &self.samples {
            Samples::U8(values) => Samples::U8(order.map(|index| values[index]).collect()),
            Samples::U16(values) => Samples::U16(order.map(|index| values[index]).collect()),
            Samples::I32(values) => Samples::I32(order.map(|index| values[index]).collect()),
            Samples::F32(values) => Samples::F32(order.map(|index| values[index]).collect()),
        };
        let region = Region::whole(new_width, new_height);
        Self { width: new_width, height: new_height, samples, region, ..self }
    }
}

/// The high byte of 16-bit samples: how Pillow reads 16-bit colour.
pub(crate) fn high_bytes(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// 16-bit grey and alpha as RGBA, the mode in which Pillow reads it.
pub(crate) fn gray_alpha16_to_rgba(values: &[u16]) -> Vec<u8> {
    values
        .chunks_exact(2)
        .flat_map(|pair| [pair[0], pair[0], pair[0], pair[1]].map(|v| (v >> 8) as u8))
        .collect()
}

/// An image that the crate `image` decoded, in the mode that Pillow gives the same content: 16-bit colour is reduced
/// to its high byte, 16-bit grey stays, floating point colour is rounded to 8 bits. What the crate `image` hides
/// (palettes, bilevel and CMYK files) can't be recovered; [`DecodedImage::open`] keeps it.
impl From<image::DynamicImage> for DecodedImage {
    fn from(image: image::DynamicImage) -> Self {
        use image::DynamicImage as D;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (mode, samples) = match image {
            D::ImageLuma8(buffer) => (Mode::Gray, Samples::U8(buffer.into_raw())),
            D::ImageLumaA8(buffer) => (Mode::GrayAlpha, Samples::U8(buffer.into_raw())),
            D::ImageRgb8(buffer) => (Mode::Rgb, Samples::U8(buffer.into_raw())),
            D::ImageRgba8(buffer) => (Mode::Rgba, Samples::U8(buffer.into_raw())),
            D::ImageLuma16(buffer) => (Mode::Gray16, Samples::U16(buffer.into_raw())),
            D::ImageLumaA16(buffer) => (Mode::Rgba, Samples::U8(gray_alpha16_to_rgba(&buffer.into_raw()))),
            D::ImageRgb16(buffer) => (Mode::Rgb, Samples::U8(high_bytes(&buffer.into_raw()))),
            D::ImageRgba16(buffer) => (Mode::Rgba, Samples::U8(high_bytes(&buffer.into_raw()))),
            D::ImageRgba32F(_) => (Mode::Rgba, Samples::U8(image.into_rgba8().into_raw())),
            other => (Mode::Rgb, Samples::U8(other.into_rgb8().into_raw())),
        };
        let region = Region::whole(width, height);
        Self { name: "image".to_owned(), width, height, mode, samples, region, palette: None }
    }
}

/// The same as by value, at the price of a copy.
impl From<&image::DynamicImage> for DecodedImage {
    fn from(image: &image::DynamicImage) -> Self {
        image.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_must_match() {
        assert!(DecodedImage::from_rgb8("x", 2, 2, vec![0; 12]).is_ok());
        let error = DecodedImage::from_rgb8("x", 2, 2, vec![0; 11]).unwrap_err().to_string();
        assert_eq!(error, "x: expected 12 values, found 11");
        assert!(DecodedImage::from_rgb8("x", 0, 2, vec![]).is_err());
    }

    #[test]
    fn orientations_move_the_first_row() {
        // 1 2 3
        // 4 5 6
        let image =
            DecodedImage::from_samples("x".into(), 3, 2, Mode::Gray, Samples::U8((1..=6).collect())).unwrap();
        let cases: [(u16, [u8; 6]); 9] = [
            (1, [1, 2, 3, 4, 5, 6]),
            (2, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (4, [4, 5, 6, 1, 2, 3]),
            (5, [1, 4, 2, 5, 3, 6]),
            (6, [4, 1, 5, 2, 6, 3]),
            (7, [6, 3, 5, 2, 4, 1]),
            (8, [3, 6, 2, 5, 1, 4]),
            (9, [1, 2, 3, 4, 5, 6]),
        ];
        for (orientation, expected) in cases {
            let turned = image.clone().oriented(orientation);
            assert_eq!(turned.samples, Samples::U8(expected.to_vec()), "orientation {orientation}");
            assert_eq!(turned.width, if (5..=8).contains(&orientation) { 2 } else { 3 });
        }
    }

    #[test]
    fn sixteen_bit_colour_keeps_its_high_byte() {
        let buffer = image::ImageBuffer::from_raw(1, 1, vec![0x12ff_u16, 0x3400, 0xffff]).unwrap();
        let image = DecodedImage::from(image::DynamicImage::ImageRgb16(buffer));
        assert_eq!(image.samples, Samples::U8(vec![0x12, 0x34, 0xff]));
        let buffer = image::ImageBuffer::from_raw(1, 1, vec![0x12ff_u16, 0x3400]).unwrap();
        let image = DecodedImage::from(image::DynamicImage::ImageLumaA16(buffer));
        assert_eq!((image.mode, image.samples), (Mode::Rgba, Samples::U8(vec![0x12, 0x12, 0x12, 0x34])));
    }
}
