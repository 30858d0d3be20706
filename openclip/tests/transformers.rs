//! A model folder as Hugging Face transformers saves it (`conformance/layouts/hf_clip`, made by
//! `xtask/reference/layouts.py`): from end to end its embeddings are those of transformers.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use openclip::{
    Clip, DecodedImage,
    core::TokenBatch,
    core::weights::{CanonicalLayout, open_checkpoint},
    zoo::{
        Registry, Resolver, WeightsLocation,
        build::{self, BackendOptions, Families},
        hub::{Hub, HubConfig},
    },
};
use serde::Deserialize;
use support::Sandbox;

/// What transformers makes of a picture and of texts, in unit length.
#[derive(Deserialize)]
struct Embeddings {
    image: Vec<f32>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/layouts/hf_clip")
}

fn expected() -> Embeddings {
    serde_json::from_str(&fs::read_to_string(folder().join("embeddings.json")).unwrap()).unwrap()
}

fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |largest, (a, b)| largest.max((a - b).abs()))
}

/// A folder with the files of [`folder`] whose names `keep` lets pass.
fn copy(sandbox: &Sandbox, name: &str, keep: impl Fn(&str) -> bool) -> String {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if keep(file) {
            sandbox.write(&format!("{name}/{file}"), fs::read(&path).unwrap());
        }
    }
    format!("local-dir:{}", sandbox.path(name).display())
}

/// The folder with a tokenizer, as `name`.
fn with_tokenizer(sandbox: &Sandbox, name: &str) -> String {
    let tokenizer = folder().join("../../tokenizer/huggingface/clip");
    for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        sandbox.write(&format!("{name}/{file}"), fs::read(tokenizer.join(file)).unwrap());
    }
    copy(sandbox, name, |_| true)
}

#[test]
fn images_have_the_embeddings_of_transformers() {
    let sandbox = Sandbox::new();
    let image = DecodedImage::open(folder().join("picture.png")).unwrap();
    let pickled = copy(&sandbox, "pickled", |file| file != "model.safetensors");
    for model in [format!("local-dir:{}", folder().display()), pickled] {
        let clip = Clip::builder(&model).image_only().build().unwrap();
        let found = clip.encode_image(&image).unwrap();
        let difference = difference(found.as_slice(), &expected().image);
        assert!(difference <= 2e-5, "{model}: {difference}");
    }
}

#[test]
fn texts_have_the_embeddings_of_transformers() {
    let sandbox = Sandbox::new();
    let model = with_tokenizer(&sandbox, "model");
    let texts = expected().texts;
    let clip = Clip::builder(&model).text_only().build().unwrap();
    let found = clip.encode_text(texts.iter().map(|text| text.text.as_str())).unwrap();
    for (found, Text { text, embedding, .. }) in found.iter().zip(&texts) {
        let difference = difference(found.as_slice(), embedding);
        assert!(difference <= 2e-5, "{text}: {difference}");
    }
    // The command does the same, and a tokenizer with other ids is none for this model.
    let run = sandbox.run(&["embed", "text", &texts[0].text, "--model", &model, "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let bare = copy(&sandbox, "bare", |_| true);
    sandbox.run(&["embed", "text", "a cat", "--model", &bare]).failed(1, "the folder has none");
}

#[test]
fn token_ids_have_the_embeddings_of_transformers() {
    let (registry, hub) = (Registry::bundled(), Hub::new(HubConfig::from_env()));
    let model = format!("local-dir:{}", folder().display());
    let model = Resolver::new(&registry, &hub).resolve_text(&model, None).unwrap();
    let WeightsLocation::File(file) = &model.weights else { panic!("{:?}", model.weights) };
    let source = std::sync::Arc::new(CanonicalLayout::new(open_checkpoint(file).unwrap()));
    let (families, options) = (Families::default(), BackendOptions::default());
    let tower = build::text_encoder(&families, &model.config.model_cfg, &(source as _), &options).unwrap();
    let texts = expected().texts;
    let ids: Vec<u32> = texts.iter().flat_map(|text| text.ids.clone()).collect();
    let mut found = tower.encode(&TokenBatch::new(texts.len(), 16, ids).unwrap()).unwrap();
    found.l2_normalize_rows();
    for (row, text) in found.rows().zip(&texts) {
        let difference = difference(row, &text.embedding);
        assert!(difference <= 2e-5, "{:?}: {difference}", text.ids);
    }
}

#[test]
fn what_is_missing_or_wrong_in_a_folder_is_said() {
    let sandbox = Sandbox::new();
    let picture = folder().join("picture.png").display().to_string();
    let run = |model: &str| sandbox.run(&["embed", "image", &picture, "--model", model]);
    let unprepared = copy(&sandbox, "unprepared", |file| file != "preprocessor_config.json");
    run(&unprepared).failed(1, "the folder has no preprocessor_config.json");
    let unknown = copy(&sandbox, "unknown", |file| file != "config.json");
    run(&unknown).failed(1, "nor a config.json of transformers");
    let config = fs::read_to_string(folder().join("config.json")).unwrap();
    let change = |from: &str, to: &str| {
        assert!(config.contains(from));
        sandbox.write("unknown/config.json", config.replacen(from, to, 1));
    };
    change("\"model_type\": \"clip\"", "\"model_type\": \"siglip2\"");
    run(&unknown).failed(1, "`model_type` is `siglip2`");
    change("\"projection_dim\": 12", "\"projection_width\": 12");
    run(&unknown).failed(1, "`projection_width` is 12");
    // The tensors are called what they are called in the file.
    let deeper = with_tokenizer(&sandbox, "deeper");
    sandbox.write(
        "deeper/config.json",
        config.replacen("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", 1),
    );
    sandbox
        .run(&["embed", "text", "a", "--model", &deeper])
        .failed(1, "text_model.encoder.layers.2.self_attn.{q,k,v}_proj.weight");
}

#[test]
fn a_written_model_is_the_references() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("int8");
    Clip::builder(with_tokenizer(&sandbox, "model")).quantize(&out).unwrap();
    let clip = Clip::builder(format!("local-dir:{}", out.display())).build().unwrap();
    let cosine =
        |found: &[f32], expected: &[f32]| -> f32 { found.iter().zip(expected).map(|(a, b)| a * b).sum() };
    let image = DecodedImage::open(folder().join("picture.png")).unwrap();
    let found = cosine(clip.encode_image(&image).unwrap().as_slice(), &expected().image);
    assert!(found >= 0.99, "{found}");
    for Text { text, embedding, .. } in expected().texts {
        let found = cosine(clip.encode_text([text.as_str()]).unwrap()[0].as_slice(), &embedding);
        assert!(found >= 0.99, "{text}: {found}");
    }
}
