//! The bundled model: a small real CLIP of 8 million parameters that tells emoji apart, compiled into the program. It needs
//! no network and no file; examples, documentation tests and end-to-end tests use it. Its card and the licences of what it
//! was made from are in `models/emoji-clip`.
//!
//! ```
//! use openclip_core::CheckpointConfig;
//! use openclip_zoo::emoji_clip;
//!
//! let config = CheckpointConfig::from_json("emoji-clip", emoji_clip::CONFIG)?;
//! assert_eq!(config.model_cfg.embed_dim, 128);
//! assert_eq!(emoji_clip::SAMPLE_IMAGES.len(), 16);
//! # Ok::<(), openclip_core::Error>(())
//! ```

/// The name of the architecture in the registry.
pub const NAME: &str = "emoji-clip";

/// `open_clip_config.json`: the architecture and its preprocessing.
pub const CONFIG: &str = include_str!("../models/emoji-clip/open_clip_config.json");

/// The bytes of `open_clip_model.safetensors`, in half precision.
pub static WEIGHTS: &[u8] = include_bytes!("../models/emoji-clip/open_clip_model.safetensors");

/// The reference's scores of the sample images over [`SAMPLE_IMAGES`]' labels, as JSON: `template`, `labels`, and in
/// `results` for each image its labels with their scores, best first.
pub const EXPECTED_SCORES: &str = include_str!("../models/emoji-clip/expected.json");

/// The text that the model was trained with: the label stands for `{}`.
pub const TEMPLATE: &str = "an emoji of {}";

/// A sample image: a PNG file in an art style that the model never saw in training.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SampleImage {
    /// The file's name.
    pub file: &'static str,
    /// What it shows.
    pub label: &'static str,
    /// The PNG file, 256 pixels wide and high.
    pub png: &'static [u8],
}

macro_rules! samples {
    ($($file:literal => $label:literal),* $(,)?) => {
        [$(SampleImage {
            file: concat!($file, ".png"),
            label: $label,
            png: include_bytes!(concat!("../models/emoji-clip/images/", $file, ".png")),
        }),*]
    };
}

/// The sample images, in the order of [`EXPECTED_SCORES`]. Their labels are the classes.
pub static SAMPLE_IMAGES: [SampleImage; 16] = samples![
    "cat-face" => "cat face",
    "rocket" => "rocket",
    "pizza" => "pizza",
    "soccer-ball" => "soccer ball",
    "bicycle" => "bicycle",
    "red-heart" => "red heart",
    "evergreen-tree" => "evergreen tree",
    "guitar" => "guitar",
    "fish" => "fish",
    "umbrella" => "umbrella",
    "house" => "house",
    "banana" => "banana",
    "automobile" => "automobile",
    "elephant" => "elephant",
    "butterfly" => "butterfly",
    "key" => "key",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn samples_and_expected_scores_agree() {
        let expected: Value = serde_json::from_str(EXPECTED_SCORES).unwrap();
        assert_eq!(expected["template"], TEMPLATE);
        let labels: Vec<&str> =
            expected["labels"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(labels, SAMPLE_IMAGES.map(|sample| sample.label));
        for (result, sample) in expected["results"].as_array().unwrap().iter().zip(&SAMPLE_IMAGES) {
            assert_eq!(result["image"], format!("images/{}", sample.file));
            assert_eq!(result["truth"], sample.label);
            assert!(sample.png.starts_with(b"\x89PNG\r\n"), "{}", sample.file);
        }
        assert_eq!(expected["results"].as_array().unwrap().len(), SAMPLE_IMAGES.len());
    }

    #[test]
    fn the_registry_has_the_same_configuration() {
        let registry = crate::Registry::bundled();
        let architecture = registry.architecture(NAME).unwrap();
        let config = openclip_core::CheckpointConfig::from_json(NAME, CONFIG).unwrap();
        assert_eq!(architecture.config, config.model_cfg);
        let [pretrained] = architecture.pretrained.as_slice() else { panic!("one tag") };
        let file = config.preprocess_cfg.unwrap();
        let record = serde_json::to_value(&pretrained.preprocess).unwrap();
        for (field, value) in record.as_object().unwrap() {
            assert_eq!(file.get(field), Some(value), "{field}");
        }
    }
}
