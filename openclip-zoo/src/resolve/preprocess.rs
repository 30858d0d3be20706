//! A complete `preprocess_cfg`: the reference's defaults, what the pretrained record or the checkpoint says on top, and the
//! size that the image tower takes.

use openclip_core::{Error, HeightWidth, ModelConfig};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::registry::{Architecture, Preprocess};

/// The reference's size where the configuration has none.
const DEFAULT_IMAGE_SIZE: usize = 224;

/// The reference's fields and defaults.
fn defaults() -> Map<String, Value> {
    let fields = [
        ("size", json!(DEFAULT_IMAGE_SIZE)),
        ("mode", json!("RGB")),
        ("mean", json!([0.48145466, 0.4578275, 0.40821073])),
        ("std", json!([0.26862954, 0.26130258, 0.27577711])),
        ("interpolation", json!("bicubic")),
        ("resize_mode", json!("shortest")),
        ("fill_color", json!(0)),
    ];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// What a pretrained record says.
pub(super) fn of_record(record: &Preprocess) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("mean".to_owned(), json!(record.mean));
    fields.insert("std".to_owned(), json!(record.std));
    fields.insert("interpolation".to_owned(), json!(record.interpolation));
    fields.insert("resize_mode".to_owned(), json!(record.resize_mode));
    fields
}

/// What goes with a checkpoint file of an architecture: what all its pretrained tags agree on, if they do. The reference
/// takes its defaults here, and so gives a SigLIP file the normalisation of CLIP without a word.
pub(super) fn of_architecture(architecture: &Architecture) -> Option<Map<String, Value>> {
    let (first, others) = architecture.pretrained.split_first()?;
    others.iter().all(|other| other.preprocess == first.preprocess).then(|| of_record(&first.preprocess))
}

/// Defaults, `given` on top (fields that the reference doesn't know and `null` are passed over), and `[height, width]` of
/// the image tower, which wins over a size that is written in a checkpoint.
pub(super) fn complete(
    origin: &str,
    model: &ModelConfig,
    given: Option<&Map<String, Value>>,
) -> Result<Map<String, Value>> {
    let mut fields = defaults();
    for (field, value) in given.into_iter().flatten() {
        match fields.get_mut(field) {
            Some(known) if !value.is_null() => *known = value.clone(),
            Some(_) => {}
            None => tracing::debug!(origin, field, "preprocess_cfg has a field that isn't known"),
        }
    }
    let size = match model.vision_cfg.get("image_size") {
        Some(size) => serde_json::from_value(size.clone()).ok(),
        None => Some(HeightWidth::square(DEFAULT_IMAGE_SIZE)),
    };
    let size = size.filter(|size| size.height > 0 && size.width > 0).ok_or_else(|| {
        Error::config(origin, "vision_cfg.image_size is neither a positive whole number nor [height, width]")
    })?;
    fields.insert("size".to_owned(), json!(size.to_array()));
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use openclip_core::CheckpointConfig;

    use super::*;

    fn complete_with(vision: &str, preprocess: &str) -> Result<Value> {
        let json = format!(
            r#"{{"model_cfg": {{"embed_dim": 8, "vision_cfg": {vision}, "text_cfg": {{}}}}, "preprocess_cfg": {preprocess}}}"#
        );
        let config = CheckpointConfig::from_json("test", &json)?;
        Ok(Value::Object(complete("test", &config.model_cfg, config.preprocess_cfg.as_ref())?))
    }

    #[test]
    fn what_is_given_goes_over_the_defaults() {
        let value = complete_with(
            r#"{"image_size": [32, 48]}"#,
            r#"{"size": 99, "mean": [0, 0, 0], "std": null, "resize_mode": "squash", "unknown": 1}"#,
        );
        assert_eq!(
            value.unwrap(),
            json!({
                "size": [32, 48], "mode": "RGB", "mean": [0, 0, 0], "std": [0.26862954, 0.26130258, 0.27577711],
                "interpolation": "bicubic", "resize_mode": "squash", "fill_color": 0,
            })
        );
        assert_eq!(complete_with("{}", "null").unwrap()["size"], json!([224, 224]));
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        for size in ["0", "-1", "1.5", "[1]", "[1, 2, 3]", "[0, 1]", "\"224\""] {
            let error = complete_with(&format!(r#"{{"image_size": {size}}}"#), "{}").unwrap_err().to_string();
            assert!(error.contains("image_size"), "{size}: {error}");
        }
    }
}
