//! BLEU (Papineni et al., 2002) over a corpus, with the reference lengths nearest to the captions', smoothed as in pycocoevalcap.

use std::collections::HashMap;

use super::{
    Captioned,
    ngrams::{LONGEST, counts, words},
};

const SMALL: f64 = 1e-9;
const TINY: f64 = 1e-15;

/// BLEU with n-grams of up to 1, 2, 3 and 4 words.
pub fn bleu(captioned: &[Captioned]) -> [f64; LONGEST] {
    let (mut length, mut reference_length) = (0, 0);
    let (mut guessed, mut right) = ([0; LONGEST], [0; LONGEST]);
    for Captioned { caption, references } in captioned {
        let found = words(caption);
        let mut most: HashMap<Vec<&str>, usize> = HashMap::new();
        let mut lengths = Vec::new();
        for reference in references {
            let reference = words(reference);
            lengths.push(reference.len());
            for (sequence, count) in counts(&reference) {
                let most = most.entry(sequence).or_insert(0);
                *most = count.max(*most);
            }
        }
        length += found.len();
        reference_length += lengths.into_iter().min_by_key(|&of| (of.abs_diff(found.len()), of)).unwrap_or(0);
        for (size, guessed) in guessed.iter_mut().enumerate() {
            *guessed += found.len().saturating_sub(size);
        }
        for (sequence, count) in counts(&found) {
            if let Some(right) = right.get_mut(sequence.len() - 1) {
                *right += count.min(most.get(&sequence).copied().unwrap_or(0));
            }
        }
    }
    let ratio = (length as f64 + TINY) / (reference_length as f64 + SMALL);
    let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    let mut size = 0.0;
    let pairs: [(usize, usize); LONGEST] = std::array::from_fn(|place| {
        (right.get(place).copied().unwrap_or(0), guessed.get(place).copied().unwrap_or(0))
    });
    pairs.map(|(right, guessed)| {
        product *= (right as f64 + TINY) / (guessed as f64 + SMALL);
        size += 1.0;
        product.powf(1.0 / size) * brevity
    })
}
