//! Work that is left out because no embedding depends on it: the same tower with all of that work done gives the same.

use anyhow::Result;
use openclip_core::{HostTensor, Taps, weights::synth};
use openclip_zoo::build::{self, BackendOptions, Families};

use super::{
    case::Case,
    compare::{source, unit},
};

/// How far the embeddings of `case`, at unit length, are from those that its towers give when somebody looks inside, which
/// makes them compute everything.
///
/// # Errors
/// When a tower can't be built or run.
pub fn largest_change(case: &Case, families: &Families, options: &BackendOptions) -> Result<f64> {
    let (config, source) = (case.config(), source(case));
    let mut largest: f64 = 0.0;
    if let Some(reference) = &case.image {
        let encoder = build::image_encoder(families, &config, &source, options)?;
        let [rows, _, height, width] = reference.input.dims;
        let pixels = synth::image(rows, height, width);
        let whole = encoder.encode_with_taps(&pixels, Taps::everything())?.0;
        largest = largest.max(change(&encoder.encode(&pixels)?, &whole));
    }
    if let Some(reference) = &case.text {
        let encoder = build::text_encoder(families, &config, &source, options)?;
        let tokens = reference.input.batch()?;
        let whole = encoder.encode_with_taps(&tokens, Taps::everything())?.0;
        largest = largest.max(change(&encoder.encode(&tokens)?, &whole));
        // Texts by themselves are cut to their own length, not to that of the longest.
        for place in 0..tokens.rows() {
            let alone = encoder.encode(&tokens.select(&[place]))?;
            if let Some(row) = whole.rows().nth(place) {
                largest = largest.max(change(&alone, &HostTensor::new(alone.dims(), row.to_vec())?));
            }
        }
    }
    Ok(largest)
}

fn change(cut: &HostTensor, whole: &HostTensor) -> f64 {
    if cut.dims() != whole.dims() {
        return f64::INFINITY;
    }
    let width = *whole.dims().last().unwrap_or(&1);
    let rows = cut.data().chunks(width).zip(whole.data().chunks(width));
    rows.flat_map(|(cut, whole)| unit(cut).into_iter().zip(unit(whole)))
        // `f64::max` would let a NaN pass.
        .map(|(cut, whole)| {
            Some((cut - whole).abs()).filter(|change| change.is_finite()).unwrap_or(f64::INFINITY)
        })
        .fold(0.0, f64::max)
}
