//! Towers and ONNX files on ONNX Runtime, which has to be there: `cargo xtask native` fetches it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{fs, path::PathBuf, sync::Arc};

use openclip_core::{
    CheckpointConfig, HostTensor, ImageEncoder, ImageFamily, ImageInfo, ModelConfig, Precision, Taps,
    TextEncoder, TextFamily, TextInfo, TokenBatch, Weights,
    weights::synth::{self, SynthesisedWeights},
};
use openclip_ort::{
    OnnxModel, RecordOptions, WeightStorage,
    onnx::{DimensionProto, DimensionValue, ElementType, ModelProto, NodeProto, ValueInfoProto},
    record_image, record_text,
    runtime::{OrtImageEncoder, OrtOptions, OrtTextEncoder},
};
use openclip_text::TextTransformerFamily;
use openclip_vision::VisionTransformerFamily;
use prost::Message;
use tempfile::TempDir;

fn config() -> ModelConfig {
    let json = r#"{"embed_dim": 24, "custom_text": true,
        "vision_cfg": {"image_size": [16, 24], "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
        "text_cfg": {"context_length": 8, "width": 32, "heads": 2, "layers": 2, "vocab_size": 99}}"#;
    CheckpointConfig::from_json("test", json).unwrap().model_cfg
}

fn weights(scope: &str) -> Weights {
    Weights::new(Arc::new(SynthesisedWeights::new())).scope(scope)
}

fn record_images(options: &RecordOptions) -> openclip_core::Result<OnnxModel> {
    record_image(&VisionTransformerFamily, &config(), &weights("visual"), options)
}

fn record_texts(options: &RecordOptions) -> openclip_core::Result<OnnxModel> {
    record_text(&TextTransformerFamily, &config(), &weights("text"), options)
}

fn image_info() -> ImageInfo {
    ImageFamily::info(&VisionTransformerFamily, &config()).unwrap()
}

fn text_info() -> TextInfo {
    TextFamily::info(&TextTransformerFamily, &config()).unwrap()
}

fn images(precision: Precision) -> OrtImageEncoder {
    OrtImageEncoder::recorded(record_images, image_info(), precision, &OrtOptions::default()).unwrap()
}

fn texts() -> OrtTextEncoder {
    OrtTextEncoder::recorded(record_texts, text_info(), Precision::F32, &OrtOptions::default()).unwrap()
}

fn pixels(count: usize) -> HostTensor {
    synth::image(count, 16, 24)
}

fn tokens() -> TokenBatch {
    TokenBatch::new(3, 5, vec![97, 5, 6, 98, 0, 97, 7, 98, 0, 0, 97, 1, 2, 3, 98]).unwrap()
}

/// A file whose message `change` has changed.
struct Foreign {
    folder: TempDir,
    path: PathBuf,
}

fn foreign(model: &OnnxModel, change: impl FnOnce(&mut ModelProto)) -> Foreign {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    model.save(&path, WeightStorage::Automatic).unwrap();
    let mut message = ModelProto::decode(fs::read(&path).unwrap().as_slice()).unwrap();
    change(&mut message);
    fs::write(&path, message.encode_to_vec()).unwrap();
    Foreign { folder, path }
}

fn rename(message: &mut ModelProto, old: &str, new: &str) {
    let graph = message.graph.as_mut().unwrap();
    let values = graph.input.iter_mut().chain(&mut graph.output).map(|value| &mut value.name);
    let edges = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    values.chain(edges).filter(|name| *name == old).for_each(|name| *name = new.to_owned());
}

fn set_dim(value: &mut ValueInfoProto, axis: usize, size: i64) {
    let tensor = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    tensor.shape.as_mut().unwrap().dim[axis] = DimensionProto { value: Some(DimensionValue::DimValue(size)) };
}

