//! Features of texts.

use openclip_core::HostTensor;
use sha2::{Digest as _, Sha256};

use super::{ExtractionOptions, Observer};
use crate::{
    error::{Error, Result},
    model::Model,
};

/// Batches of texts that are sorted by length together.
const BATCHES_TO_SORT: usize = 32;

/// Unit-length features of texts, `[N, D]` in their order. Texts that occur several times are computed once. What the store
/// has is taken from there; what is computed is put there window by window.
///
/// # Errors
/// Errors of the model, and [`Error::Io`] when features can't be kept.
pub fn embed_texts(
    texts: &[String],
    model: &dyn Model,
    options: &ExtractionOptions,
    observer: &dyn Observer,
) -> Result<HostTensor> {
    let mut places: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
    let mut distinct: Vec<&str> = Vec::new();
    let order: Vec<usize> = texts
        .iter()
        .map(|text| {
            *places.entry(text).or_insert_with(|| {
                distinct.push(text);
                distinct.len() - 1
            })
        })
        .collect();
    let batch = options.loader.batch_size;
    let mut journal = match &options.store {
        Some(store) => {
            let mut all = Sha256::new();
            for text in &distinct {
                all.update((text.len() as u64).to_le_bytes());
                all.update(text);
            }
            // What the model makes of one text tells its weights and precision from others.
            let probe =
                model.embed_texts(&["a photo of 2 red foxes, 1 blue bird"], batch).map_err(Error::Model)?;
            let probe: Vec<u8> = probe.data().iter().flat_map(|value| value.to_le_bytes()).collect();
            Some(store.journal(&format!("{}-texts", options.label), &[b"texts", &probe, &all.finalize()])?)
        }
        None => None,
    };
    let done = journal.as_ref().map_or(0, |journal| journal.saved().len());
    observer.start("texts", Some(distinct.len()), done);
    let (mut values, mut width) = (Vec::new(), 0);
    for window in distinct.get(done..).unwrap_or_default().chunks(batch.max(1) * BATCHES_TO_SORT) {
        let mut features = model.embed_texts(window, batch).map_err(Error::Model)?;
        features.l2_normalize_rows();
        width = features.dims().last().copied().unwrap_or(0);
        match &mut journal {
            Some(journal) => journal.add(vec![None; window.len()], features.data(), width)?,
            None => values.extend_from_slice(features.data()),
        }
        observer.advance(window.len());
    }
    observer.finish();
    if let Some(journal) = journal {
        (_, values, width) = journal.into_parts();
    }
    let row = |place: usize| values.get(place * width..(place + 1) * width).unwrap_or_default();
    let data: Vec<f32> = order.into_iter().flat_map(row).copied().collect();
    Ok(HostTensor::new([texts.len(), width], data)?)
}
