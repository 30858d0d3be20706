//! A picture of what a model attends to.

use std::path::Path;

use crate::{
    Clip, DecodedImage, Indices,
    core::{Error, HostTensor, files::write_atomically},
};
use anyhow::{Context, Result, bail};
use image::{
    ImageBuffer, Luma, Rgb,
    imageops::{self, FilterType},
};

/// What is left of the image's brightness where the model doesn't look.
const DARKEST: f32 = 0.15;

/// Pixels along the longer side that a picture has at least.
const LEAST_SIDE: u32 = 448;

/// Writes the image as the model sees it, bright where the weights of the last attention map are high.
pub fn write(path: &Path, clip: &Clip, image: &DecodedImage) -> Result<()> {
    let last = Indices::At(vec![-1]);
    let (_, stages) = clip.image_intermediates(image, &last, false)?;
    let maps = clip.image_attention(image, &last).with_context(|| {
        format!("{} has no attention over the whole image that a picture could show", clip.name())
    })?;
    let (Some(stage), Some(map)) = (stages.first(), maps.first()) else {
        bail!("{} gives nothing that a picture could show", clip.name());
    };
    let &[_, _, rows, columns] = stage.features.dims() else {
        bail!("{}: the stages aren't feature maps", clip.name());
    };
    let weights =
        of_places(&map.weights, rows * columns).context("the attention map doesn't fit the image")?;
    let weights = scaled(weights);
    let pixels = clip.preprocessor()?.resize_and_crop(image)?;
    let (width, height) = (u32::try_from(pixels.width)?, u32::try_from(pixels.height)?);
    let picture: ImageBuffer<Rgb<u8>, _> =
        ImageBuffer::from_raw(width, height, pixels.data).context("the prepared image has another size")?;
    let factor = LEAST_SIDE.div_ceil(width.max(height).max(1));
    let (width, height) = (factor * width, factor * height);
    let mut picture = imageops::resize(&picture, width, height, FilterType::CatmullRom);
    let map: ImageBuffer<Luma<f32>, _> =
        ImageBuffer::from_raw(u32::try_from(columns)?, u32::try_from(rows)?, weights)
            .context("the attention map doesn't fit the image")?;
    let map = imageops::resize(&map, width, height, FilterType::CatmullRom);
    for (pixel, Luma([weight])) in picture.pixels_mut().zip(map.pixels()) {
        let brightness = DARKEST + (1.0 - DARKEST) * weight.clamp(0.0, 1.0);
        pixel.0 = pixel.0.map(|channel| (f32::from(channel) * brightness).round() as u8);
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(picture.as_raw())?;
    write_atomically(path, |file| file.write_all(&bytes).map_err(|error| Error::io(path, error)))?;
    Ok(())
}

/// How much of each place goes into what is pooled, over all heads: into the class token, which is the first query where
/// there is one, else into all queries.
///
/// # Shapes
/// `weights [1, heads, Lq, L] -> [places]`, the last ones of `L`.
fn of_places(weights: &HostTensor, places: usize) -> Option<Vec<f32>> {
    let &[1, _, queries, length] = weights.dims() else { return None };
    let prefix = length.checked_sub(places)?;
    let pooled = if prefix > 0 { 1 } else { queries };
    let mut sums = vec![0.0; places];
    for head in weights.data().chunks(queries * length) {
        for query in head.chunks(length).take(pooled) {
            for (sum, weight) in sums.iter_mut().zip(query.iter().skip(prefix)) {
                *sum += weight;
            }
        }
    }
    Some(sums)
}

/// From 0 for the lowest to 1 for the highest.
fn scaled(weights: Vec<f32>) -> Vec<f32> {
    let (low, high) = weights
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &weight| (low.min(weight), high.max(weight)));
    let range = (high - low).max(f32::MIN_POSITIVE);
    weights.into_iter().map(|weight| (weight - low) / range).collect()
}
