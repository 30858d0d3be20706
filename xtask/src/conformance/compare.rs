//! Comparing what a backend computes with what the reference computed.

use std::sync::Arc;

use anyhow::{Result, ensure};
use openclip_core::{
    HostTensor, Precision, Reading, Taps,
    weights::{WeightSource, synth},
};
use openclip_zoo::build::{self, BackendOptions, Families};

use super::{
    captions,
    case::{Activation, Case, Parameters, TowerReference},
    inside,
};

/// How far embeddings of unit length may be from the reference's.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Largest difference of a component.
    pub difference: f64,
    /// Smallest cosine.
    pub cosine: f64,
}

impl Tolerance {
    /// The precision contract.
    pub fn of(precision: Precision) -> Self {
        let (difference, cosine) = match precision {
            Precision::F32 => (2e-5, 0.999_999),
            Precision::F16 => (f64::INFINITY, 0.9999),
            Precision::Bf16 => (f64::INFINITY, 0.999),
            Precision::Int8 | Precision::Int8Weights => (f64::INFINITY, 0.99),
        };
        Self { difference, cosine }
    }

    /// The contract for `case`. Made-up configurations are small, so rounding leaves more room for mistakes: in `f32` a
    /// quarter of the contract has to do.
    pub fn of_case(case: &str, precision: Precision) -> Self {
        let Self { difference, cosine } = Self::of(precision);
        let difference = if case.starts_with("made-") { difference / 4.0 } else { difference };
        Self { difference, cosine }
    }
}

/// How near a tower came to the reference.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Largest difference of a component of the unit-length embeddings.
    pub difference: f64,
    /// Smallest cosine between a row and the reference's.
    pub cosine: f64,
    /// The first activation that differs, where the tower fails.
    pub first_difference: Option<String>,
}

impl Outcome {
    /// Whether the tower keeps the contract.
    pub fn passes(&self, tolerance: Tolerance) -> bool {
        self.difference <= tolerance.difference && self.cosine >= tolerance.cosine
    }
}

/// Runs the image tower of `case`, if it has one.
///
/// # Errors
/// When the tower can't be built or run, or isn't shaped like the reference's.
pub fn image(case: &Case, families: &Families, options: &BackendOptions) -> Result<Option<Outcome>> {
    let Some(reference) = &case.image else { return Ok(None) };
    let config = case.config();
    check_parameters(&reference.parameters, build::IMAGE_SCOPE, families, &config)?;
    let encoder = build::image_encoder(families, &config, &source(case), options)?;
    let [rows, channels, height, width] = reference.input.dims;
    ensure!(channels == 3, "images have three channels");
    let pixels = synth::image(rows, height, width);
    let look_inside = |taps| Ok(encoder.encode_with_taps(&pixels, taps)?.1);
    inside::check(reference, options.precision, look_inside)?;
    let tolerance = Tolerance::of_case(&case.name, options.precision);
    compare(&encoder.encode(&pixels)?, reference, tolerance, look_inside).map(Some)
}

/// Runs the text tower of `case`, if it has one.
///
/// # Errors
/// When the tower can't be built or run, or isn't shaped like the reference's.
pub fn text(case: &Case, families: &Families, options: &BackendOptions) -> Result<Option<Outcome>> {
    let Some(reference) = &case.text else { return Ok(None) };
    let config = case.config();
    check_parameters(&reference.parameters, build::TEXT_SCOPE, families, &config)?;
    let encoder = build::text_encoder(families, &config, &source(case), options)?;
    let tokens = reference.input.batch()?;
    let look_inside = |taps| Ok(encoder.encode_with_taps(&tokens, taps)?.1);
    inside::check(reference, options.precision, look_inside)?;
    let tolerance = Tolerance::of_case(&case.name, options.precision);
    compare(&encoder.encode(&tokens)?, reference, tolerance, look_inside).map(Some)
}

/// Runs the decoder of `case`, if it has one: on whole texts, and, where texts grow token by token, on trees of them.
///
/// # Errors
/// When the model can't be built or run, or isn't shaped like the reference's.
pub fn caption(case: &Case, families: &Families, options: &BackendOptions) -> Result<Option<Outcome>> {
    let Some(reference) = &case.caption else { return Ok(None) };
    let config = case.config();
    check_parameters(&reference.parameters, build::DECODER_SCOPE, families, &config)?;
    let captioner = build::captioner(families, &config, &source(case), options)?;
    let [rows, _, height, width] = reference.input.dims;
    let pixels = synth::image(rows, height, width);
    let texts = reference.input.texts.batch()?;
    let session = captioner.look(&pixels)?;
    let mut whole = Vec::new();
    for (place, &image) in reference.input.images.iter().enumerate() {
        // The last token has no successor, but a text tower may see it.
        whole.push(session.logits(image, &texts.select(&[place]))?);
    }
    let tolerance = Tolerance::of_case(&case.name, options.precision);
    let mut outcome = captions::compare(&whole, reference, tolerance)?;
    if matches!(captioner.info().reading, Reading::Causal { .. }) {
        let grown = captions::grown(captioner.as_ref(), &pixels, &texts, &reference.input.images)?;
        let grown = captions::compare(&grown, reference, tolerance)?;
        if grown.difference > outcome.difference || grown.first_difference.is_some() {
            outcome = grown;
        }
    }
    // A token more or less likely by rounding is another text, so texts are compared in full precision only.
    if let (Some(generation), Precision::F32) = (&case.generation, options.precision)
        && let Some(other) = captions::first_other_caption(captioner.as_ref(), generation)?
    {
        outcome = Outcome { difference: f64::INFINITY, first_difference: Some(other), ..outcome };
    }
    Ok(Some(outcome))
}

