//! Building encoders: a configuration, weights and a backend become an [`ImageEncoder`], a [`TextEncoder`] or a
//! [`Captioner`].
//!
//! Before a tower is built its parameters are compared with the checkpoint's header, so that everything that doesn't fit
//! is reported at once and before a byte of weights is read.

#![cfg_attr(
    not(any(feature = "candle", feature = "tch", feature = "ort")),
    allow(unused_variables, reason = "without a backend nothing can be built")
)]

mod backend;
mod export;
mod families;
mod onnx;
mod quantize;

use std::sync::Arc;

use crate::Profile;
pub use backend::{BackendKind, BackendOptions};
pub use export::{OnnxOptions, export_onnx};
pub use families::{AnyCaptionFamily, AnyImageFamily, AnyTextFamily, Families};
pub use onnx::{OnnxEncoder, onnx_image_encoder, onnx_text_encoder};
use openclip_core::{
    Captioner, Error, ImageEncoder, ModelConfig, Result, TextEncoder, Weights,
    weights::{WeightSource, WeightsError},
};
pub use openclip_ort::{OnnxModel, RecordOptions, WeightStorage};
pub use quantize::{QuantizedModel, quantize};

/// The scope of image towers.
pub const IMAGE_SCOPE: &str = "visual";
/// The scope of text towers.
pub const TEXT_SCOPE: &str = "text";
/// The scope of decoders that write captions.
pub const DECODER_SCOPE: &str = "text_decoder";
/// What models consist of that write captions.
const CAPTION_SCOPES: [&str; 3] = [IMAGE_SCOPE, TEXT_SCOPE, DECODER_SCOPE];

