//! Average precision, for images that show several classes.

use openclip_core::HostTensor;

use super::similarity::{map_scores, matrices};
use crate::error::{Error, Result};

/// Mean average precision and that of each class, as CLIP_benchmark computes it: in single precision, and 0 for a class that
/// no image shows.
#[derive(Clone, Debug, PartialEq)]
pub struct MultilabelMetrics {
    /// Mean over the classes.
    pub mean_average_precision: f64,
    /// Of each class.
    pub average_precision: Vec<f32>,
}

/// Average precision of features that are ranked by their nearness to each class.
///
/// # Shapes
/// `features [N, D]`, `classifier [C, D]`, `C` labels for each of the `N`.
///
/// # Errors
/// [`Error::Undefined`] when there are no images or no classes, an image hasn't `C` labels, or shapes don't fit.
pub fn multilabel(
    features: &HostTensor,
    classifier: &HostTensor,
    labels: &[Vec<bool>],
) -> Result<MultilabelMetrics> {
    let [images, weights] = matrices(features, classifier)?;
    let count = weights.nrows();
    if labels.is_empty() || count == 0 {
        return Err(Error::Undefined("average precision needs at least one image and one class".to_owned()));
    }
    if labels.len() != images.nrows() {
        let message = format!("there are {} images and labels of {}", images.nrows(), labels.len());
        return Err(Error::Undefined(message));
    }
    if let Some((image, found)) = labels.iter().map(Vec::len).enumerate().find(|&(_, found)| found != count) {
        let message = format!("image {image} has {found} labels, and there are {count} classes");
        return Err(Error::Undefined(message));
    }
    let average_precision = map_scores(&weights, &images, |class, scores, order: &mut Vec<usize>| {
        order.clear();
        order.extend(0..scores.len());
        let score = |place: usize| scores.get(place).copied().unwrap_or(f32::NEG_INFINITY);
        // Equal scores keep the images' order. torch.sort leaves them in one that depends on the processor.
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let shown =
            |place: usize| labels.get(place).and_then(|labels| labels.get(class)).copied().unwrap_or(false);
        precision_at_hits(order.iter().map(|&place| shown(place)))
    });
    let mean = average_precision.iter().map(|&precision| f64::from(precision)).sum::<f64>() / count as f64;
    Ok(MultilabelMetrics { mean_average_precision: mean, average_precision })
}

/// Mean, over the hits, of the share of hits up to there.
fn precision_at_hits(ranking: impl Iterator<Item = bool>) -> f32 {
    let (mut hits, mut sum) = (0_u32, 0.0);
    for (rank, hit) in ranking.enumerate() {
        if hit {
            hits += 1;
            sum += f64::from(hits as f32 / (rank + 1) as f32);
        }
    }
    (sum / f64::from(hits.max(1))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_at_the_front_count_more() {
        assert_eq!(precision_at_hits([true, false, true, false].into_iter()), (1.0 + 2.0_f32 / 3.0) / 2.0);
        assert_eq!(precision_at_hits([false, false].into_iter()), 0.0);
        let classifier = HostTensor::new([2, 1], vec![1.0, -1.0]).unwrap();
        let images = HostTensor::new([3, 1], vec![0.1, 0.9, 0.5]).unwrap();
        let labels = [vec![false, true], vec![true, false], vec![true, true]];
        let metrics = multilabel(&images, &classifier, &labels).unwrap();
        assert_eq!(metrics.average_precision, [1.0, 1.0]);
        let error = multilabel(&images, &classifier, &[vec![true], vec![], vec![]]).unwrap_err().to_string();
        assert!(error.contains("image 0 has 1 labels"), "{error}");
    }
}
