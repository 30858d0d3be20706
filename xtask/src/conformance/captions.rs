//! Comparing a decoder's logits, and the captions that it generates, with the reference's.

use anyhow::{Result, bail, ensure};
use openclip_coca::generate;
use openclip_core::{Captioner, HostTensor, TokenBatch, TreeNode, weights::synth};

use super::{
    case::{CaptionReference, GenerationReference},
    compare::{Outcome, Tolerance, unit},
};

/// Logits `[1, L, V]` of each text, from trees of one text each that get their tokens in two steps.
pub fn grown(
    captioner: &dyn Captioner,
    pixels: &HostTensor,
    texts: &TokenBatch,
    images: &[usize],
) -> Result<Vec<HostTensor>> {
    let mut grown = Vec::new();
    for (ids, &image) in texts.iter().zip(images) {
        let dims = [&[1], &pixels.dims()[1..]].concat();
        let pixels = HostTensor::new(dims, pixels.rows().nth(image).unwrap_or_default().to_vec())?;
        let mut session = captioner.look(&pixels)?;
        let mut logits = Vec::new();
        for part in [0..ids.len() / 2, ids.len() / 2..ids.len()] {
            let nodes = part.map(|place| TreeNode { parent: place.checked_sub(1), id: ids[place] }).collect();
            logits.extend(session.grow(&[nodes])?.into_data());
        }
        grown.push(HostTensor::new([1, ids.len(), captioner.info().logits], logits)?);
    }
    Ok(grown)
}

/// The first caption that isn't the reference's, token for token.
pub fn first_other_caption(
    captioner: &dyn Captioner,
    reference: &GenerationReference,
) -> Result<Option<String>> {
    let [images, _, height, width] = reference.dims;
    let pixels = synth::image(images, height, width);
    for run in &reference.runs {
        let options = run.options.ours()?;
        let captions = generate(captioner, &pixels, &options)?;
        ensure!(
            captions.len() == run.tokens.len(),
            "{} captions of {} images",
            captions.len(),
            run.tokens.len()
        );
        let other = captions.iter().zip(&run.tokens).position(|(caption, tokens)| caption.tokens != *tokens);
        if let Some(image) = other {
            let (found, expected) =
                (captions.get(image).map(|caption| &caption.tokens), run.tokens.get(image));
            let message = format!(
                "caption of image {image} with {:?}: {found:?}, the reference's {expected:?}",
                run.options
            );
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Compares logits `[1, L, V]` of each text, as far as the reference has them: those of the tokens that it kept, at unit
/// length, and where the tolerance knows of a difference also which token has the highest.
pub fn compare(found: &[HostTensor], reference: &CaptionReference, tolerance: Tolerance) -> Result<Outcome> {
    let expected = reference.logits.tensor()?;
    let picked = &reference.picked;
    let &[texts, length, _] = expected.dims() else {
        bail!("the reference's logits have dimensions {:?}", expected.dims());
    };
    ensure!(texts == found.len(), "there are logits of {} texts, the reference has {texts}", found.len());
    let mut outcome = Outcome { difference: 0.0, cosine: 1.0, first_difference: None };
    for (text, found) in found.iter().enumerate() {
        let &[1, found_length, vocabulary] = found.dims() else {
            bail!("logits have dimensions {:?}", found.dims());
        };
        ensure!(
            found_length > length,
            "there are logits of {found_length} tokens, the text has {}",
            length + 1
        );
        let expected = expected.data().chunks(length * picked.len()).nth(text).unwrap_or_default();
        let best = reference.best.get(text).map_or(&[][..], Vec::as_slice);
        let rows = found.data().chunks(vocabulary).zip(expected.chunks(picked.len()).zip(best));
        let counted = reference.lengths.get(text).copied().unwrap_or(length);
        for (place, (row, (expected, &best))) in rows.take(counted).enumerate() {
            let kept: Vec<f32> = picked.iter().filter_map(|&id| row.get(id).copied()).collect();
            let (a, b) = (unit(&kept), unit(expected));
            let cosine: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            ensure!(cosine.is_finite(), "logits have values that are not numbers");
            let largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            outcome.cosine = outcome.cosine.min(cosine);
            outcome.difference = outcome.difference.max(largest);
            let first = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            let other = first != Some(best) && tolerance.difference.is_finite();
            if (other || largest > tolerance.difference || cosine < tolerance.cosine)
                && outcome.first_difference.is_none()
            {
                let place = format!(
                    "logits of text {text} at token {place}, where {first:?} is the highest, not {best}"
                );
                outcome.first_difference = Some(place);
            }
        }
    }
    Ok(outcome)
}
