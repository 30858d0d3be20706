//! Choosing the right caption for an image and the right image for a caption (Winoground, SugarCrepe).

use ndarray::Axis;
use openclip_core::HostTensor;

use super::{similarity::matrices, top::argmax};
use crate::error::{Error, Result};

/// How often choices were right, as CLIP_benchmark counts it: in single precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionMetrics {
    /// Share of instances in which every caption gets its image.
    pub image_acc: f64,
    /// Share of instances in which every image gets its caption.
    pub text_acc: f64,
    /// Share of instances in which both is so (the group score).
    pub acc: f64,
}

/// Compares the images of each instance with its texts. The first text belongs to the first image, the second to the second,
/// and so on as far as there are both; the others are there to be told apart.
///
/// # Shapes
/// `images [instances * images_each, D]`, `texts [instances * texts_each, D]`.
///
/// # Errors
/// [`Error::Undefined`] when there are no instances or shapes don't fit.
pub fn selection(
    images: &HostTensor,
    texts: &HostTensor,
    images_each: usize,
    texts_each: usize,
) -> Result<SelectionMetrics> {
    let [images, texts] = matrices(images, texts)?;
    if images_each == 0 || texts_each == 0 || images.nrows() == 0 {
        return Err(Error::Undefined("there is nothing to choose from".to_owned()));
    }
    let instances = images.nrows() / images_each;
    if images.nrows() != instances * images_each || texts.nrows() != instances * texts_each {
        let (images, texts) = (images.nrows(), texts.nrows());
        let message = format!(
            "{images} images and {texts} texts aren't instances of {images_each} images and {texts_each} texts"
        );
        return Err(Error::Undefined(message));
    }
    let pairs = images_each.min(texts_each);
    let (mut image_hits, mut text_hits, mut hits) = (0_usize, 0_usize, 0_usize);
    let blocks =
        images.axis_chunks_iter(Axis(0), images_each).zip(texts.axis_chunks_iter(Axis(0), texts_each));
    for (images, texts) in blocks {
        let scores = images.dot(&texts.t());
        let chosen = |row: Vec<f32>| argmax(&row);
        let texts_right = (0..pairs).all(|pair| chosen(scores.row(pair).to_vec()) == Some(pair));
        let images_right = (0..pairs).all(|pair| chosen(scores.column(pair).to_vec()) == Some(pair));
        image_hits += usize::from(images_right);
        text_hits += usize::from(texts_right);
        hits += usize::from(images_right && texts_right);
    }
    let share = |hits: usize| f64::from(hits as f32 / instances as f32);
    Ok(SelectionMetrics { image_acc: share(image_hits), text_acc: share(text_hits), acc: share(hits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_to_be_right() {
        let images = HostTensor::new([4, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.9, 0.1]).unwrap();
        let texts = HostTensor::new([4, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
        let found = selection(&images, &texts, 2, 2).unwrap();
        assert_eq!(found, SelectionMetrics { image_acc: 1.0, text_acc: 0.5, acc: 0.5 });
        let error = selection(&images, &texts, 2, 1).unwrap_err().to_string();
        assert!(error.contains("4 images and 4 texts aren't instances of 2 images and 1 texts"), "{error}");
        assert!(selection(&images, &texts, 0, 1).is_err());
    }
}
