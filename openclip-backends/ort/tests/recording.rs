//! Recorded towers: files that hang together, the graphs that people see, and weights that arrive where they should.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use openclip_core::{
    CheckpointConfig, HostTensor, ModelConfig, Precision, Taps, Weights, weights::synth::SynthesisedWeights,
};
use openclip_ort::{
    OnnxModel, RecordOptions, WeightStorage,
    onnx::{DimensionValue, GraphProto, ModelProto, TensorProto, ValueInfoProto},
    record_image, record_text,
};
use openclip_text::TextTransformerFamily;
use openclip_vision::VisionTransformerFamily;
use prost::Message;

const IMAGE: &str = r#""image_size": [16, 24], "patch_size": 8, "width": 32, "head_width": 16, "layers": 1"#;
const TEXT: &str = r#""context_length": 8, "width": 32, "heads": 2, "layers": 1, "vocab_size": 99"#;

/// The architecture `ViT-B-32`.
const VIT_B_32_IMAGE: &str = r#""image_size": 224, "patch_size": 32, "width": 768, "layers": 12"#;
const VIT_B_32_TEXT: &str =
    r#""context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12"#;

fn config(vision_cfg: &str, text_cfg: &str) -> ModelConfig {
    let json = format!(
        r#"{{"embed_dim": 24, "custom_text": true, "vision_cfg": {{{vision_cfg}}}, "text_cfg": {{{text_cfg}}}}}"#
    );
    CheckpointConfig::from_json("test", &json).unwrap().model_cfg
}

fn weights(scope: &str) -> Weights {
    Weights::new(Arc::new(SynthesisedWeights::new())).scope(scope)
}

fn image(options: &str) -> OnnxModel {
    image_of(&format!("{IMAGE}{options}"), Precision::F32)
}

fn image_of(vision_cfg: &str, precision: Precision) -> OnnxModel {
    let config = config(vision_cfg, TEXT);
    let options = RecordOptions { precision, taps: None };
    record_image(&VisionTransformerFamily, &config, &weights("visual"), &options).unwrap()
}

fn text(options: &str) -> OnnxModel {
    text_of(&format!("{TEXT}{options}"), Precision::F32)
}

fn text_of(text_cfg: &str, precision: Precision) -> OnnxModel {
    let config = config(IMAGE, text_cfg);
    let options = RecordOptions { precision, taps: None };
    record_text(&TextTransformerFamily, &config, &weights("text"), &options).unwrap()
}

fn saved(model: &OnnxModel, folder: &Path, storage: WeightStorage) -> GraphProto {
    let path = folder.join("model.onnx");
    model.save(&path, storage).unwrap();
    ModelProto::decode(fs::read(path).unwrap().as_slice()).unwrap().graph.unwrap()
}

fn dims(value: &ValueInfoProto) -> Vec<String> {
    let shape = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    let dim = |dim: &DimensionValue| match dim {
        DimensionValue::DimValue(size) => size.to_string(),
        DimensionValue::DimParam(name) => name.clone(),
    };
    shape.dim.iter().map(|size| dim(size.value.as_ref().unwrap())).collect()
}

/// What is wrong with a graph: values used before they are there, names given twice, parts that nothing uses.
fn faults(graph: &GraphProto) -> Vec<String> {
    let mut faults = Vec::new();
    let mut defined = HashSet::new();
    let given = graph.input.iter().map(|value| &value.name);
    for name in given.chain(graph.initializer.iter().map(|tensor| &tensor.name)) {
        if !defined.insert(name.as_str()) {
            faults.push(format!("`{name}` is given twice"));
        }
    }
    let mut nodes = HashSet::new();
    for node in &graph.node {
        if node.name.is_empty() || !nodes.insert(&node.name) {
            faults.push(format!("two nodes are called `{}`", node.name));
        }
        for name in node.input.iter().filter(|name| !defined.contains(name.as_str())) {
            faults.push(format!("{} uses `{name}` before it is there", node.name));
        }
        for name in &node.output {
            if !defined.insert(name) {
                faults.push(format!("`{name}` is computed twice"));
            }
        }
    }
    let used: HashSet<&str> = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .chain(graph.output.iter().map(|value| &value.name))
        .map(String::as_str)
        .collect();
    faults.extend(defined.difference(&used).map(|name| format!("nothing uses `{name}`")));
    for tensor in &graph.initializer {
        let expected = tensor.dims.iter().product::<i64>() as usize * tensor.data_type().size() as usize;
        if tensor.raw_data.as_ref().map(Vec::len) != Some(expected) {
            faults.push(format!("`{}` has other than {expected} bytes", tensor.name));
        }
    }
    faults
}

