//! Sequences of words and how often they occur.

use std::collections::HashMap;

/// Longest sequences that are counted.
pub(super) const LONGEST: usize = 4;

/// A text's words.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// How often each sequence of up to four words occurs.
pub(super) fn counts<'a>(words: &[&'a str]) -> HashMap<Vec<&'a str>, usize> {
    let mut counts = HashMap::new();
    for length in 1..=LONGEST {
        for sequence in words.windows(length) {
            *counts.entry(sequence.to_vec()).or_insert(0) += 1;
        }
    }
    counts
}
