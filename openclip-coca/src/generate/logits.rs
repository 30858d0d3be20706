//! What happens to logits before a token is chosen: the processors and warpers that the reference takes from `transformers`.

use super::GenerationOptions;

/// Keeps the end token away from texts that are too short, and makes tokens less likely that `text` has already.
pub(super) fn process(logits: &mut [f32], text: &[u32], options: &GenerationOptions) {
    if text.len() < options.min_seq_len
        && let Some(end) = logits.get_mut(options.eos_token_id as usize)
    {
        *end = f32::NEG_INFINITY;
    }
    let penalty = options.repetition_penalty;
    if penalty == 1.0 {
        return;
    }
    for (place, &id) in text.iter().enumerate() {
        let repeated = text.iter().take(place).any(|&earlier| earlier == id);
        if let Some(logit) = logits.get_mut(id as usize).filter(|_| !repeated) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Leaves the `count` highest logits, and those that equal the last of them.
pub(super) fn keep_top_k(logits: &mut [f32], count: usize) {
    let mut sorted = logits.to_vec();
    let last = count.clamp(1, sorted.len().max(1)) - 1;
    if last >= sorted.len() {
        return;
    }
    let (_, &mut threshold, _) = sorted.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    logits.iter_mut().filter(|logit| **logit < threshold).for_each(|logit| *logit = f32::NEG_INFINITY);
}

/// Leaves the likeliest tokens that together have the probability `share`, at least one.
pub(super) fn keep_top_p(logits: &mut [f32], share: f32) {
    let probabilities = softmax(logits);
    let mut order: Vec<(usize, f32)> = probabilities.into_iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    order.pop();
    let mut sum = 0.0_f64;
    for (place, probability) in order {
        sum += f64::from(probability);
        if sum as f32 > 1.0 - share {
            break;
        }
        logits.get_mut(place).into_iter().for_each(|logit| *logit = f32::NEG_INFINITY);
    }
}

/// Probabilities of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) / sum) as f32);
    weights
}

/// The logarithm of the probability of the token at `place`.
pub(crate) fn log_probability(logits: &[f32], place: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    logits.get(place).map_or(f64::NEG_INFINITY, |logit| f64::from(logit - highest) - sum.ln())
}

/// The token that stands at `uniform`, from 0 to 1, when all stand in a row, each as wide as its probability.
pub(super) fn draw(probabilities: &[f32], uniform: f64) -> usize {
    let total: f64 = probabilities.iter().copied().map(f64::from).sum();
    let mut sum = 0.0;
    let reached = probabilities.iter().position(|&probability| {
        sum += f64::from(probability);
        sum > uniform * total
    });
    reached.unwrap_or(probabilities.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: f32 = f32::NEG_INFINITY;

    #[test]
    fn repeated_tokens_are_penalised_once() {
        let options =
            GenerationOptions { repetition_penalty: 2.0, eos_token_id: 3, ..GenerationOptions::default() };
        let mut logits = [4.0, -1.0, 5.0, 9.0];
        process(&mut logits, &[0, 1, 0], &options);
        assert_eq!(logits, [2.0, -2.0, 5.0, HIDDEN]);
    }

    #[test]
    fn the_likeliest_are_left() {
        let mut logits = [1.0, 3.0, 2.0, 3.0];
        keep_top_k(&mut logits, 1);
        assert_eq!(logits, [HIDDEN, 3.0, HIDDEN, 3.0]);
        // Probabilities 0.1, 0.6, 0.3.
        let plain = [0.1_f32.ln(), 0.6_f32.ln(), 0.3_f32.ln()];
        for (share, left) in [(0.05, 1), (0.65, 2), (0.95, 3), (1.0, 3)] {
            let mut logits = plain;
            keep_top_p(&mut logits, share);
            assert_eq!(logits.iter().filter(|logit| logit.is_finite()).count(), left, "{share}");
            assert_eq!(logits[1], plain[1]);
        }
    }

    #[test]
    fn a_token_is_drawn_by_its_share() {
        let drawn: Vec<_> = [0.0, 0.09, 0.11, 0.69, 0.71, 1.0].map(|at| draw(&[0.1, 0.6, 0.3], at)).into();
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2]);
    }
}
