//! Recall of texts by images and of images by texts.

use ndarray::ArrayView2;
use openclip_core::HostTensor;

use super::{
    similarity::{map_scores, matrices},
    top::TopK,
};
use crate::error::{Error, Result};

/// How well texts find their images and images their texts.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrievalMetrics {
    /// Images found by texts: each text has one image.
    pub image_retrieval: DirectionMetrics,
    /// Texts found by images: any of an image's texts will do.
    pub text_retrieval: DirectionMetrics,
}

/// How well queries find what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionMetrics {
    /// For each `k` the share of queries with a match among the first `k`, in single precision as the reference has it.
    pub recall: Vec<f64>,
    /// The same where whatever scores at least as high as the match counts as before it: without luck in ties.
    pub recall_worst: Vec<f64>,
    /// Mean rank of the best match, from 1. Whatever scores at least as high as the match counts as before it.
    pub mean_rank: f64,
    /// Median rank of the best match; the mean of the two in the middle for an even number.
    pub median_rank: f64,
}

/// What is found of a query.
struct Found {
    /// Rank of the best match; nothing for an image without texts.
    rank: Option<usize>,
    /// For each `k` whether a match is among the first `k`.
    hits: Vec<bool>,
}

/// Recall at each `k`, and ranks.
///
/// Ties are broken as in the reference (see [`top`](super::top)), which is `torch.topk`; ranks are the worst possible.
///
/// # Shapes
/// `images [N, D]`, `texts [M, D]`, and for each text the number of its image.
///
/// # Errors
/// [`Error::Undefined`] when there are no images or texts, a text's image is out of range, a `k` is 0 or larger than the number
/// of images or of texts, or shapes don't fit.
pub fn retrieval(
    images: &HostTensor,
    texts: &HostTensor,
    image_of_text: &[usize],
    ks: &[usize],
) -> Result<RetrievalMetrics> {
    let [images, texts] = matrices(images, texts)?;
    if images.nrows() == 0 || texts.nrows() == 0 {
        return Err(Error::Undefined("retrieval needs at least one image and one text".to_owned()));
    }
    if image_of_text.len() != texts.nrows() {
        let message = format!("there are {} texts, and images of {}", texts.nrows(), image_of_text.len());
        return Err(Error::Undefined(message));
    }
    if let Some((text, image)) = image_of_text.iter().enumerate().find(|&(_, &image)| image >= images.nrows())
    {
        let message = format!("text {text} is of image {image}, and there are {}, from 0", images.nrows());
        return Err(Error::Undefined(message));
    }
    for &k in ks {
        let most = images.nrows().min(texts.nrows());
        if k == 0 || k > most {
            let message = format!(
                "recall@{k}: there are {} images and {} texts; choose from 1 to {most}",
                images.nrows(),
                texts.nrows()
            );
            return Err(Error::Undefined(message));
        }
    }
    let mut texts_of_image: Vec<Vec<usize>> = vec![Vec::new(); images.nrows()];
    for (text, &image) in image_of_text.iter().enumerate() {
        if let Some(texts) = texts_of_image.get_mut(image) {
            texts.push(text);
        }
    }
    let image_of_text = |text: usize| image_of_text.get(text).map_or(&[][..], std::slice::from_ref);
    let texts_of_image = |image: usize| texts_of_image.get(image).map_or(&[][..], Vec::as_slice);
    Ok(RetrievalMetrics {
        image_retrieval: direction(&texts, &images, image_of_text, ks),
        text_retrieval: direction(&images, &texts, texts_of_image, ks),
    })
}

fn direction<'a>(
    queries: &ArrayView2<'_, f32>,
    candidates: &ArrayView2<'_, f32>,
    matches: impl Fn(usize) -> &'a [usize] + Sync,
    ks: &[usize],
) -> DirectionMetrics {
    let found = map_scores(queries, candidates, |query, scores, top: &mut TopK| {
        let matches = matches(query);
        let score = |place: usize| scores.get(place).copied().unwrap_or(f32::NEG_INFINITY);
        let Some(best) = matches.iter().map(|&place| score(place)).max_by(f32::total_cmp) else {
            return Found { rank: None, hits: vec![false; ks.len()] };
        };
        let ahead = scores.iter().filter(|&&score| score > best).count();
        let not_behind = scores.iter().filter(|&&score| score >= best).count();
        let hit = |&k: &usize| match (ahead < k, not_behind <= k) {
            (false, _) => false,
            (true, true) => true,
            // A tie across the k-th place.
            (true, false) => top.select(scores, k).any(|place| matches.binary_search(&place).is_ok()),
        };
        let hits = ks.iter().map(hit).collect();
        // Other texts of the same image are no rivals.
        let own = matches.iter().filter(|&&place| score(place) >= best).count();
        Found { rank: Some(not_behind - own + 1), hits }
    });
    let recall = |place: usize| {
        let hits = found.iter().filter(|found| found.hits.get(place) == Some(&true)).count();
        f64::from(hits as f32 / found.len() as f32)
    };
    let worst = |k: usize| {
        let hits = found.iter().filter(|found| found.rank.is_some_and(|rank| rank <= k)).count();
        f64::from(hits as f32 / found.len() as f32)
    };
    let mut ranks: Vec<usize> = found.iter().filter_map(|found| found.rank).collect();
    ranks.sort_unstable();
    DirectionMetrics {
        recall: (0..ks.len()).map(recall).collect(),
        recall_worst: ks.iter().map(|&k| worst(k)).collect(),
        mean_rank: ranks.iter().sum::<usize>() as f64 / ranks.len().max(1) as f64,
        median_rank: median(&ranks),
    }
}

fn median(sorted: &[usize]) -> f64 {
    let at = |place: usize| sorted.get(place).copied().unwrap_or(0) as f64;
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        (at(middle.saturating_sub(1)) + at(middle)) / 2.0
    } else {
        at(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_find_their_images() {
        let images = HostTensor::new([3, 2], vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0]).unwrap();
        let texts = HostTensor::new([4, 2], vec![1.0, 0.1, 0.9, 0.2, 1.0, 0.3, -1.0, 0.2]).unwrap();
        let metrics = retrieval(&images, &texts, &[0, 0, 1, 2], &[1, 2]).unwrap();
        assert_eq!(metrics.image_retrieval.recall, [0.75, 1.0]);
        assert_eq!(metrics.image_retrieval.mean_rank, 1.25);
        assert_eq!(metrics.image_retrieval.median_rank, 1.0);
        // The second image prefers its own text; the first finds two of its own first, up to a tie with the third text.
        assert_eq!(metrics.text_retrieval.recall, [1.0, 1.0]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let two = HostTensor::new([2, 1], vec![1.0, 2.0]).unwrap();
        for (image_of_text, k, part) in [
            (vec![0, 2], 1, "text 1 is of image 2"),
            (vec![0], 1, "2 texts, and images of 1"),
            (vec![0, 1], 3, "recall@3: there are 2 images"),
            (vec![0, 1], 0, "recall@0"),
        ] {
            let error = retrieval(&two, &two, &image_of_text, &[k]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let none = HostTensor::new([0, 1], vec![]).unwrap();
        assert!(retrieval(&none, &two, &[0, 0], &[1]).is_err());
    }
}
