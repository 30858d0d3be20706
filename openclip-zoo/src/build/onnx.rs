//! Encoders from ONNX files: exported ones, and others that have the same purpose.

#![cfg_attr(
    not(feature = "ort"),
    allow(unused_variables, reason = "without ONNX Runtime all that can be done is to say so")
)]

use std::path::Path;

use openclip_core::{CheckpointConfig, Error, ImageEncoder, Result, TextEncoder};

use super::{BackendOptions, Families, LogitParameters};

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
    families: &Families,
    path: &Path,
    config: &CheckpointConfig,
    options: &BackendOptions,
) -> Result<OnnxEncoder<dyn ImageEncoder>> {
    #[cfg(feature = "ort")]
    if options.kind == super::BackendKind::Ort {
        let info = families.image(&config.model_cfg).and_then(|family| family.info(&config.model_cfg));
        let info = info.unwrap_or_else(|_| image_info(config));
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
    families: &Families,
    path: &Path,
    config: &CheckpointConfig,
    options: &BackendOptions,
) -> Result<OnnxEncoder<dyn TextEncoder>> {
    #[cfg(feature = "ort")]
    if options.kind == super::BackendKind::Ort {
        let info = families.text(&config.model_cfg).and_then(|family| family.info(&config.model_cfg));
        let info = info.unwrap_or_else(|_| text_info(config));
        let named = u32::try_from(text_number(config, "pad_id", 0)).unwrap_or(0);
        let pad_id = info.pad_id.unwrap_or(named);
        let encoder = openclip_ort::runtime::OrtTextEncoder::from_file(path, info, pad_id, &options.ort())?;
        let logits = read(path, options, &|key| encoder.metadata(key))?;
        return Ok(OnnxEncoder { encoder: Box::new(encoder), logits });
    }
    Err(needs_ort(path))
}

/// What is known of an image tower that no family knows.
#[cfg(feature = "ort")]
fn image_info(config: &CheckpointConfig) -> openclip_core::ImageInfo {
    let size = config.preprocess_cfg.as_ref().and_then(|fields| fields.get("size"));
    let size: Option<openclip_core::HeightWidth> =
        size.and_then(|size| serde_json::from_value(size.clone()).ok());
    openclip_core::ImageInfo {
        image_size: size.map_or([224, 224], |size| size.to_array()),
        embed_dim: config.model_cfg.embed_dim,
    }
}

/// What is known of a text tower that no family knows: the reference's defaults where nothing is said.
#[cfg(feature = "ort")]
fn text_info(config: &CheckpointConfig) -> openclip_core::TextInfo {
    openclip_core::TextInfo {
        context_length: text_number(config, "context_length", 77),
        vocab_size: text_number(config, "vocab_size", 49408),
        embed_dim: config.model_cfg.embed_dim,
        reach: openclip_core::TextReach::Whole,
        pad_id: None,
        eos_id: None,
    }
}

#[cfg(feature = "ort")]
fn text_number(config: &CheckpointConfig, field: &str, default: usize) -> usize {
    let value = config.model_cfg.text_cfg.get(field).and_then(serde_json::Value::as_u64);
    value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
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
