//! Models with a Hugging Face tokenizer: its files in a folder or a hub, languages, and copies beside written models.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

mod support;

#[path = "../../openclip-zoo/tests/support/hub_server.rs"]
mod hub_server;

use std::{
    fs,
    path::{Path, PathBuf},
};

use hub_server::HubServer;
use openclip::zoo::emoji_clip;
use serde_json::Value;
use support::Sandbox;

/// The bundled model's configuration with the tokenizer `org/tokenizer`.
fn config() -> String {
    let mut config: Value = serde_json::from_str(emoji_clip::CONFIG).unwrap();
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/tokenizer".into();
    config["model_cfg"]["text_cfg"].as_object_mut().unwrap().shift_remove("tokenizer_kwargs");
    config.to_string()
}

/// The files of one of the small tokenizers that are compared with the reference.
fn tokenizer(name: &str) -> Vec<(String, PathBuf)> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/tokenizer/huggingface").join(name);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.filter(|(name, _)| name != "expected.jsonl").collect()
}

/// A model folder with the tokenizer `name`.
fn model(sandbox: &Sandbox, name: &str) -> String {
    let model = sandbox.model(name, |_| {});
    sandbox.write(&format!("{name}/open_clip_config.json"), config());
    for (file, path) in tokenizer(name) {
        sandbox.write(&format!("{name}/{file}"), fs::read(path).unwrap());
    }
    model
}

fn embed(sandbox: &Sandbox, model: &str, more: &[&str]) -> String {
    let run = sandbox.run(&[&["embed", "text", "a cat, un chat", "--model", model], more].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    run.out
}

#[test]
fn a_folder_has_its_own_tokenizer() {
    let sandbox = Sandbox::new();
    let bert = embed(&sandbox, &model(&sandbox, "bert"), &[]);
    let mt5 = embed(&sandbox, &model(&sandbox, "mt5"), &[]);
    assert_ne!(bert, mt5);
    let nothing = sandbox.model("nothing", |_| {});
    sandbox.write("nothing/open_clip_config.json", config());
    sandbox.run(&["embed", "text", "a", "--model", &nothing]).failed(1, "wants a Hugging Face tokenizer");
    // Nobody needs a tokenizer for images.
    let samples = sandbox.samples();
    let image = sandbox.run(&["embed", "image", samples.to_str().unwrap(), "--model", &nothing]);
    assert_eq!(image.code, 0, "{}", image.err);
}

#[test]
fn a_damaged_tokenizer_is_named() {
    let sandbox = Sandbox::new();
    let model = model(&sandbox, "siglip");
    let file = sandbox.path("siglip").join("tokenizer.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    sandbox.run(&["embed", "text", "a", "--model", &model]).failed(1, "tokenizer.json");
    fs::remove_file(&file).unwrap();
    fs::write(sandbox.path("siglip").join("spiece.model"), b"\xff\xff\xff").unwrap();
    sandbox.run(&["embed", "text", "a", "--model", &model]).failed(1, "spiece.model");
}

#[test]
fn languages_are_those_of_nllb() {
    let sandbox = Sandbox::new();
    let nllb = model(&sandbox, "nllb");
    let english = embed(&sandbox, &nllb, &[]);
    assert_eq!(embed(&sandbox, &nllb, &["--language", "eng_Latn"]), english);
    assert_ne!(embed(&sandbox, &nllb, &["--language", "fra_Latn"]), english);
    let refused = |model: &str, language: &str, part: &str| {
        sandbox.run(&["embed", "text", "a", "--model", model, "--language", language]).failed(1, part);
    };
    refused(&nllb, "french", "`french` is not a language of this tokenizer");
    refused(&model(&sandbox, "bert"), "fra_Latn", "this tokenizer has no languages");
    refused("emoji-clip", "fra_Latn", "this model has no languages");
}

#[test]
fn written_models_have_their_tokenizer_beside_them() {
    let sandbox = Sandbox::new();
    let model = model(&sandbox, "xlm-roberta");
    let out = sandbox.path("small").display().to_string();
    let run = sandbox.run(&["quantize", "-o", &out, "--model", &model]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("sentencepiece.bpe.model"), "{}", run.out);
    embed(&sandbox, &format!("local-dir:{out}"), &["--precision", "int8"]);
    let onnx = sandbox.path("onnx");
    let run = sandbox.run(&["export", "--onnx", onnx.to_str().unwrap(), "--model", &model]);
    assert_eq!(run.code, 0, "{}", run.err);
    for (file, path) in tokenizer("xlm-roberta") {
        assert_eq!(fs::read(onnx.join(&file)).unwrap(), fs::read(path).unwrap(), "{file}");
    }
}

#[test]
fn a_tokenizer_of_the_hub_is_pulled_with_its_model() {
    let server = HubServer::start();
    server.add("org/model", "open_clip_config.json", config().as_bytes(), false);
    server.add("org/model", "open_clip_model.safetensors", emoji_clip::WEIGHTS, true);
    let online = Sandbox::new().with("HF_HUB_OFFLINE", "0").with("HF_ENDPOINT", &server.endpoint());
    online.run(&["pull", "--model", "hf-hub:org/model"]).failed(1, "org/tokenizer");
    for (file, path) in tokenizer("bert") {
        server.add("org/tokenizer", &file, &fs::read(path).unwrap(), false);
    }
    let pull = online.run(&["pull", "--model", "hf-hub:org/model"]);
    assert_eq!(pull.code, 0, "{}", pull.err);
    server.take_requests();
    let from_hub = embed(&online, "hf-hub:org/model", &[]);
    assert_eq!(server.take_requests(), [], "what a repository hasn't got is asked once");
    drop(server);

    let offline = online.with("HF_HUB_OFFLINE", "1");
    assert_eq!(embed(&offline, "hf-hub:org/model", &[]), from_hub);
    assert_eq!(embed(&offline, &model(&offline, "bert"), &[]), from_hub);
    fs::remove_dir_all(offline.path("cache").join("models--org--tokenizer")).unwrap();
    let run = offline.run(&["embed", "text", "a", "--model", "hf-hub:org/model"]);
    run.failed(1, "openclip pull --model hf-hub:org/model");
}
