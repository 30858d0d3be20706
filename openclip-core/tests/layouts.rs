//! Checkpoints in the key layouts of other programs (`conformance/layouts`, made by `xtask/reference/layouts.py`): under
//! canonical names they have the tensors that the reference's conversion makes of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use openclip_core::{
    Weights,
    weights::{
        CanonicalLayout, ChannelAxis, CountingSource, WeightSource, open_checkpoint, quantize,
        quantized_metadata, save_safetensors, scale_name,
    },
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Tensor {
    dims: Vec<usize>,
    /// 64-bit FNV-1a of the values in f32.
    digest: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/layouts")
}

fn expected() -> BTreeMap<String, BTreeMap<String, Tensor>> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap()
}

fn open(file: &str) -> Arc<dyn WeightSource> {
    open_checkpoint(folder().join(file)).unwrap()
}

fn digest(values: &[f32]) -> String {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn tensors_are_those_of_the_references_conversion() {
    let mut wrong = Vec::new();
    for (file, tensors) in expected() {
        let layout = CanonicalLayout::new(open(&file));
        let mut names = layout.names();
        names.sort();
        let unknown: Vec<_> = names.iter().filter(|name| !tensors.contains_key(*name)).collect();
        if !unknown.is_empty() {
            wrong.push(format!("{file}: also has {unknown:?}"));
        }
        for (name, tensor) in &tensors {
            match layout.read(name, &tensor.dims) {
                Err(error) => wrong.push(error.to_string()),
                Ok(data) if data.info.dims != tensor.dims => {
                    wrong.push(format!("{file}: {name} is {:?}, not {:?}", data.info.dims, tensor.dims));
                }
                Ok(data) if digest(&data.to_f32()) != tensor.digest => {
                    wrong.push(format!("{file}: {name} has other values"));
                }
                Ok(data) if layout.info(name) != Some(data.info.clone()) => {
                    wrong.push(format!("{file}: {name} is said to be {:?}", layout.info(name)));
                }
                Ok(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_tower_reads_only_its_own_tensors() {
    for (file, image) in [
        ("hf_clip/model.safetensors", &["vision_model", "visual_projection"][..]),
        ("hf_siglip/model.safetensors", &["vision_model"]),
        ("big_vision.npz", &["params/img"]),
        ("mobileclip_s.pt", &["image_encoder"]),
    ] {
        let counted = Arc::new(CountingSource::new(open(file)));
        let layout = CanonicalLayout::new(Arc::clone(&counted) as Arc<dyn WeightSource>);
        let text: Vec<String> = layout.names().into_iter().filter(|name| name.starts_with("text.")).collect();
        for name in &text {
            layout.read(name, &[]).unwrap();
        }
        let read = counted.bytes_by_tensor();
        assert!(!read.is_empty(), "{file}");
        let others: Vec<_> =
            read.keys().filter(|name| image.iter().any(|scope| name.starts_with(scope))).collect();
        assert!(others.is_empty(), "{file}: {others:?}");
    }
}

#[test]
fn errors_and_reports_name_the_tensors_of_the_file() {
    let cases = [
        (
            "hf_clip/model.safetensors",
            "visual.transformer.resblocks.2.attn.in_proj_weight",
            "vision_model.encoder.layers.2.self_attn.{q,k,v}_proj.weight",
        ),
        ("hf_clip/pytorch_model.bin", "visual.ln_pre.weigth", "vision_model.pre_layrnorm.weigth"),
        (
            "hf_siglip/model.safetensors",
            "visual.trunk.blocks.7.mlp.fc1.bias",
            "vision_model.encoder.layers.7.mlp.fc1.bias",
        ),
        (
            "big_vision.npz",
            "text.transformer.resblocks.9.attn.in_proj_bias",
            "params/txt/Encoder_0/encoderblock/MultiHeadDotProductAttention_0/{query,key,value}/bias[9]",
        ),
        (
            "big_vision_layers.npz",
            "visual.trunk.blocks.9.norm1.weight",
            "img/Transformer/encoderblock_9/LayerNorm_0/scale",
        ),
        (
            "mobileclip_s.pt",
            "visual.trunk.stages.1.blocks.9.token_mixer.layer_scale.gamma",
            "image_encoder.model.network.2.9.token_mixer.layer_scale",
        ),
        (
            "mobileclip_b.pt",
            "visual.trunk.patch_embed.backbone.9.bn.weight",
            "image_encoder.model.patch_emb.9.block.norm.weight",
        ),
        ("mobileclip_b.pt", "visual.nothing", "visual.nothing"),
    ];
    for (file, name, shown) in cases {
        let weights = Weights::new(Arc::new(CanonicalLayout::new(open(file))));
        let missing = weights.require(name, &[3]).unwrap_err().to_string();
        assert!(missing.contains(&format!("tensor `{shown}` [3] is missing")), "{missing}");
    }
    let weights = Weights::survey(Arc::new(CanonicalLayout::new(open("hf_clip/model.safetensors"))));
    weights.require("visual.transformer.resblocks.0.attn.in_proj_bias", &[3]).unwrap();
    weights.require("visual.proj", &[24, 12]).unwrap();
    let report = weights.report(&["visual.proj", "visual.transformer.resblocks.0.attn.in_proj_bias"]);
    assert_eq!(report.applied, ["visual_projection.weight"]);
    let [mismatched] = &report.mismatched[..] else { panic!("{report}") };
    assert_eq!(mismatched.name, "vision_model.encoder.layers.0.self_attn.{q,k,v}_proj.bias");
    assert_eq!(mismatched.found, [72]);
}

#[test]
fn tensors_stored_in_integers_are_made_into_others_too() {
    let source = open("hf_clip/model.safetensors");
    let mut tensors = Vec::new();
    for name in source.names() {
        let data = source.read(&name, &[]).unwrap();
        if data.info.dims.len() == 2 {
            let [integers, scales] = quantize("x", &name, &data, ChannelAxis::Rows).unwrap();
            tensors.push((name.clone(), integers));
            tensors.push((scale_name(&name), scales));
        } else {
            tensors.push((name, data));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("integers.safetensors");
    save_safetensors(&path, tensors, Some(quantized_metadata())).unwrap();
    let (floats, integers) =
        (CanonicalLayout::new(source), CanonicalLayout::new(open_checkpoint(&path).unwrap()));
    assert_eq!(integers.names().len(), floats.names().len());
    for name in ["visual.proj", "visual.transformer.resblocks.1.attn.in_proj_weight", "text.ln_final.bias"] {
        let [expected, found] = [&floats, &integers].map(|layout| layout.read(name, &[]).unwrap());
        assert_eq!(found.info.dims, expected.info.dims, "{name}");
        let (expected, found) = (expected.to_f32(), found.to_f32());
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= largest / 200.0), "{name}");
    }
}

#[test]
fn what_tells_files_apart_is_passed_on() {
    for file in ["hf_clip/model.safetensors", "big_vision.npz", "mobileclip_s.pt"] {
        let source = open(file);
        let layout = CanonicalLayout::new(Arc::clone(&source));
        assert!(source.fingerprint().is_some());
        assert_eq!(layout.fingerprint(), source.fingerprint());
        let before: Vec<_> =
            layout.names().iter().map(|name| layout.read(name, &[]).unwrap().to_f32()).collect();
        layout.names().iter().for_each(|name| layout.release(name));
        let after: Vec<_> =
            layout.names().iter().map(|name| layout.read(name, &[]).unwrap().to_f32()).collect();
        assert_eq!(before, after, "memory that is given back is read again");
    }
}
