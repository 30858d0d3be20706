//! ROUGE-L (Lin, 2004): the longest common subsequence of words, with the weights of pycocoevalcap.

use super::Captioned;
use crate::metric::mean::mean;

/// How much recall counts beside precision.
const BETA: f64 = 1.2;

/// The mean over all captions, each compared with its best references.
pub fn rouge_l(captioned: &[Captioned]) -> f64 {
    let scores: Vec<f64> = captioned.iter().map(score).collect();
    mean(&scores)
}

fn score(captioned: &Captioned) -> f64 {
    // Not by any whitespace: a text without tokens is one empty word.
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let found = words(&captioned.caption);
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in &captioned.references {
        let reference = words(reference);
        let common = common(&found, &reference) as f64;
        precision = precision.max(common / found.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    ((1.0 + BETA.powi(2)) * precision * recall) / (recall + BETA.powi(2) * precision)
}

/// Length of the longest common subsequence.
fn common(left: &[String], right: &[String]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for a in left {
        let mut corner = 0;
        let mut before = 0;
        for (b, above) in right.iter().zip(row.iter_mut().skip(1)) {
            let here = if a == b { corner + 1 } else { before.max(*above) };
            corner = *above;
            *above = here;
            before = here;
        }
    }
    row.last().copied().unwrap_or(0)
}