/// The weights of `case`.
pub fn source(case: &Case) -> Arc<dyn WeightSource> {
    let mut weights = synth::SynthesisedWeights::new();
    for (name, dims) in &case.stored_dims {
        weights = weights.with_stored(name, dims);
    }
    for (end, &[offset, scale]) in &case.spreads {
        weights = weights.with_spread(end, offset, scale);
    }
    Arc::new(weights)
}

/// Activations by name, as an encoder gives them.
pub type Activations = Vec<(String, HostTensor)>;

fn check_parameters(
    expected: &Parameters,
    scope: &str,
    families: &Families,
    config: &openclip_core::ModelConfig,
) -> Result<()> {
    let parameters = build::parameters(families, config)?;
    let own = parameters.iter().filter(|(name, _)| name.starts_with(&format!("{scope}.")));
    let (count, elements) = own
        .fold((0, 0), |(count, elements), (_, dims)| (count + 1, elements + dims.iter().product::<usize>()));
    ensure!(
        (count, elements) == (expected.count, expected.elements),
        "the tower has {count} parameters of {elements} values, the reference {} of {}",
        expected.count,
        expected.elements
    );
    Ok(())
}

/// Compares an embedding; only where it fails does `look_inside` run the tower again for its activations.
fn compare<I>(
    found: &HostTensor,
    reference: &TowerReference<I>,
    tolerance: Tolerance,
    look_inside: impl FnOnce(Taps<HostTensor>) -> Result<Activations>,
) -> Result<Outcome> {
    let expected = reference.embedding.tensor()?;
    ensure!(
        found.dims() == expected.dims(),
        "the embedding has dimensions {:?}, the reference's {:?}",
        found.dims(),
        expected.dims()
    );
    let width = *expected.dims().last().unwrap_or(&1);
    let mut outcome = Outcome { difference: 0.0, cosine: 1.0, first_difference: None };
    for (a, b) in found.data().chunks(width).zip(expected.data().chunks(width)) {
        let (a, b) = (unit(a), unit(b));
        let cosine: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        // `min` and `max` would let a NaN pass.
        ensure!(cosine.is_finite(), "the embedding has values that are not numbers");
        outcome.cosine = outcome.cosine.min(cosine);
        for (a, b) in a.iter().zip(&b) {
            outcome.difference = outcome.difference.max((a - b).abs());
        }
    }
    if !outcome.passes(tolerance) {
        let taps = look_inside(Taps::named(reference.activations.iter().map(|activation| &activation.name)))?;
        let first = reference.activations.iter().find_map(|activation| deviation(activation, &taps));
        outcome.first_difference = first.or(Some("the projection: all activations agree".to_owned()));
    }
    Ok(outcome)
}

/// `row` at unit length.
pub fn unit(row: &[f32]) -> Vec<f64> {
    let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|&x| f64::from(x) / norm).collect()
}

/// A feature map `[N, C, H, W]` as `[N, H*W, C]`; anything else as it is.
fn places(x: &HostTensor) -> HostTensor {
    let &[batch, channels, height, width] = x.dims() else { return x.clone() };
    let count = height * width;
    let values = (0..batch * count * channels).map(|at| {
        let (input, place, channel) = (at / (count * channels), at / channels % count, at % channels);
        x.data()[(input * channels + channel) * count + place]
    });
    HostTensor::new([batch, count, channels], values.collect()).unwrap_or_else(|_| x.clone())
}

/// Where `activation` differs from what was found, if it does.
pub fn deviation(activation: &Activation, taps: &[(String, HostTensor)]) -> Option<String> {
    let name = &activation.name;
    let Some((_, found)) = taps.iter().find(|(tap, _)| tap == name) else {
        return Some(format!("{name}: the tower doesn't offer it"));
    };
    let found = places(found);
    if found.dims() != activation.dims {
        return Some(format!("{name}: dimensions {:?}, the reference's {:?}", found.dims(), activation.dims));
    }
    activation.probes.iter().find_map(|probe| {
        let (&expected, indices) = probe.split_last()?;
        let at = indices.iter().zip(found.dims()).fold(0, |at, (&index, &dim)| at * dim + index as usize);
        let value = f64::from(*found.data().get(at)?);
        let spread = activation.rows.iter().map(|row| row.std).fold(0.0, f64::max);
        ((value - expected).abs() > 1e-3 * spread.max(1e-6))
            .then(|| format!("{name} at {indices:?}: {value}, the reference's {expected}"))
    })
}
