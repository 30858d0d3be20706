//! The preprocessing configuration: the reference's `preprocess_cfg` section as it stands in `open_clip_config.json`
//! and in the registry, with the reference's defaults (`PreprocessCfg` in open_clip's `transform.py`) and the checks
//! that make a wrong value an error that names the field.

use openclip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Channel means of the data set that OpenAI's CLIP was trained on: the default.
pub const OPENAI_DATASET_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Channel standard deviations of the data set that OpenAI's CLIP was trained on: the default.
pub const OPENAI_DATASET_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Largest side of the prepared image that is accepted, far above any published model's.
const MAX_SIDE: usize = 16_384;

/// Target size: one number for a square, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageSize {
    /// A square of this side.
    Square(usize),
    /// `[height, width]`.
    HeightWidth([usize; 2]),
}

impl ImageSize {
    /// Height in pixels.
    pub fn height(self) -> usize {
        match self {
            Self::Square(side) => side,
            Self::HeightWidth([height, _]) => height,
        }
    }

    /// Width in pixels.
    pub fn width(self) -> usize {
        match self {
            Self::Square(side) => side,
            Self::HeightWidth([_, width]) => width,
        }
    }
}

/// The filter that resizes. Both antialias when they shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Cubic convolution with `a = -0.5`.
    #[default]
    Bicubic,
    /// A triangle.
    Bilinear,
    /// Random choice while training; bicubic at inference.
    Random,
}

/// How the image is brought to the target size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// The shorter side becomes the target's, the rest is cropped at the centre.
    #[default]
    Shortest,
    /// The longer side becomes the target's, the rest is padded with `fill_color`.
    Longest,
    /// Both sides become the target's; the aspect ratio isn't kept.
    Squash,
}

/// Colour mode of the prepared image; the reference has only `RGB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColorMode {
    /// Red, green, blue.
    #[default]
    #[serde(rename = "RGB")]
    Rgb,
}

/// A complete preprocessing configuration.
///
/// ```
/// use openclip_vision::preprocess::PreprocessConfig;
///
/// let config = PreprocessConfig::from_json("preprocess_cfg", r#"{"size": 384, "resize_mode": "squash"}"#)?;
/// assert_eq!(config.size.width(), 384);
/// assert_eq!(config.fill_color, 0);
/// let wrong = PreprocessConfig::from_json("preprocess_cfg", r#"{"std": [0.5, 0.5, 0.0]}"#);
/// assert!(wrong.unwrap_err().to_string().contains("std"));
/// # Ok::<(), openclip_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreprocessConfig {
    /// Target size.
    pub size: ImageSize,
    /// Colour mode.
    pub mode: ColorMode,
    /// Channel means, of values in `[0, 1]`.
    pub mean: Vec<f64>,
    /// Channel standard deviations, of values in `[0, 1]`.
    pub std: Vec<f64>,
    /// Resizing filter.
    pub interpolation: Interpolation,
    /// How the image is brought to the target size.
    pub resize_mode: ResizeMode,
    /// Value of every channel of the padding, in the image's own mode, 0 to 255.
    pub fill_color: i64,
}

impl Default for PreprocessConfig {
    fn default() -> Self {
        Self {
            size: ImageSize::Square(224),
            mode: ColorMode::Rgb,
            mean: OPENAI_DATASET_MEAN.to_vec(),
            std: OPENAI_DATASET_STD.to_vec(),
            interpolation: Interpolation::Bicubic,
            resize_mode: ResizeMode::Shortest,
            fill_color: 0,
        }
    }
}

/// Changes to a configuration (the reference's `force_preprocess_cfg`). The size isn't among them: it is the tower's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PreprocessOverrides {
    /// Channel means, of values in `[0, 1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// Channel standard deviations, of values in `[0, 1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
    /// Resizing filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// How the image is brought to the target size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_mode: Option<ResizeMode>,
    /// Value of every channel of the padding, in the image's own mode, 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill_color: Option<u8>,
}

impl PreprocessOverrides {
    /// Makes the changes in a `preprocess_cfg` object.
    ///
    /// # Errors
    /// [`Error::Config`] for numbers that JSON can't hold.
    pub fn apply(&self, preprocess_cfg: &mut serde_json::Map<String, serde_json::Value>) -> Result<()> {
        let fields =
            serde_json::to_value(self).map_err(|error| Error::config("preprocess_cfg", error.to_string()))?;
        if let serde_json::Value::Object(fields) = fields {
            preprocess_cfg.extend(fields);
        }
        Ok(())
    }
}

/// The keys of a configuration; a merge ignores all others, as the reference's does.
const KEYS: [&str; 7] = ["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"];

impl PreprocessConfig {
    /// Reads a `preprocess_cfg` object and checks it. Missing and `null` fields take the defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming `origin` and the field that is wrong.
    pub fn from_json(origin: &str, json: &str) -> Result<Self> {
        let value = serde_json::from_str(json).map_err(|error| Error::config(origin, error.to_string()))?;
        Self::default().merged(origin, &value)
    }

    /// This configuration with the fields of `overlay` (a JSON object) on top. `null` fields and keys that no
    /// configuration has are ignored, as in the reference's `merge_preprocess_dict`.
    ///
    /// # Errors
    /// [`Error::Config`] naming `origin` and the field that is wrong.
    pub fn merged(&self, origin: &str, overlay: &serde_json::Value) -> Result<Self> {
        let serde_json::Value::Object(overlay) = overlay else {
            return Err(Error::config(origin, "expected a JSON object"));
        };
        let mut base = serde_json::to_value(self)
            .map_err(|error| Error::config(origin, format!("can't be serialised: {error}")))?;
        for (key, value) in overlay.iter().filter(|(key, value)| KEYS.contains(&&***key) && !value.is_null())
        {
            check_field(origin, key, value)?;
            base[key] = expanded(key, value);
        }
        let config: Self =
            serde_json::from_value(base).map_err(|error| Error::config(origin, error.to_string()))?;
        config.validate(origin)?;
        Ok(config)
    }