fn assert_near(found: &HostTensor, expected: &HostTensor) {
    assert_eq!(found.dims(), expected.dims());
    for (found, expected) in found.data().iter().zip(expected.data()) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn embeddings_do_not_depend_on_the_batch() {
    for precision in [Precision::F32, Precision::F16, Precision::Int8] {
        let encoder = images(precision);
        let all = encoder.encode(&pixels(5)).unwrap();
        let one = HostTensor::new([1, 3, 16, 24], pixels(5).data()[..3 * 16 * 24].to_vec()).unwrap();
        assert_eq!(encoder.encode(&one).unwrap().data(), &all.data()[..24], "{precision}");
        assert_eq!(encoder.encode(&pixels(0)).unwrap().dims(), [0, 24]);
    }
}

#[test]
fn padding_behind_the_end_of_a_text_changes_nothing() {
    let long: Vec<u32> = tokens().ids().chunks(5).flat_map(|row| [row, &[0, 0, 0]].concat()).collect();
    let long = TokenBatch::new(3, 8, long).unwrap();
    assert_near(&texts().encode(&long).unwrap(), &texts().encode(&tokens()).unwrap());
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let encoder = images(Precision::F32);
    let error = encoder.encode(&synth::image(1, 16, 16)).unwrap_err().to_string();
    assert!(error.contains("[N, 3, 16, 24]"), "{error}");
    for batch in [TokenBatch::new(1, 9, vec![1; 9]), TokenBatch::new(1, 2, vec![1, 99])] {
        assert!(texts().encode(&batch.unwrap()).is_err());
    }
}

#[test]
fn activations_come_from_a_graph_of_their_own() {
    let names = ["visual.transformer.resblocks.0", "visual.transformer.resblocks.1"];
    let encoder = images(Precision::F32);
    let (embeddings, found) = encoder.encode_with_taps(&pixels(2), Taps::named(names)).unwrap();
    assert_near(&embeddings, &encoder.encode(&pixels(2)).unwrap());
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(found[0].1.dims(), [2, 7, 32]);
}

#[test]
fn files_with_other_names_and_fixed_sizes_run() {
    let model = record_images(&RecordOptions::default()).unwrap();
    let file = foreign(&model, |message| {
        rename(message, "pixel_values", "input");
        rename(message, "image_embeds", "output");
        set_dim(&mut message.graph.as_mut().unwrap().input[0], 0, 2);
    });
    // What the file fixes goes before what the caller believes.
    let believed = ImageInfo { image_size: [99, 99], embed_dim: 7 };
    let encoder = OrtImageEncoder::from_file(&file.path, believed, &OrtOptions::default()).unwrap();
    assert_eq!(*encoder.info(), image_info());
    // Five images in batches of two, the last one filled up.
    assert_near(&encoder.encode(&pixels(5)).unwrap(), &images(Precision::F32).encode(&pixels(5)).unwrap());
    let error = encoder.encode_with_taps(&pixels(1), Taps::everything()).unwrap_err().to_string();
    assert!(error.contains("embeddings only"), "{error}");
}

#[test]
fn files_with_32_bit_ids_a_mask_and_a_fixed_length_run() {
    let model = record_texts(&RecordOptions::default()).unwrap();
    let file = foreign(&model, |message| {
        let graph = message.graph.as_mut().unwrap();
        set_dim(&mut graph.input[0], 1, 8);
        let mut ids = graph.input[0].clone();
        ids.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = ElementType::Int32 as i32;
        "ids".clone_into(&mut ids.name);
        let mut mask = ids.clone();
        "attention_mask".clone_into(&mut mask.name);
        // Hidden tokens have id 0 in any case, so multiplying by the mask changes nothing and uses it.
        let node = |op: &str, input: &[&str], output: &str| NodeProto {
            input: input.iter().map(ToString::to_string).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute: Vec::new(),
        };
        let mut cast = node("Cast", &["shown"], "input_ids");
        cast.attribute.push(openclip_ort::onnx::AttributeProto {
            name: "to".to_owned(),
            i: Some(ElementType::Int64 as i64),
            r#type: openclip_ort::onnx::AttributeType::Int as i32,
            ..Default::default()
        });
        graph.node.splice(0..0, [node("Mul", &["ids", "attention_mask"], "shown"), cast]);
        graph.input = vec![mask, ids];
    });
    let encoder = OrtTextEncoder::from_file(&file.path, text_info(), 0, &OrtOptions::default()).unwrap();
    assert_near(&encoder.encode(&tokens()).unwrap(), &texts().encode(&tokens()).unwrap());
    let short = TextInfo { context_length: 9, ..text_info() };
    let error = OrtTextEncoder::from_file(&file.path, short, 0, &OrtOptions::default()).err().unwrap();
    assert!(error.to_string().contains("the graph takes 8 tokens"), "{error}");
}

#[test]
fn files_that_are_something_else_are_named() {
    let text = foreign(&record_texts(&RecordOptions::default()).unwrap(), |_| {});
    let load = |path: &std::path::Path| {
        OrtImageEncoder::from_file(path, image_info(), &OrtOptions::default()).err().unwrap().to_string()
    };
    let error = load(&text.path);
    assert!(error.contains("model.onnx") && error.contains("float32 [N, 3, H, W]"), "{error}");
    assert!(error.contains("input_ids"), "{error}");
    let damaged = text.folder.path().join("damaged.onnx");
    for bytes in [&b"not a graph"[..], b"", &fs::read(&text.path).unwrap()[..2000]] {
        fs::write(&damaged, bytes).unwrap();
        let error = load(&damaged);
        assert!(error.contains("damaged.onnx"), "{error}");
    }
    assert!(load(&text.folder.path().join("missing.onnx")).contains("missing.onnx"));
}

#[test]
fn claims_that_can_not_be_are_not_believed() {
    let model = record_images(&RecordOptions::default()).unwrap();
    for (axis, size, part) in
        [(0, 1 << 40, "`batch`"), (0, 1 << 20, "too large"), (1, 1, "1 channels"), (2, 1 << 30, "`height`")]
    {
        let file =
            foreign(&model, |message| set_dim(&mut message.graph.as_mut().unwrap().input[0], axis, size));
        let error = OrtImageEncoder::from_file(&file.path, image_info(), &OrtOptions::default());
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        // ONNX Runtime finds some of it by itself.
        assert!(error.contains(part) || error.contains("visual.conv1"), "axis {axis}: {error}");
    }
    let model = record_texts(&RecordOptions::default()).unwrap();
    let file = foreign(&model, |_| {});
    let endless = TextInfo { context_length: usize::MAX, ..text_info() };
    assert!(OrtTextEncoder::from_file(&file.path, endless, 0, &OrtOptions::default()).is_err());
}

#[test]
fn weights_beside_the_file_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.onnx");
    record_images(&RecordOptions::default()).unwrap().save(&path, WeightStorage::External).unwrap();
    let encoder = OrtImageEncoder::from_file(&path, image_info(), &OrtOptions::default()).unwrap();
    assert_near(&encoder.encode(&pixels(2)).unwrap(), &images(Precision::F32).encode(&pixels(2)).unwrap());
    assert_eq!(encoder.metadata("precision").unwrap().as_deref(), Some("f32"));
    fs::remove_file(path.with_extension("onnx.data")).unwrap();
    let error = OrtImageEncoder::from_file(&path, image_info(), &OrtOptions::default()).err().unwrap();
    assert!(error.to_string().contains("image.onnx"), "{error}");
}
