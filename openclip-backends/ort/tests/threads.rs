//! Threads that ONNX Runtime makes, counted in a process where nothing else makes any.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, sync::Arc};

use openclip_core::{CheckpointConfig, ImageFamily, Precision, Weights, weights::synth::SynthesisedWeights};
use openclip_ort::{
    RecordOptions, record_image,
    runtime::{OrtImageEncoder, OrtOptions},
};
use openclip_vision::VisionTransformerFamily;

#[test]
fn there_are_as_many_as_were_asked_for() {
    let json = r#"{"embed_dim": 8, "custom_text": true, "text_cfg": {},
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}}"#;
    let config = CheckpointConfig::from_json("test", json).unwrap().model_cfg;
    let info = ImageFamily::info(&VisionTransformerFamily, &config).unwrap();
    let weights = Weights::new(Arc::new(SynthesisedWeights::new())).scope("visual");
    let build = |threads: usize| {
        let (config, weights) = (config.clone(), weights.clone());
        let record =
            move |options: &RecordOptions| record_image(&VisionTransformerFamily, &config, &weights, options);
        let options = OrtOptions { threads: Some(threads), ..OrtOptions::default() };
        OrtImageEncoder::recorded(record, info.clone(), Precision::F32, &options).unwrap()
    };
    let count = || fs::read_dir("/proc/self/task").unwrap().count();
    let none = count();
    // The caller is one of a model's threads. The first model makes the pool that models of its number share.
    let _first = build(4);
    let shared = count();
    assert!(shared >= none + 3, "{none} threads became {shared}");
    let _same = build(4);
    assert_eq!(count(), shared);
    let _other = build(6);
    assert_eq!(count(), shared + 5);
}
