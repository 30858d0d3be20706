//! Encoders from ONNX files: exported ones, and others that have the same purpose.

#![cfg_attr(
    not(feature = "ort"),
    allow(unused_variables, reason = "without ONNX Runtime all that can be done is to say so")
)]

use std::path::Path;

use openclip_core::{CheckpointConfig, Error, ImageEncoder, Result, TextEncoder};

use super::{BackendOptions, LogitParameters};

/// A tower from an ONNX file.
pub struct OnnxEncoder<E: ?Sized> {
    /// The tower.
    pub encoder: Box<E>,
    /// How similarities become scores, where the file says it.
    pub logits: Option<LogitParameters>,
}

/// What a file's metadata says.
#[cfg(feature = "ort")]
type Metadata<'a> = &'a dyn Fn(&str) -> Result<Option<String>>;

/// The image tower in the ONNX file `path`. Its configuration says what the graph leaves open.
///
/// # Errors
/// [`Error::Unsupported`] on other backends than `ort`, and in another precision than the file's; [`Error::Config`] for a
/// graph that takes or gives something else than an image tower; [`Error::Backend`] for a file that can't be loaded.
pub fn onnx_image_encoder(
    path: &Path,
    config: &CheckpointConfig,
    options: &BackendOptions,
) -> Result<OnnxEncoder<dyn ImageEncoder>> {
    #[cfg(feature = "ort")]
    if options.kind == super::BackendKind::Ort {
        let size = config.preprocess_cfg.as_ref().and_then(|fields| fields.get("size"));
        let size: Option<openclip_core::HeightWidth> =
            size.and_then(|size| serde_json::from_value(size.clone()).ok());
        let info = openclip_core::ImageInfo {
            image_size: size.map_or([224, 224], |size| size.to_array()),
            embed_dim: config.model_cfg.embed_dim,
        };
        let encoder = openclip_ort::runtime::OrtImageEncoder::from_file(path, info, &options.ort())?;
        let logits = read(path, options, &|key| encoder.metadata(key))?;
        return Ok(OnnxEncoder { encoder: Box::new(encoder), logits });
    }
    Err(needs_ort(path))
}

/// The text tower in the ONNX file `path`. Its configuration says what the graph leaves open.
///
/// # Errors
/// As [`onnx_image_encoder`].
pub fn onnx_text_encoder(
    path: &Path,
    config: &CheckpointConfig,
    options: &BackendOptions,
) -> Result<OnnxEncoder<dyn TextEncoder>> {
    #[cfg(feature = "ort")]
    if options.kind == super::BackendKind::Ort {
        let number = |field: &str, default: usize| {
            let value = config.model_cfg.text_cfg.get(field).and_then(serde_json::Value::as_u64);
            value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
        };
        // The reference's defaults.
        let info = openclip_core::TextInfo {
            context_length: number("context_length", 77),
            vocab_size: number("vocab_size", 49408),
            embed_dim: config.model_cfg.embed_dim,
        };
        let pad_id = u32::try_from(number("pad_id", 0)).unwrap_or(0);
        let encoder = openclip_ort::runtime::OrtTextEncoder::from_file(path, info, pad_id, &options.ort())?;
        let logits = read(path, options, &|key| encoder.metadata(key))?;
        return Ok(OnnxEncoder { encoder: Box::new(encoder), logits });
    }
    Err(needs_ort(path))
}

fn needs_ort(path: &Path) -> Error {
    let built = cfg!(feature = "ort");
    let remedy =
        if built { "use --backend ort" } else { "build with `--features ort` and use --backend ort" };
    let message = format!("{} is an ONNX file, which runs on ONNX Runtime only: {remedy}", path.display());
    Error::Unsupported { backend: "ort", message }
}

/// Checks the precision and reads how similarities become scores.
#[cfg(feature = "ort")]
fn read(path: &Path, options: &BackendOptions, metadata: Metadata) -> Result<Option<LogitParameters>> {
    let number = |key: &str| -> Result<Option<f32>> {
        let Some(text) = metadata(key)? else { return Ok(None) };
        let number = text.parse::<f32>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
            Error::config(
                path.display().to_string(),
                format!("its metadata `{key}` is `{text}`, not a number"),
            )
        })?;
        Ok(Some(number))
    };
    use openclip_core::Precision;

    let precision = metadata("precision")?.unwrap_or_else(|| Precision::F32.to_string());
    // `f32` is what is asked for when nothing is said.
    if options.precision != Precision::F32 && options.precision.to_string() != precision {
        let message = format!(
            "{} computes in {precision}: leave --precision out, or export it again with --precision {}",
            path.display(),
            options.precision
        );
        return Err(Error::Unsupported { backend: "ort", message });
    }
    let bias = number("logit_bias")?;
    Ok(number("logit_scale")?.map(|scale| LogitParameters { scale, bias }))
}
