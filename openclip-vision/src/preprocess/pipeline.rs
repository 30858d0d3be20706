//! The preprocessing of one image: resize and crop in the image's own mode, convert to RGB, scale to `[0, 1]` and
//! normalise, as the reference's `image_transform` does at inference.

use std::path::Path;
use std::sync::Arc;

use openclip_core::HostTensor;

use super::config::PreprocessConfig;
use super::convert::to_rgb;
use super::decode::{DecodeOptions, Wish};
use super::error::ImageError;
use super::geometry::{Geometry, Span};
use super::image::{DecodedImage, Region};
use super::scratch::{BufferPool, Scratch, ScratchPool};

/// How many times as large as the target an image that is decoded at reduced size still has to be: enough for the resize
/// after it to be the better part of the reduction.
const REDUCED_AT_LEAST: usize = 2;

/// Prepares images for a model's image tower. It can be shared between threads; clones share the buffers that it keeps
/// from one image to the next.
///
/// ```
/// use openclip_vision::preprocess::{DecodedImage, PreprocessConfig, Preprocessor};
///
/// let preprocessor = Preprocessor::new(PreprocessConfig::default())?;
/// let image = DecodedImage::from_rgb8("grey", 320, 240, vec![128; 320 * 240 * 3])?;
/// let pixels = preprocessor.prepare(&image)?;
/// assert_eq!(pixels.dims(), [3, 224, 224]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Preprocessor {
    config: PreprocessConfig,
    /// The normalised value of every 8-bit value, per channel.
    tables: Box<[[f32; 256]; 3]>,
    scratches: Arc<ScratchPool>,
}

/// An 8-bit RGB image, interleaved and row-major, of the target size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbPixels {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `width * height * 3` values.
    pub data: Vec<u8>,
}

impl Preprocessor {
    /// A preprocessor for a configuration.
    ///
    /// # Errors
    /// [`openclip_core::Error::Config`] naming the field that is out of range.
    pub fn new(config: PreprocessConfig) -> openclip_core::Result<Self> {
        config.validate("preprocess_cfg")?;
        let mut tables = Box::new([[0.0; 256]; 3]);
        for ((table, &mean), &std) in tables.iter_mut().zip(&config.mean).zip(&config.std) {
            for (value, entry) in table.iter_mut().enumerate() {
                *entry = (value as f32 / 255.0 - mean as f32) / std as f32;
            }
        }
        Ok(Self { config, tables, scratches: Arc::default() })
    }

    /// The configuration.
    pub fn config(&self) -> &PreprocessConfig {
        &self.config
    }

    /// Height and width of a prepared image.
    pub fn size(&self) -> (usize, usize) {
        (self.config.size.height(), self.config.size.width())
    }

    /// Number of values of a prepared image: `3 * height * width`.
    pub fn output_len(&self) -> usize {
        let (height, width) = self.size();
        3 * height * width
    }

    /// Prepares one image.
    ///
    /// # Shapes
    /// Returns `[3, H, W]`.
    ///
    /// # Errors
    /// [`ImageError::VanishingSide`] when the image is too elongated for the resize mode.
    pub fn prepare(&self, image: &DecodedImage) -> Result<HostTensor, ImageError> {
        let (height, width) = self.size();
        let mut output = HostTensor::zeros([3, height, width]);
        self.prepare_into(image, output.data_mut())?;
        Ok(output)
    }

    /// Prepares one image into `output`.
    ///
    /// # Shapes
    /// `output` is `[3, H, W]` in row-major order.
    ///
    /// # Errors
    /// [`ImageError::VanishingSide`] when the image is too elongated for the resize mode, [`ImageError::Length`] when
    /// `output` hasn't [`Self::output_len`] values.
    pub fn prepare_into(&self, image: &DecodedImage, output: &mut [f32]) -> Result<(), ImageError> {
        self.scratches.with(|scratch| self.prepare_with(image, output, &mut scratch.pool))
    }

    /// Reads, decodes and prepares a file. What the crop leaves out of a JPEG isn't decoded, so that this takes less time
    /// than [`DecodedImage::open`] and [`Self::prepare`], with the same result.
    ///
    /// # Shapes
    /// Returns `[3, H, W]`.
    ///
    /// # Errors
    /// An [`ImageError`] naming the file, as for [`DecodedImage::open`] and [`Self::prepare`].
    pub fn prepare_file(
        &self,
        path: impl AsRef<Path>,
        options: &DecodeOptions,
    ) -> Result<HostTensor, ImageError> {
        let (name, bytes) = read(path.as_ref())?;
        self.prepare_bytes(name, &bytes, options)
    }