    /// Checks sizes, channel counts and value ranges.
    ///
    /// # Errors
    /// [`Error::Config`] naming `origin` and the field that is wrong.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let (height, width) = (self.size.height(), self.size.width());
        if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE {
            let message = format!("size: {height}x{width} is not between 1 and {MAX_SIDE} pixels a side");
            return Err(Error::config(origin, message));
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != 3 {
                let message =
                    format!("{field}: expected 3 values (one per channel of RGB), found {}", values.len());
                return Err(Error::config(origin, message));
            }
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::config(
                    origin,
                    format!("{field}: {values:?} has a value that isn't finite"),
                ));
            }
        }
        if self.std.iter().any(|&value| value as f32 <= 0.0) {
            return Err(Error::config(
                origin,
                format!("std: {:?} has a value that isn't positive", self.std),
            ));
        }
        if !(0..=255).contains(&self.fill_color) {
            let message = format!("fill_color: {} is not between 0 and 255", self.fill_color);
            return Err(Error::config(origin, message));
        }
        Ok(())
    }
}

/// The reference takes one number for all channels.
fn expanded(key: &str, value: &serde_json::Value) -> serde_json::Value {
    match (key, value) {
        ("mean" | "std", serde_json::Value::Number(_)) => serde_json::json!([value, value, value]),
        _ => value.clone(),
    }
}

/// Deserialises one field alone, so that the message can name it.
fn check_field(origin: &str, key: &str, value: &serde_json::Value) -> Result<()> {
    let probe = serde_json::json!({ key: expanded(key, value) });
    match serde_json::from_value::<PreprocessConfig>(probe) {
        Ok(_) => Ok(()),
        Err(_) if key == "size" => Err(Error::config(
            origin,
            format!("size: expected a whole number or [height, width], found {value}"),
        )),
        Err(error) => Err(Error::config(origin, format!("{key}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_references() {
        let config = PreprocessConfig::from_json("cfg", "{}").unwrap();
        assert_eq!(config, PreprocessConfig::default());
        let config = PreprocessConfig::from_json(
            "cfg",
            r#"{"size":[224,336],"mode":"RGB","mean":[0.5,0.5,0.5],"std":0.5,"interpolation":"bilinear",
                "resize_mode":"longest","fill_color":127,"other":1}"#,
        )
        .unwrap();
        assert_eq!((config.size.height(), config.size.width()), (224, 336));
        assert_eq!(config.std, [0.5; 3]);
        assert_eq!(config.interpolation, Interpolation::Bilinear);
        assert_eq!(config.resize_mode, ResizeMode::Longest);
    }

    #[test]
    fn merge_keeps_the_base_where_the_overlay_is_silent() {
        let base = PreprocessConfig { fill_color: 9, ..PreprocessConfig::default() };
        let overlay = serde_json::json!({"size": 336, "mean": null});
        let merged = base.merged("overlay", &overlay).unwrap();
        assert_eq!(merged, PreprocessConfig { size: ImageSize::Square(336), ..base });
    }

    #[test]
    fn overrides_change_what_they_name() {
        let mut section =
            serde_json::Map::from_iter([("mean".to_owned(), 0.5.into()), ("size".to_owned(), 288.into())]);
        let overrides = PreprocessOverrides {
            std: Some([0.25; 3]),
            resize_mode: Some(ResizeMode::Longest),
            interpolation: Some(Interpolation::Bilinear),
            fill_color: Some(7),
            ..PreprocessOverrides::default()
        };
        overrides.apply(&mut section).unwrap();
        let config = PreprocessConfig::default().merged("cfg", &section.into()).unwrap();
        let expected = PreprocessConfig {
            size: ImageSize::Square(288),
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            resize_mode: ResizeMode::Longest,
            interpolation: Interpolation::Bilinear,
            fill_color: 7,
            ..PreprocessConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn wrong_values_are_named() {
        let cases = [
            (r#"{"size":0}"#, "size: 0x0"),
            (r#"{"size":100000000}"#, "size: 100000000"),
            (r#"{"size":-1}"#, "size: expected a whole number"),
            (r#"{"size":[1,2,3]}"#, "size: expected a whole number"),
            (r#"{"std":[0.5,0.0,0.5]}"#, "std"),
            (r#"{"std":[1e-60,1,1]}"#, "std"),
            (r#"{"mean":[0.5]}"#, "mean: expected 3 values"),
            (r#"{"mode":"L"}"#, "mode"),
            (r#"{"interpolation":"nearest"}"#, "interpolation"),
            (r#"{"resize_mode":"crop"}"#, "resize_mode"),
            (r#"{"fill_color":300}"#, "fill_color: 300"),
            (r#"{"fill_color":"x"}"#, "fill_color"),
            ("[]", "expected a JSON object"),
            ("{", "EOF"),
        ];
        let failures: Vec<_> = cases
            .iter()
            .filter_map(|(json, part)| {
                let found = PreprocessConfig::from_json("somewhere.json", json)
                    .map_or_else(|error| error.to_string(), |config| format!("accepted: {config:?}"));
                (!found.contains(part) || !found.contains("somewhere.json"))
                    .then(|| format!("{json}: {found}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
