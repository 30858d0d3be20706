//! CIDEr (Vedantam et al., 2015), the variant CIDEr-D of pycocoevalcap: sequences of words weighted by how rare they are among
//! the references of all images, clipped, with a penalty for other lengths.

use std::collections::{HashMap, HashSet};

use super::{
    Captioned,
    ngrams::{LONGEST, counts, words},
};
use crate::metric::mean::mean;

/// Standard deviation of the penalty for length, in words.
const SIGMA: f64 = 6.0;

/// A text as weights of its sequences.
struct Weighted<'a> {
    weights: [HashMap<Vec<&'a str>, f64>; LONGEST],
    norms: [f64; LONGEST],
    /// Pairs of words.
    length: usize,
}

/// How many images have each sequence in their references.
struct Rarity<'a> {
    images: HashMap<Vec<&'a str>, usize>,
    log_total: f64,
}

impl<'a> Rarity<'a> {
    fn weigh(&self, text: &'a str) -> Weighted<'a> {
        let mut weighted = Weighted { weights: Default::default(), norms: [0.0; LONGEST], length: 0 };
        for (sequence, count) in counts(&words(text)) {
            let images = self.images.get(&sequence).copied().unwrap_or(0).max(1);
            let weight = count as f64 * (self.log_total - (images as f64).ln());
            let place = sequence.len() - 1;
            if place == 1 {
                weighted.length += count;
            }
            if let (Some(norm), Some(weights)) =
                (weighted.norms.get_mut(place), weighted.weights.get_mut(place))
            {
                *norm += weight * weight;
                weights.insert(sequence, weight);
            }
        }
        weighted.norms = weighted.norms.map(f64::sqrt);
        weighted
    }
}

/// The mean over all captions.
pub fn cider(captioned: &[Captioned]) -> f64 {
    let mut images: HashMap<Vec<&str>, usize> = HashMap::new();
    for Captioned { references, .. } in captioned {
        let all: HashSet<Vec<&str>> =
            references.iter().flat_map(|reference| counts(&words(reference)).into_keys()).collect();
        for sequence in all {
            *images.entry(sequence).or_insert(0) += 1;
        }
    }
    let rarity = Rarity { images, log_total: (captioned.len() as f64).ln() };
    let scores: Vec<f64> = captioned.iter().map(|captioned| score(captioned, &rarity)).collect();
    mean(&scores)
}

fn score<'a>(captioned: &'a Captioned, rarity: &Rarity<'a>) -> f64 {
    let found = rarity.weigh(&captioned.caption);
    let mut sums = [0.0; LONGEST];
    for reference in &captioned.references {
        let similar = similarity(&found, &rarity.weigh(reference));
        sums.iter_mut().zip(similar).for_each(|(sum, value)| *sum += value);
    }
    let mean = sums.iter().sum::<f64>() / LONGEST as f64;
    10.0 * mean / captioned.references.len() as f64
}

/// For each length of sequences the clipped cosine, less what a difference in length costs.
fn similarity(found: &Weighted<'_>, reference: &Weighted<'_>) -> [f64; LONGEST] {
    let delta = found.length as f64 - reference.length as f64;
    let penalty = (-(delta * delta) / (2.0 * SIGMA * SIGMA)).exp();
    let mut similar = [0.0; LONGEST];
    let norms = found.norms.iter().zip(&reference.norms);
    for ((value, (found, reference)), (a, b)) in
        similar.iter_mut().zip(found.weights.iter().zip(&reference.weights)).zip(norms)
    {
        for (sequence, weight) in found {
            let other = reference.get(sequence).copied().unwrap_or(0.0);
            *value += weight.min(other) * other;
        }
        if *a != 0.0 && *b != 0.0 {
            *value /= a * b;
        }
        *value *= penalty;
    }
    similar
}
