//! Accuracy of a classifier whose images have one class each.

use openclip_core::HostTensor;

use super::{
    mean::mean,
    similarity::{map_scores, matrices},
    top::{TopK, argmax},
};
use crate::error::{Error, Result};

/// How a classifier did, as CLIP_benchmark counts it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationMetrics {
    /// Share of images whose class has the highest score.
    pub acc1: f64,
    /// Share of images whose class is among the five highest scores; not a number below five classes.
    pub acc5: f64,
    /// Mean, over the classes that occur, of the share of their images that were recognised (balanced accuracy).
    pub mean_per_class_recall: f64,
    /// For each class (row) how many of its images were taken for each class (column).
    pub confusion: Confusion,
    /// For each image the class that it was taken for.
    pub predictions: Vec<usize>,
}

impl ClassificationMetrics {
    /// The figures by CLIP_benchmark's names.
    pub fn figures(&self) -> Vec<(String, f64)> {
        let figures =
            [("acc1", self.acc1), ("acc5", self.acc5), ("mean_per_class_recall", self.mean_per_class_recall)];
        figures.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// How often images of a class were taken for a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u32>,
}

/// How a class fared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassFigures {
    /// Images of the class.
    pub support: u32,
    /// Share of them that were recognised; nothing when there are none.
    pub recall: Option<f64>,
    /// Share of the images taken for the class that are of it; nothing when there are none.
    pub precision: Option<f64>,
}

impl Confusion {
    fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    fn add(&mut self, class: usize, predicted: usize) {
        if let Some(count) = self.counts.get_mut(class * self.classes + predicted) {
            *count += 1;
        }
    }

    /// For each class how many of its images were taken for each class.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, u32> {
        self.counts.chunks_exact(self.classes.max(1))
    }

    /// How each class fared.
    pub fn per_class(&self) -> Vec<ClassFigures> {
        let mut taken = vec![0_u32; self.classes];
        self.rows().for_each(|row| taken.iter_mut().zip(row).for_each(|(taken, count)| *taken += count));
        let share = |part: u32, whole: u32| (whole > 0).then(|| f64::from(part) / f64::from(whole));
        let figures = self.rows().zip(taken).enumerate().map(|(class, (row, taken))| {
            let support = row.iter().sum();
            let right = row.get(class).copied().unwrap_or(0);
            ClassFigures { support, recall: share(right, support), precision: share(right, taken) }
        });
        figures.collect()
    }
}

/// Classifies features by the class whose feature is nearest.
///
/// # Shapes
/// `features [N, D]`, `classifier [C, D]`, a class for each of the `N`.
///
/// # Errors
/// [`Error::Undefined`] when there are no images or no classes, a class is out of range, or shapes don't fit.
pub fn classification(
    features: &HostTensor,
    classifier: &HostTensor,
    classes: &[usize],
) -> Result<ClassificationMetrics> {
    let [images, weights] = matrices(features, classifier)?;
    let count = weights.nrows();
    check(classes, count, images.nrows())?;
    // The reference multiplies by 100 before it compares; that can't be told from the order, but for rounding.
    let found = map_scores(&images, &weights, |row, scores, top: &mut TopK| {
        let class = classes.get(row).copied().unwrap_or_default();
        let k = if count >= 5 { 5 } else { 1 };
        let rank = top.select(scores, k).position(|place| place == class);
        (rank, argmax(scores).unwrap_or_default())
    });
    Ok(summarise(&found, classes, count))
}

fn check(classes: &[usize], count: usize, images: usize) -> Result<()> {
    if classes.is_empty() || count == 0 {
        return Err(Error::Undefined("accuracy needs at least one image and one class".to_owned()));
    }
    if classes.len() != images {
        return Err(Error::Undefined(format!(
            "there are {images} images and {} classes for them",
            classes.len()
        )));
    }
    match classes.iter().find(|&&class| class >= count) {
        Some(class) => {
            Err(Error::Undefined(format!("class {class} is out of range: there are {count} classes, from 0")))
        }
        None => Ok(()),
    }
}

/// Counts ranks and predictions.
fn summarise(found: &[(Option<usize>, usize)], classes: &[usize], count: usize) -> ClassificationMetrics {
    let total = found.len() as f64;
    let within =
        |k: usize| found.iter().filter(|(rank, _)| rank.is_some_and(|rank| rank < k)).count() as f64 / total;
    let mut confusion = Confusion::new(count);
    found.iter().zip(classes).for_each(|(&(_, predicted), &class)| confusion.add(class, predicted));
    let recalls: Vec<f64> = confusion.per_class().iter().filter_map(|class| class.recall).collect();
    ClassificationMetrics {
        acc1: within(1),
        acc5: if count >= 5 { within(5) } else { f64::NAN },
        mean_per_class_recall: mean(&recalls),
        confusion,
        predictions: found.iter().map(|&(_, predicted)| predicted).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const N: usize>(rows: &[[f32; N]]) -> HostTensor {
        HostTensor::new([rows.len(), N], rows.concat()).unwrap()
    }

    #[test]
    fn hits_are_counted() {
        let classifier = tensor(&[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]);
        let images = tensor(&[[1.0, 0.1], [0.1, 1.0], [0.2, 1.0], [1.0, 0.5]]);
        let metrics = classification(&images, &classifier, &[0, 1, 0, 0]).unwrap();
        assert_eq!(metrics.acc1, 0.75);
        assert!(metrics.acc5.is_nan(), "there are fewer than five classes");
        assert_eq!(metrics.mean_per_class_recall, (2.0 / 3.0 + 1.0) / 2.0, "the third class doesn't occur");
        let figures = metrics.confusion.per_class();
        assert_eq!((figures[0].support, figures[0].precision), (3, Some(1.0)));
        assert_eq!((figures[2].support, figures[2].recall, figures[2].precision), (0, None, None));
        let rows: Vec<&[u32]> = metrics.confusion.rows().collect();
        assert_eq!(rows, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let classifier = tensor(&[[1.0, 0.0]]);
        for (images, classes, part) in [
            (tensor(&[[1.0, 0.0]]), vec![1], "class 1 is out of range"),
            (tensor(&[[1.0, 0.0]]), vec![], "at least one image"),
            (tensor(&[[1.0, 0.0]]), vec![0, 0], "1 images and 2 classes"),
            (tensor(&[[1.0]]), vec![0], "different models"),
        ] {
            let error = classification(&images, &classifier, &classes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
