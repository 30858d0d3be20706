//! What an architecture from outside gets: the command, ONNX files, conformance.

use std::{path::Path, process::Command, sync::Arc};

use openclip::{
    core::weights::{WeightSource, save_safetensors, synth::SynthesisedWeights},
    zoo::build::{self, Families},
};
use xtask::conformance::{self, Options};

/// Runs the command, and gives what it prints.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mixer")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A checkpoint with synthesised values, as a file in `folder`.
fn checkpoint(folder: &Path, families: &Families) -> String {
    let registry = mixer::registry().unwrap();
    let config = &registry.architecture("mixer").unwrap().config;
    let mut parameters = build::parameters(families, config).unwrap();
    parameters.push(("logit_scale".to_owned(), vec![]));
    let weights: Arc<dyn WeightSource> = Arc::new(SynthesisedWeights::new());
    let tensors = parameters.iter().map(|(name, dims)| (name.clone(), weights.read(name, dims).unwrap()));
    let path = folder.join("mixer.safetensors");
    save_safetensors(&path, tensors, None).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_command_knows_the_architecture() {
    assert!(run(&["models", "list"]).contains("\nmixer "));
    let folder = tempfile::tempdir().unwrap();
    let weights = checkpoint(folder.path(), &mixer::families());
    let image =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openclip-zoo/models/emoji-clip/images/pizza.png");
    let image = image.to_str().unwrap();
    let model = ["--model", "mixer", "--pretrained", &weights];
    let embedded = run(&[&["embed", "image", image], &model[..]].concat());
    let line: serde_json::Value = serde_json::from_str(&embedded).unwrap();
    assert_eq!(line["embedding"].as_array().unwrap().len(), 32);
    assert!(run(&[&["classify", image, "--labels", "pizza, rocket"], &model[..]].concat()).contains("pizza"));
    assert!(run(&[&["inspect", "image", image], &model[..]].concat()).contains("visual.blocks.1"));
}

#[test]
fn it_is_written_as_onnx() {
    let folder = tempfile::tempdir().unwrap();
    let weights = checkpoint(folder.path(), &mixer::families());
    let onnx = folder.path().join("onnx");
    let onnx = onnx.to_str().unwrap();
    run(&["export", "--onnx", onnx, "--model", "mixer", "--pretrained", &weights]);
    for file in ["image.onnx", "text.onnx", "open_clip_config.json"] {
        assert!(Path::new(onnx).join(file).is_file(), "{file}");
    }
}

#[test]
fn it_equals_its_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    conformance::run_in(&folder, &mixer::families(), &Options::default()).unwrap();
}
