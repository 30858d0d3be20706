//! Captions beside those that people wrote: BLEU, ROUGE-L and CIDEr, as pycocoevalcap computes them, over its tokens.

mod bleu;
mod cider;
mod ngrams;
mod rouge;
mod tokens;

pub use bleu::bleu;
pub use cider::cider;
pub use rouge::rouge_l;
pub use tokens::{tokenize, tokens};

use crate::error::{Error, Result};

/// A caption and those that it is compared with, as tokens with a space between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captioned {
    /// What a model wrote.
    pub caption: String,
    /// What people wrote, at least one.
    pub references: Vec<String>,
}

/// Scores over all captions.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionMetrics {
    /// BLEU with n-grams up to 1, 2, 3 and 4 words.
    pub bleu: [f64; 4],
    /// Mean ROUGE-L.
    pub rouge_l: f64,
    /// Mean CIDEr.
    pub cider: f64,
}

/// Scores captions. `caption` and `references` are texts, which are tokenized first.
///
/// # Errors
/// [`Error::Undefined`] when there are no captions, or one has no references.
pub fn captions(captioned: &[Captioned]) -> Result<CaptionMetrics> {
    if captioned.is_empty() {
        return Err(Error::Undefined("there are no captions to score".to_owned()));
    }
    if let Some(place) = captioned.iter().position(|captioned| captioned.references.is_empty()) {
        return Err(Error::Undefined(format!("image {place} has no captions to compare with")));
    }
    let tokenized = |captioned: &Captioned| Captioned {
        caption: tokenize(&captioned.caption),
        references: captioned.references.iter().map(|text| tokenize(text)).collect(),
    };
    let tokenized: Vec<Captioned> = captioned.iter().map(tokenized).collect();
    Ok(CaptionMetrics { bleu: bleu(&tokenized), rouge_l: rouge_l(&tokenized), cider: cider(&tokenized) })
}