    /// Decodes and prepares a file in memory, as [`Self::prepare_file`] does; `name` appears in error messages.
    ///
    /// ```
    /// use openclip_vision::preprocess::{DecodeOptions, PreprocessConfig, Preprocessor};
    ///
    /// let preprocessor = Preprocessor::new(PreprocessConfig::default())?;
    /// let file = b"P3 2 1 255  255 0 0  0 0 255";
    /// let pixels = preprocessor.prepare_bytes("red and blue", file, &DecodeOptions::default())?;
    /// assert_eq!(pixels.dims(), [3, 224, 224]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Shapes
    /// Returns `[3, H, W]`.
    ///
    /// # Errors
    /// An [`ImageError`] naming `name`, as for [`DecodedImage::from_bytes`] and [`Self::prepare`].
    pub fn prepare_bytes(
        &self,
        name: impl Into<String>,
        bytes: &[u8],
        options: &DecodeOptions,
    ) -> Result<HostTensor, ImageError> {
        let (height, width) = self.size();
        let mut output = HostTensor::zeros([3, height, width]);
        self.scratches.with(|scratch| {
            self.prepare_bytes_into(name.into(), bytes, options, output.data_mut(), scratch)
        })?;
        Ok(output)
    }

    /// Decodes and prepares a file in memory into `output`, `[3, H, W]`.
    pub(crate) fn prepare_bytes_into(
        &self,
        name: String,
        bytes: &[u8],
        options: &DecodeOptions,
        output: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), ImageError> {
        let wish = |width, height| self.wish(width, height, options);
        let image = DecodedImage::from_bytes_for(name, bytes, options, scratch, wish)?;
        self.prepare_with(&image, output, &mut scratch.pool)?;
        if let Some(samples) = image.into_bytes() {
            scratch.pool.give(samples);
        }
        Ok(())
    }

    /// What is needed of an image of a given size: at which scale, and which of its pixels.
    fn wish(&self, width: usize, height: usize, options: &DecodeOptions) -> Wish {
        let Ok(whole) = Geometry::new(&self.config, width, height) else {
            // The error comes when the image is prepared.
            return Wish { scale: 8, region: Region::whole(width, height) };
        };
        let scaled = |side: usize, scale: usize| (side * scale).div_ceil(8);
        let suffices = |span: Span, scale| scaled(span.source, scale) >= REDUCED_AT_LEAST * span.resized;
        let reduced = |scale: &usize| options.fast && suffices(whole.x, *scale) && suffices(whole.y, *scale);
        let scale = [1, 2, 4].into_iter().find(reduced);
        let reduced = scale.and_then(|scale| {
            let plan = Geometry::new(&self.config, scaled(width, scale), scaled(height, scale)).ok()?;
            Some(Wish { scale, region: plan.needed() })
        });
        reduced.unwrap_or_else(|| Wish { scale: 8, region: whole.needed() })
    }

    fn prepare_with(
        &self,
        image: &DecodedImage,
        output: &mut [f32],
        pool: &mut BufferPool,
    ) -> Result<(), ImageError> {
        if output.len() != self.output_len() {
            return Err(ImageError::Length {
                name: "output buffer".to_owned(),
                expected: self.output_len(),
                found: output.len(),
            });
        }
        let pixels = self.resize_and_crop_with(image, pool)?;
        let (first, rest) = output.split_at_mut(pixels.width * pixels.height);
        let (second, third) = rest.split_at_mut(pixels.width * pixels.height);
        let [reds, greens, blues] = &*self.tables;
        let planes = first.iter_mut().zip(second).zip(third);
        for (((red, green), blue), &[r, g, b]) in planes.zip(pixels.data.as_chunks::<3>().0) {
            *red = reds[usize::from(r)];
            *green = greens[usize::from(g)];
            *blue = blues[usize::from(b)];
        }
        pool.give(pixels.data);
        Ok(())
    }

    /// The 8-bit pixels after resizing, cropping or padding and conversion to RGB, before normalisation.
    ///
    /// # Errors
    /// [`ImageError::VanishingSide`] when the image is too elongated for the resize mode.
    pub fn resize_and_crop(&self, image: &DecodedImage) -> Result<RgbPixels, ImageError> {
        self.resize_and_crop_with(image, &mut BufferPool::default())
    }

    fn resize_and_crop_with(
        &self,
        image: &DecodedImage,
        pool: &mut BufferPool,
    ) -> Result<RgbPixels, ImageError> {
        let geometry = Geometry::new(&self.config, image.width(), image.height()).map_err(
            |(resized_width, resized_height)| ImageError::VanishingSide {
                name: image.name().to_owned(),
                width: image.width() as u32,
                height: image.height() as u32,
                resized_width,
                resized_height,
            },
        )?;
        let fill = u8::try_from(self.config.fill_color).unwrap_or(0);
        let data = to_rgb(image, &geometry, fill, pool);
        Ok(RgbPixels { width: geometry.x.target, height: geometry.y.target, data })
    }
}

/// A file's name and content.
pub(crate) fn read(path: &Path) -> Result<(String, Vec<u8>), ImageError> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(source) => Err(ImageError::Io { name, source }),
    }
}
