//! Writing a model with its matrices in 8-bit integers, at about a quarter of the size.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::f16;
use openclip_core::{
    CheckpointConfig, Error, Result,
    files::write_atomically,
    weights::{
        self, ChannelAxis, DType, TensorData, TensorInfo, WeightSource, quantized_metadata, save_safetensors,
        scale_name,
    },
};

use super::{CAPTION_SCOPES, Families, IMAGE_SCOPE, TEXT_SCOPE, check, logit_parameters};
use crate::resolve::{CONFIG_FILE, find_checkpoint};

/// The file that the weights are written into.
const WEIGHTS_FILE: &str = "model.safetensors";

/// What belongs to no tower.
const SCORING: [&str; 2] = ["logit_scale", "logit_bias"];

/// A model that was written by [`quantize`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizedModel {
    /// The written files: weights, configuration.
    pub files: Vec<PathBuf>,
    /// Bytes that the model's parameters take in the source.
    pub source_bytes: u64,
    /// Bytes that the model's parameters take in f32.
    pub f32_bytes: u64,
    /// Bytes of the written weights.
    pub bytes: u64,
}

/// Writes the model `config` of `source` into `folder`, which is made if it isn't there, as a folder that `local-dir:`
/// takes: `model.safetensors` and `open_clip_config.json`. Every backend loads it in every precision, and in `int8` it
/// gives what rounding at loading gives, but for the rounding of embedding tables.
///
/// Layers that the model's definition lets `int8` round, and embedding tables, are stored in integers with a scale per
/// output channel or row; other matrices, positions and convolutions in f16; vectors and scalars in f32. Tensors that
/// the model doesn't use are left out.
///
/// # Errors
/// [`Error::Config`], [`Error::Weights`] with a report of everything that doesn't fit, or naming a tensor whose values
/// aren't finite, [`Error::InvalidArgument`] for a folder that has weights already, [`Error::Io`].
pub fn quantize(
    families: &Families,
    config: &CheckpointConfig,
    source: &Arc<dyn WeightSource>,
    folder: &Path,
) -> Result<QuantizedModel> {
    let model_cfg = &config.model_cfg;
    if let Ok((present, _)) = find_checkpoint(folder) {
        return Err(Error::InvalidArgument(format!(
            "{}: the folder has weights already, which are not overwritten; give a new folder",
            present.display()
        )));
    }
    logit_parameters(model_cfg, source)?;
    let (image, text) = (families.image(model_cfg)?, families.text(model_cfg)?);
    let mut surveys = vec![
        check(source, &[IMAGE_SCOPE], |w| image.declare(model_cfg, &w.scope(IMAGE_SCOPE)))?,
        check(source, &[TEXT_SCOPE], |w| text.declare(model_cfg, &w.scope(TEXT_SCOPE)))?,
    ];
    if let Ok(caption) = families.caption(model_cfg) {
        // What writes captions has both towers in it.
        surveys = vec![check(source, &CAPTION_SCOPES, |w| caption.declare(model_cfg, w))?];
    }
    let mut written = QuantizedModel { files: Vec::new(), source_bytes: 0, f32_bytes: 0, bytes: 0 };
    let mut tensors = Vec::new();
    let mut add = |name: &str, dims: &[usize], axis: Option<ChannelAxis>| -> Result<()> {
        let data = source.read(name, dims)?;
        written.source_bytes += data.bytes.len() as u64;
        written.f32_bytes += data.info.count().map_or(0, |count| count as u64 * 4);
        match axis {
            Some(axis) => {
                // The file has the canonical names, errors have those of the source.
                let shown = source.display_name(name);
                let [integers, scales] = weights::quantize(&source.origin(), &shown, &data, axis)?;
                tensors.push((name.to_owned(), integers));
                tensors.push((scale_name(name), scales));
            }
            None => tensors.push((name.to_owned(), in_floats(&data))),
        }
        Ok(())
    };
    for survey in surveys {
        let axes = survey.quantizable();
        for (name, dims) in survey.requests() {
            add(&name, &dims, axes.get(&name).copied())?;
        }
    }
    for name in SCORING {
        if source.info(name).is_some() {
            add(name, &[], None)?;
        }
    }
    let json =
        serde_json::to_vec_pretty(config).map_err(|error| Error::config(CONFIG_FILE, error.to_string()))?;
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let path = folder.join(WEIGHTS_FILE);
    save_safetensors(&path, tensors, Some(quantized_metadata()))?;
    written.bytes = fs::metadata(&path).map_err(|error| Error::io(&path, error))?.len();
    written.files.push(path);
    let path = folder.join(CONFIG_FILE);
    write_atomically(&path, |file| file.write_all(&json).map_err(|error| Error::io(&path, error)))?;
    written.files.push(path);
    Ok(written)
}

/// `data` in f16, or in f32 where that costs next to nothing or f16 can't hold the values.
fn in_floats(data: &TensorData<'_>) -> TensorData<'static> {
    let (dims, values) = (&data.info.dims, data.to_f32());
    let halves: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
    if dims.len() < 2 || halves.iter().any(|half| !half.is_finite()) {
        return TensorData::from_f32(dims, &values);
    }
    let bytes = halves.into_iter().flat_map(f16::to_le_bytes).collect();
    TensorData { info: TensorInfo { dtype: DType::F16, dims: dims.clone() }, bytes: Cow::Owned(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_halved_where_halves_can_hold_them() {
        let cases: [(&[usize], [f32; 2], DType); 4] = [
            (&[1, 2], [1.0, -0.333], DType::F16),
            (&[1, 1, 2, 1], [1.0, 65504.0], DType::F16),
            (&[1, 2], [1.0, 70000.0], DType::F32),
            (&[2], [1.0, 2.0], DType::F32),
        ];
        for (dims, values, expected) in cases {
            let stored = in_floats(&TensorData::from_f32(dims, &values));
            assert_eq!((stored.info.dtype, &stored.info.dims[..]), (expected, dims), "{values:?}");
            let read = stored.to_f32();
            assert!(read.iter().zip(values).all(|(a, b)| (a - b).abs() <= b.abs() / 2048.0), "{read:?}");
        }
    }
}
