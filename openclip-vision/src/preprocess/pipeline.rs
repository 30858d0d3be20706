//! The preprocessing of one image: resize and crop in the image's own mode, convert to RGB, scale to `[0, 1]` and
//! normalise, as the reference's `image_transform` does at inference.

use openclip_core::HostTensor;

use super::config::PreprocessConfig;
use super::convert::to_rgb;
use super::error::ImageError;
use super::geometry::Geometry;
use super::image::DecodedImage;

/// Prepares images for a model's image tower. It is immutable and can be shared between threads.
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
        Ok(Self { config, tables })
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
        if output.len() != self.output_len() {
            return Err(ImageError::Length {
                name: "output buffer".to_owned(),
                expected: self.output_len(),
                found: output.len(),
            });
        }
        let pixels = self.resize_and_crop(image)?;
        let plane = pixels.width * pixels.height;
        for (channel, (plane, table)) in output.chunks_exact_mut(plane).zip(self.tables.iter()).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(pixels.data.as_chunks::<3>().0) {
                *value = table[usize::from(pixel[channel])];
            }
        }
        Ok(())
    }

    /// The 8-bit pixels after resizing, cropping or padding and conversion to RGB, before normalisation.
    ///
    /// # Errors
    /// [`ImageError::VanishingSide`] when the image is too elongated for the resize mode.
    pub fn resize_and_crop(&self, image: &DecodedImage) -> Result<RgbPixels, ImageError> {
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
        let data = to_rgb(image, &geometry, fill);
        Ok(RgbPixels { width: geometry.x.target, height: geometry.y.target, data })
    }
}
