//! `preprocessor_config.json` as the reference's `preprocess_cfg`.

use openclip_core::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Kind, fields::Fields};

/// A size in one of the forms that transformers takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(usize),
    Sides(Sides),
    Shortest(ShortestEdge),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sides {
    height: usize,
    width: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortestEdge {
    shortest_edge: usize,
}

/// A value per channel, or one for all.
#[derive(Deserialize)]
#[serde(untagged)]
enum PerChannel {
    All(f64),
    Each([f64; 3]),
}

impl PerChannel {
    fn each(self) -> [f64; 3] {
        match self {
            Self::All(value) => [value; 3],
            Self::Each(values) => values,
        }
    }
}

/// Fields that have no influence on what an image becomes: about the file, and about how a call returns its results. A
/// picture is always converted to RGB here.
const INERT: [&str; 11] = [
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "input_data_format",
    "processor_class",
    "return_tensors",
    "transformers_version",
];

/// The `preprocess_cfg` for a tower that takes images of `image_size` pixels a side.
///
/// # Errors
/// [`Error::Config`] naming the field that is wrong or not known, or that the reference's preprocessing can't express.
pub(super) fn convert(
    origin: &str,
    kind: Kind,
    config: Map<String, Value>,
    image_size: usize,
) -> Result<Map<String, Value>> {
    let mut fields = Fields::new(origin, "", config);
    let kind = processor_kind(&mut fields, kind)?;
    let resize_mode = resize_mode(&mut fields, kind, image_size)?;
    let interpolation = match fields.take_or("resample", 3)? {
        0 => "nearest",
        2 => "bilinear",
        3 => "bicubic",
        other => {
            let message = format!("it is {other}; there are 0 (nearest), 2 (bilinear) and 3 (bicubic)");
            return Err(fields.wrong("resample", message));
        }
    };
    let factor: f64 = fields.take_or("rescale_factor", 1.0 / 255.0)?;
    if !fields.take_or("do_rescale", true)? || (factor * 255.0 - 1.0).abs() > 1e-6 {
        let message = format!("it is {factor}, or off; values are scaled by 1/255 here");
        return Err(fields.wrong("rescale_factor", message));
    }
    let (mean, std) = match kind {
        Kind::Clip => ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        Kind::Siglip => ([0.5; 3], [0.5; 3]),
    };
    let mean = fields.take("image_mean")?.map_or(mean, PerChannel::each);
    let std = fields.take("image_std")?.map_or(std, PerChannel::each);
    let (mean, std) = if fields.take_or("do_normalize", true)? { (mean, std) } else { ([0.0; 3], [1.0; 3]) };
    if fields.take_or("do_pad", false)? {
        return Err(fields.wrong("do_pad", "pictures aren't padded here"));
    }
    fields.ignore(&["pad_size"]);
    fields.ignore(&INERT);
    fields.finish()?;
    let preprocess = [
        ("mean", json!(mean)),
        ("std", json!(std)),
        ("interpolation", json!(interpolation)),
        ("resize_mode", json!(resize_mode)),
    ];
    Ok(preprocess.into_iter().map(|(field, value)| (field.to_owned(), value)).collect())
}

/// Whose defaults the file has. Models of one kind may have the processor of the other.
fn processor_kind(fields: &mut Fields, model: Kind) -> Result<Kind> {
    let old: Option<String> = fields.take("feature_extractor_type")?;
    let name: Option<String> = fields.take("image_processor_type")?;
    let Some(name) = name.or(old) else { return Ok(model) };
    match name.as_str() {
        "CLIPImageProcessor" | "CLIPImageProcessorFast" | "CLIPFeatureExtractor" => Ok(Kind::Clip),
        "SiglipImageProcessor" | "SiglipImageProcessorFast" => Ok(Kind::Siglip),
        other => Err(fields.wrong(
            "image_processor_type",
            format!("it is `{other}`; there are `CLIPImageProcessor` and `SiglipImageProcessor`"),
        )),
    }
}

/// `shortest` with a crop of the middle, or `squash`.
fn resize_mode(fields: &mut Fields, kind: Kind, image_size: usize) -> Result<&'static str> {
    if !fields.take_or("do_resize", true)? {
        return Err(fields.wrong("do_resize", "pictures are always resized here"));
    }
    let (size, crops) = match kind {
        Kind::Clip => (Size::Shortest(ShortestEdge { shortest_edge: 224 }), true),
        Kind::Siglip => (Size::Sides(Sides { height: 224, width: 224 }), false),
    };
    let size: Size = fields.take_or("size", size)?;
    let crops = fields.take_or("do_center_crop", crops)?;
    let crop: Size = fields.take_or("crop_size", Size::Number(224))?;
    let crop = match crop {
        Size::Number(side) => [side; 2],
        Size::Sides(Sides { height, width }) => [height, width],
        Size::Shortest(_) => {
            return Err(fields.wrong("crop_size", "it is neither a number nor height and width"));
        }
    };
    let wanted = [image_size; 2];
    if crops && crop != wanted {
        let message = format!("it is {crop:?}, and the image tower takes {wanted:?}");
        return Err(fields.wrong("crop_size", message));
    }
    let (mode, found) = match (size, kind) {
        (Size::Shortest(ShortestEdge { shortest_edge }), _) | (Size::Number(shortest_edge), Kind::Clip) => {
            if !crops {
                return Err(fields.wrong(
                    "do_center_crop",
                    "without it pictures keep their proportions, and the image tower takes squares",
                ));
            }
            ("shortest", [shortest_edge; 2])
        }
        (Size::Sides(Sides { height, width }), _) => ("squash", [height, width]),
        (Size::Number(side), Kind::Siglip) => ("squash", [side; 2]),
    };
    if found != wanted {
        let message = format!(
            "pictures would be resized to {found:?} and then cropped, and the image tower takes {wanted:?}"
        );
        return Err(fields.wrong("size", message));
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_json(kind: Kind, json: &str) -> std::result::Result<Value, String> {
        let fields = serde_json::from_str(json).unwrap();
        super::convert("p.json", kind, fields, 224).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_has_the_defaults_of_its_model() {
        let clip = convert_json(Kind::Clip, "{}").unwrap();
        let expected = json!({
            "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic", "resize_mode": "shortest",
        });
        assert_eq!(clip, expected);
        let siglip = convert_json(Kind::Siglip, "{}").unwrap();
        let expected = json!({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"});
        assert_eq!(siglip, expected);
    }

    #[test]
    fn sizes_have_many_forms() {
        for (kind, json, mode) in [
            (
                Kind::Clip,
                r#"{"size": 224, "crop_size": 224, "feature_extractor_type": "CLIPFeatureExtractor"}"#,
                "shortest",
            ),
            (
                Kind::Clip,
                r#"{"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}"#,
                "shortest",
            ),
            (
                Kind::Clip,
                r#"{"size": {"height": 224, "width": 224}, "do_center_crop": false, "crop_size": null}"#,
                "squash",
            ),
            (Kind::Clip, r#"{"size": {"height": 224, "width": 224}}"#, "squash"),
            (Kind::Siglip, r#"{"size": 224}"#, "squash"),
            // A SigLIP with the processor of CLIP.
            (Kind::Siglip, r#"{"image_processor_type": "CLIPImageProcessorFast"}"#, "shortest"),
        ] {
            assert_eq!(convert_json(kind, json).unwrap()["resize_mode"], mode, "{json}");
        }
    }

    #[test]
    fn values_are_taken_over() {
        let found =
            convert_json(Kind::Clip, r#"{"resample": 2, "image_mean": 0.25, "image_std": [1, 2, 3]}"#)
                .unwrap();
        assert_eq!(found["interpolation"], "bilinear");
        assert_eq!((&found["mean"], &found["std"]), (&json!([0.25, 0.25, 0.25]), &json!([1.0, 2.0, 3.0])));
        let plain = convert_json(Kind::Clip, r#"{"resample": 0, "do_normalize": false}"#).unwrap();
        assert_eq!(plain["interpolation"], "nearest");
        assert_eq!((&plain["mean"], &plain["std"]), (&json!([0.0, 0.0, 0.0]), &json!([1.0, 1.0, 1.0])));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (json, expected) in [
            (r#"{"size": {"shortest_edge": 256}}"#, "`size`: pictures would be resized to [256, 256]"),
            (r#"{"size": {"longest_edge": 224}}"#, "`size`: "),
            (r#"{"crop_size": 196}"#, "`crop_size`: it is [196, 196], and the image tower takes [224, 224]"),
            (r#"{"do_center_crop": false}"#, "`do_center_crop`: "),
            (r#"{"do_resize": false}"#, "`do_resize`: "),
            (r#"{"do_rescale": false}"#, "`rescale_factor`: "),
            (r#"{"rescale_factor": 0.0078}"#, "`rescale_factor`: it is 0.0078"),
            (r#"{"resample": 1}"#, "`resample`: it is 1"),
            (r#"{"image_mean": [1, 2]}"#, "`image_mean`: "),
            (r#"{"do_pad": true}"#, "`do_pad`: "),
            (
                r#"{"image_processor_type": "ViTImageProcessor"}"#,
                "`image_processor_type`: it is `ViTImageProcessor`",
            ),
            (r#"{"do_splitting": true}"#, "`do_splitting` is true"),
        ] {
            let message = convert_json(Kind::Clip, json).unwrap_err();
            assert!(message.contains("p.json") && message.contains(expected), "{json}: {message}");
        }
    }
}