/// Builds the image tower of `config` from `source` and reads only that tower's tensors.
///
/// # Errors
/// [`Error::Config`], or [`Error::Weights`] with a report of everything that doesn't fit.
pub fn image_encoder(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<Box<dyn ImageEncoder>> {
    image_loader(families, config, source, options)?()
}

/// Builds the text tower of `config` from `source` and reads only that tower's tensors.
///
/// # Errors
/// [`Error::Config`], or [`Error::Weights`] with a report of everything that doesn't fit.
pub fn text_encoder(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<Box<dyn TextEncoder>> {
    text_loader(families, config, source, options)?()
}

/// Checks everything about the image tower that can be found out without reading its weights, now, and gives what builds it
/// later.
///
/// # Errors
/// As [`image_encoder`], and [`Error::Unsupported`] for a precision or device that the backend hasn't got.
pub fn image_loader(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<impl Fn() -> Result<Box<dyn ImageEncoder>> + Send + Sync + use<>> {
    let family = Arc::clone(families.image(config)?);
    check(source, &[IMAGE_SCOPE], |w| family.declare(config, &w.scope(IMAGE_SCOPE)))?;
    options.check()?;
    let (config, source, options) = (config.clone(), Arc::clone(source), options.clone());
    Ok(move || {
        let weights = Weights::new(Arc::clone(&source)).scope(IMAGE_SCOPE);
        Arc::clone(&family).encoder(&config, &weights, &options)
    })
}

/// As [`image_loader`], for the text tower.
///
/// # Errors
/// As [`image_loader`].
pub fn text_loader(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<impl Fn() -> Result<Box<dyn TextEncoder>> + Send + Sync + use<>> {
    let family = Arc::clone(families.text(config)?);
    check(source, &[TEXT_SCOPE], |w| family.declare(config, &w.scope(TEXT_SCOPE)))?;
    options.check()?;
    let (config, source, options) = (config.clone(), Arc::clone(source), options.clone());
    Ok(move || {
        let weights = Weights::new(Arc::clone(&source)).scope(TEXT_SCOPE);
        Arc::clone(&family).encoder(&config, &weights, &options)
    })
}

/// Builds what writes captions of the model `config` from `source`: both towers and the decoder.
///
/// # Errors
/// As [`image_encoder`], and [`Error::Config`] for a model that writes no captions.
pub fn captioner(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<Box<dyn Captioner>> {
    caption_loader(families, config, source, options)?()
}

/// As [`image_loader`], for what writes captions.
///
/// # Errors
/// As [`captioner`] and [`image_loader`].
pub fn caption_loader(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &BackendOptions,
) -> Result<impl Fn() -> Result<Box<dyn Captioner>> + Send + Sync + use<>> {
    let family = Arc::clone(families.caption(config)?);
    check(source, &CAPTION_SCOPES, |w| family.declare(config, w))?;
    options.check()?;
    let (config, source, options) = (config.clone(), Arc::clone(source), options.clone());
    Ok(move || Arc::clone(&family).captioner(&config, &Weights::new(Arc::clone(&source)), &options))
}

/// Records the image tower of `config` as an ONNX graph with a dynamic batch size; `source` is read when it is saved.
///
/// # Errors
/// As [`image_encoder`].
pub fn record_image(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &RecordOptions,
) -> Result<OnnxModel> {
    let family = families.image(config)?;
    check(source, &[IMAGE_SCOPE], |w| family.declare(config, &w.scope(IMAGE_SCOPE)))?;
    family.record(config, &Weights::new(Arc::clone(source)).scope(IMAGE_SCOPE), options)
}

/// Records the text tower of `config` as an ONNX graph with dynamic batch size and text length; `source` is read when it
/// is saved.
///
/// # Errors
/// As [`text_encoder`].
pub fn record_text(
    families: &Families,
    config: &ModelConfig,
    source: &Arc<dyn WeightSource>,
    options: &RecordOptions,
) -> Result<OnnxModel> {
    let family = families.text(config)?;
    check(source, &[TEXT_SCOPE], |w| family.declare(config, &w.scope(TEXT_SCOPE)))?;
    family.record(config, &Weights::new(Arc::clone(source)).scope(TEXT_SCOPE), options)
}

/// Compares what stands below `scopes` with a checkpoint's header. Returns the account of what `declare` asked for.
fn check(
    source: &Arc<dyn WeightSource>,
    scopes: &[&str],
    declare: impl FnOnce(&Weights) -> Result<()>,
) -> Result<Weights> {
    let survey = Weights::survey(Arc::clone(source));
    declare(&survey)?;
    let report = survey.report(scopes);
    if !report.is_complete() {
        return Err(WeightsError::Incompatible { origin: source.origin(), report: Box::new(report) }.into());
    }
    if !report.unused.is_empty() {
        tracing::warn!("{}: tensors that the model doesn't use:\n{report}", source.origin());
    }
    Ok(survey)
}

/// How similarities become scores: `logit_scale`, `logit_bias` of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitParameters {
    /// Factor of the cosine similarity: `exp` of the stored value.
    pub scale: f32,
    /// Added to the scaled similarity. A model that has one scores with a sigmoid, others with a softmax.
    pub bias: Option<f32>,
}

/// Reads how `config`'s model scores.
///
/// # Errors
/// [`Error::Weights`] when `logit_scale` is missing, and [`Error::Config`] when the checkpoint has a `logit_bias` that the
/// configuration doesn't know of: such a model would be scored wrongly.
pub fn logit_parameters(config: &ModelConfig, source: &Arc<dyn WeightSource>) -> Result<LogitParameters> {
    let weights = Weights::new(Arc::clone(source));
    let read = |name: &str| -> Result<f32> {
        let dims: &[usize] = match weights.stored(name) {
            Some(info) if info.dims == [1] => &[1],
            _ => &[],
        };
        Ok(weights.read(name, dims)?.to_f32().first().copied().unwrap_or_default())
    };
    let bias = match (config.init_logit_bias, weights.contains("logit_bias")) {
        (None, true) => {
            let message = format!(
                "{} has a `logit_bias`, the configuration has no `init_logit_bias`: \
                 this is not the checkpoint's configuration",
                source.origin()
            );
            return Err(Error::config("model_cfg", message));
        }
        (None, false) => None,
        // The reference starts from a zero bias where a checkpoint has none.
        (Some(_), stored) => Some(if stored { read("logit_bias")? } else { 0.0 }),
    };
    Ok(LogitParameters { scale: read("logit_scale")?.exp(), bias })
}

/// Sizes and costs of `config`'s towers, counted on their definitions: parameters, and floating point operations of one
/// image and of one text that fills the context.
///
/// # Errors
/// [`Error::Config`].
pub fn profile(families: &Families, config: &ModelConfig) -> Result<Profile> {
    let tower = |count: &dyn Fn(&Weights) -> Result<u64>| -> Result<[f64; 2]> {
        let any: Arc<dyn WeightSource> = Arc::new(openclip_core::weights::synth::SynthesisedWeights::new());
        let weights = Weights::survey(any);
        let operations = count(&weights)?;
        let parameters =
            weights.requests().iter().map(|(_, dims)| dims.iter().product::<usize>()).sum::<usize>();
        Ok([parameters as f64 / 1e6, operations as f64 / 1e9])
    };
    let (image, text) = (families.image(config)?, families.text(config)?);
    let [image_mparams, image_gflops] = tower(&|w| image.operations(config, &w.scope(IMAGE_SCOPE)))?;
    let [text_mparams, text_gflops] = tower(&|w| text.operations(config, &w.scope(TEXT_SCOPE)))?;
    Ok(Profile {
        mparams: image_mparams + text_mparams,
        image_mparams,
        text_mparams,
        gflops: Some(image_gflops + text_gflops),
        image_gflops: Some(image_gflops),
        text_gflops: Some(text_gflops),
    })
}

/// Every parameter of `config`'s towers with its dimensions: image tower, text tower, decoder.
///
/// # Errors
/// [`Error::Config`].
pub fn parameters(families: &Families, config: &ModelConfig) -> Result<Vec<(String, Vec<usize>)>> {
    let any: Arc<dyn WeightSource> = Arc::new(openclip_core::weights::synth::SynthesisedWeights::new());
    let weights = Weights::survey(any);
    families.image(config)?.declare(config, &weights.scope(IMAGE_SCOPE))?;
    families.text(config)?.declare(config, &weights.scope(TEXT_SCOPE))?;
    if let Ok(caption) = families.caption(config) {
        caption.declare(config, &weights)?;
    }
    Ok(weights.requests())
}
