//! How well texts fit an image: their perplexity under the model.

use openclip_core::{CaptionSession, Error, Result, TokenBatch};

use crate::generate::log_probability;

/// Texts that are read at once, which bounds how many logits there are.
const TEXTS: usize = 8;

/// The perplexity of each text about the image at place `image` of a session: the exponential of the mean cross entropy of
/// its tokens, as in the reference's captioning loss. The first token is given, and padding doesn't count.
///
/// # Errors
/// [`Error::InvalidArgument`] for a text without a token to predict, and those of [`CaptionSession::logits`].
pub fn perplexities(
    session: &dyn CaptionSession,
    image: usize,
    texts: &TokenBatch,
    pad_id: u32,
) -> Result<Vec<f64>> {
    let mut perplexities = Vec::with_capacity(texts.rows());
    let length = |ids: &[u32]| ids.iter().rposition(|&id| id != pad_id).map_or(0, |last| last + 1);
    for start in (0..texts.rows()).step_by(TEXTS) {
        let places: Vec<usize> = (start..texts.rows().min(start + TEXTS)).collect();
        let part = texts.select(&places);
        let longest = part.iter().map(length).max().unwrap_or(0).max(1);
        let part = part.truncated(longest);
        let logits = session.logits(image, &part)?;
        let vocabulary = logits.dims().last().copied().unwrap_or(0).max(1);
        for ((place, ids), logits) in places.into_iter().zip(part.iter()).zip(logits.rows()) {
            let predicted = logits.chunks_exact(vocabulary).zip(ids.iter().skip(1));
            let (mut sum, mut count) = (0.0, 0_usize);
            for (logits, &id) in predicted.filter(|&(_, &id)| id != pad_id) {
                sum -= log_probability(logits, id as usize);
                count += 1;
            }
            if count == 0 {
                return Err(Error::InvalidArgument(format!("text {place} has no token to predict")));
            }
            perplexities.push((sum / count as f64).exp());
        }
    }
    Ok(perplexities)
}