#[test]
fn graphs_hang_together_and_leave_batch_and_length_open() {
    let attentional =
        r#", "attentional_pool": true, "attn_pooler_queries": 5, "attn_pooler_heads": 2, "pool_type": "avg""#;
    let pair = r#""image_size": 16, "patch_size": 8, "width": 24, "head_width": 12, "layers": 1, "pool_type": "none",
        "attentional_pool": "parallel", "attn_pooler_queries": 5, "attn_pooler_heads": 2"#;
    let custom = r#", "qk_norm": true, "scale_heads": true, "scale_attn_inner": true, "scale_attn": true,
        "scale_fc": true, "ls_init_value": 0.1"#;
    let cases = [
        (image(""), vec!["batch", "24"]),
        (
            image(r#", "pool_type": "avg", "final_ln_after_pool": true, "no_ln_pre": true"#),
            vec!["batch", "24"],
        ),
        (image(r#", "pool_type": "none""#), vec!["batch", "7", "24"]),
        (image(r#", "norm_kwargs": {"elementwise_affine": false}"#), vec!["batch", "24"]),
        (image(attentional), vec!["batch", "24"]),
        (image_of(pair, Precision::F32), vec!["batch", "1", "24"]),
        (image_of(IMAGE, Precision::F16), vec!["batch", "24"]),
        (image_of(IMAGE, Precision::Int8), vec!["batch", "24"]),
        (text_of(TEXT, Precision::F16), vec!["batch", "24"]),
        (text_of(TEXT, Precision::Int8), vec!["batch", "24"]),
        (image(custom), vec!["batch", "24"]),
        (text(""), vec!["batch", "24"]),
        (text(r#", "pool_type": "last", "no_causal_mask": true"#), vec!["batch", "24"]),
        (text(r#", "pool_type": "first", "proj_bias": true"#), vec!["batch", "24"]),
        (text(r#", "pool_type": "eos", "eos_id": 3, "proj_type": "none""#), vec!["batch", "32"]),
        (text(r#", "pool_type": "none""#), vec!["batch", "sequence", "24"]),
        (text(r#", "embed_cls": true, "pad_id": 1"#), vec!["batch", "24"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (case, (model, output)) in cases.iter().enumerate() {
        let graph = saved(model, folder.path(), WeightStorage::Automatic);
        failures.extend(faults(&graph).into_iter().map(|fault| format!("case {case}: {fault}")));
        let found = dims(graph.output.first().unwrap());
        if found != *output {
            failures.push(format!("case {case}: output {found:?}, expected {output:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The listings that are committed. `UPDATE_SNAPSHOTS=1` writes them anew.
#[test]
fn graphs_are_those_of_the_snapshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let class_token =
        format!(r#"{TEXT}, "embed_cls": true, "pad_id": 1, "act_kwargs": {{"approximate": "tanh"}}"#);
    for (name, model) in [
        ("vit-b-32-image.txt", image_of(VIT_B_32_IMAGE, Precision::F32)),
        ("vit-b-32-text.txt", text_of(VIT_B_32_TEXT, Precision::F32)),
        ("text-class-token.txt", text_of(&class_token, Precision::F32)),
        ("image-f16.txt", image_of(IMAGE, Precision::F16)),
        ("text-int8.txt", text_of(TEXT, Precision::Int8)),
    ] {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, model.to_string()).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(expected == model.to_string(), "{name} is out of date; the graph is now\n{model}");
    }
}

#[test]
fn weights_beside_the_model_are_those_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = image("");
    let inline = saved(&model, folder.path(), WeightStorage::Automatic);
    assert!(!folder.path().join("model.onnx.data").exists());
    let external = saved(&model, folder.path(), WeightStorage::External);
    let data = fs::read(folder.path().join("model.onnx.data")).unwrap();
    let field = |tensor: &TensorProto, key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone())
    };
    let mut moved = 0;
    for (inside, outside) in inline.initializer.iter().zip(&external.initializer) {
        let values = match field(outside, "location") {
            None => outside.raw_data.clone().unwrap(),
            Some(location) => {
                moved += 1;
                assert_eq!((location.as_str(), &outside.raw_data), ("model.onnx.data", &None));
                let number = |key: &str| field(outside, key).unwrap().parse::<usize>().unwrap();
                assert_eq!(number("offset") % 4096, 0, "{}", outside.name);
                data[number("offset")..][..number("length")].to_vec()
            }
        };
        assert_eq!(inside.raw_data, Some(values), "{}", inside.name);
    }
    assert!(moved > 5, "{moved} of {}", external.initializer.len());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    saved(&model, folder.path(), WeightStorage::Automatic);
    assert!(!folder.path().join("model.onnx.data").exists());
}

#[test]
fn layers_have_the_values_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let graph = saved(&image(""), folder.path(), WeightStorage::Automatic);
    let found = |name: &str| -> Vec<f32> {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let bytes = tensor.raw_data.as_ref().unwrap();
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    let stored = |name: &str, dims: &[usize]| weights("visual").read(name, dims).unwrap().to_f32();
    assert_eq!(found("visual.proj"), stored("proj", &[32, 24]));
    let name = "transformer.resblocks.0.mlp.c_fc.weight";
    let (transposed, plain) = (found(&format!("visual.{name}.transposed")), stored(name, &[128, 32]));
    for (index, value) in plain.iter().enumerate() {
        assert_eq!(transposed[index % 32 * 128 + index / 32], *value, "{index}");
    }
}

#[test]
fn packed_projections_are_parted() {
    let folder = tempfile::tempdir().unwrap();
    let options = r#", "attentional_pool": true, "attn_pooler_queries": 5, "attn_pooler_heads": 2"#;
    let graph = saved(&image(options), folder.path(), WeightStorage::Automatic);
    let stored = weights("visual").read("attn_pool.attn.in_proj_bias", &[72]).unwrap().to_f32();
    for (start, end) in [(0, 24), (24, 48), (48, 72)] {
        let name = format!("visual.attn_pool.attn.in_proj_bias[{start}..{end}]");
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
        let expected: Vec<u8> = stored[start..end].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(tensor.raw_data.as_ref().unwrap(), &expected, "{name}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = image("").save("no/such/folder/image.onnx", WeightStorage::External).unwrap_err().to_string();
    assert!(error.contains("image.onnx"), "{error}");
}

#[test]
fn activations_are_outputs_beside_the_embedding() {
    let names = ["visual.ln_pre", "visual.transformer.resblocks.0"];
    let taps = Taps::<HostTensor>::named(names);
    let options = RecordOptions { precision: Precision::F16, taps: Some(&taps) };
    let config = config(IMAGE, TEXT);
    let model = record_image(&VisionTransformerFamily, &config, &weights("visual"), &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let graph = saved(&model, folder.path(), WeightStorage::Automatic);
    assert_eq!(faults(&graph), Vec::<String>::new());
    let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["image_embeds", names[0], names[1]]);
}

#[test]
fn a_precision_that_can_not_be_is_refused() {
    let options = RecordOptions { precision: Precision::Bf16, taps: None };
    let result = record_text(&TextTransformerFamily, &config(IMAGE, TEXT), &weights("text"), &options);
    let error = result.err().unwrap().to_string();
    assert!(error.contains("bf16") && error.contains("use f32, f16 or int8"), "{error}");
}
