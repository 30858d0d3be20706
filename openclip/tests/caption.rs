//! `openclip caption` through the real binary, with a small CoCa model of synthesised weights.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

mod support;

use openclip::{
    BackendKind, Clip, DecodedImage, Error,
    coca::{GenerationOptions, Method},
    core::{
        CheckpointConfig,
        weights::{WeightSource, save_safetensors, synth::SynthesisedWeights},
    },
    zoo::{
        build::{Families, parameters},
        emoji_clip,
    },
};
use support::{Run, Sandbox};

const CONFIG: &str = r#"{
    "embed_dim": 32, "custom_text": true,
    "vision_cfg": {"layers": 2, "width": 48, "head_width": 16, "image_size": 32, "patch_size": 8,
                   "attentional_pool": true, "attn_pooler_queries": 5, "attn_pooler_heads": 4},
    "text_cfg": {"context_length": 76, "width": 32, "heads": 2, "layers": 2, "embed_cls": true},
    "multimodal_cfg": {"context_length": 76, "width": 32, "heads": 2, "layers": 2}
}"#;

/// A folder with a CoCa model whose vocabulary is CLIP's, and two images.
struct Captions {
    sandbox: Sandbox,
    model: String,
    images: [String; 2],
}

impl Captions {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let config = CheckpointConfig::from_json("test", CONFIG).unwrap().model_cfg;
        sandbox.write("coca/open_clip_config.json", format!(r#"{{"model_cfg": {CONFIG}}}"#));
        let weights = SynthesisedWeights::new();
        let mut names = parameters(&Families::default(), &config).unwrap();
        names.push(("logit_scale".to_owned(), Vec::new()));
        let tensors = names.iter().map(|(name, dims)| (name.clone(), weights.read(name, dims).unwrap()));
        save_safetensors(sandbox.path("coca/open_clip_model.safetensors"), tensors, None).unwrap();
        let images = [0, 1].map(|index| {
            let sample = &emoji_clip::SAMPLE_IMAGES[index];
            sandbox.write(sample.file, sample.png).to_str().unwrap().to_owned()
        });
        let model = format!("local-dir:{}", sandbox.path("coca").display());
        Self { sandbox, model, images }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let images = self.images.each_ref().map(String::as_str);
        self.sandbox.run(&[&["caption", "--model", &self.model], images.as_slice(), arguments].concat())
    }
}

fn tokens(run: &Run) -> Vec<Vec<u32>> {
    assert_eq!(run.code, 0, "{}", run.err);
    run.json().iter().map(|line| serde_json::from_value(line["tokens"].clone()).unwrap()).collect()
}

#[test]
fn captions_are_those_of_the_library() {
    let captions = Captions::new();
    let run = captions.run(&["--json", "--batch-size", "1"]);
    let found = tokens(&run);
    assert!(found.iter().all(|tokens| tokens.len() <= 30 && tokens[0] == 49406), "{found:?}");
    let clip = Clip::builder(&captions.model).lazy().build().unwrap();
    for ((line, path), tokens) in run.json().iter().zip(&captions.images).zip(&found) {
        let image = DecodedImage::open(path).unwrap();
        let options = GenerationOptions::default();
        assert_eq!(line["image"], **path);
        assert!(line["score"].as_f64().unwrap().is_finite());
        assert_eq!(line["caption"], clip.caption(&image, &options).unwrap());
        let streamed: Vec<u32> =
            clip.caption_tokens(&image, options).unwrap().map(|token| token.unwrap()).collect();
        assert_eq!(streamed, tokens[1..]);
    }
    assert_eq!(tokens_of(&captions, &[]), found, "whatever the batch size");
    let plain = captions.run(&["--generation", "top_k", "--seq-len", "8"]);
    assert_eq!(plain.out.lines().count(), 2, "{}", plain.err);
}

#[test]
fn captions_of_the_model_are_scored() {
    let captions = Captions::new();
    let written = captions.run(&["--json", "--seq-len", "8"]);
    let table: String = written
        .json()
        .iter()
        .map(|line| {
            format!(
                "{}\t{}\n",
                line["image"].as_str().unwrap(),
                line["caption"].as_str().unwrap().replace('"', "")
            )
        })
        .collect();
    captions.sandbox.write("captions.tsv", format!("image\tcaption\n{table}"));
    let run = captions.sandbox.run(&[
        "eval",
        "caption",
        "--dataset",
        "csv:captions.tsv",
        "--model",
        &captions.model,
        "--seq-len",
        "8",
        "--json",
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    let record = &run.json()[0];
    assert!(record["metrics"]["Bleu_1"].as_f64().unwrap() > 0.9, "{record}");
    assert_eq!((&record["task"], &record["openclip"]["evaluated"]), (&"captioning".into(), &2.into()));
}

fn tokens_of(captions: &Captions, arguments: &[&str]) -> Vec<Vec<u32>> {
    tokens(&captions.run(&[arguments, &["--json"]].concat()))
}

#[test]
fn options_reach_generation() {
    let captions = Captions::new();
    let sampled = |more: &[&str]| {
        let options = ["--generation", "top_p", "--top-p", "1", "--seq-len", "9", "--min-seq-len", "8"];
        tokens_of(&captions, &[&options, more].concat())
    };
    let first = sampled(&["--seed", "1"]);
    assert_eq!(first, sampled(&["--seed", "1"]));
    assert_ne!(first, sampled(&["--seed", "2"]));
    assert!(first.iter().all(|tokens| tokens.len() == 9 && tokens[8] == 49407), "{first:?}");
    let prompted = sampled(&["--prompt", "a photo of"]);
    assert!(prompted.iter().all(|tokens| tokens[..4] == [49406, 320, 1125, 539]), "{prompted:?}");
    let padded = tokens_of(&captions, &["--generation", "top_k", "--fixed-output-length"]);
    assert!(padded.iter().all(|tokens| tokens.len() == 30), "{padded:?}");
    let greedy = tokens_of(&captions, &["--generation", "top_k"]);
    let one_beam = tokens_of(&captions, &["--num-beams", "1", "--num-beam-groups", "1"]);
    assert_eq!(greedy[0][..8], one_beam[0][..8]);
}

#[test]
fn every_backend_writes_the_same() {
    let captions = Captions::new();
    for options in [&["--num-beams", "4", "--num-beam-groups", "2"][..], &["--generation", "top_k"]] {
        let expected = tokens_of(&captions, options);
        for kind in BackendKind::ALL {
            let found = tokens_of(&captions, &[options, &["--backend", &kind.to_string()]].concat());
            assert_eq!(found, expected, "{kind}");
        }
    }
}

#[test]
fn texts_are_scored() {
    let captions = Captions::new();
    let file = captions.sandbox.write("texts.txt", "a cat\n\na red rocket in the sky\n");
    let run = captions.run(&["--score", file.to_str().unwrap(), "--json"]);
    assert_eq!((run.code, run.json().len()), (0, 2), "{}", run.err);
    let clip = Clip::builder(&captions.model).lazy().build().unwrap();
    for (line, path) in run.json().iter().zip(&captions.images) {
        let texts = line["texts"].as_array().unwrap();
        assert!(texts.is_sorted_by_key(|text| text["perplexity"].as_f64().unwrap().to_bits()));
        let names: Vec<&str> = texts.iter().map(|text| text["text"].as_str().unwrap()).collect();
        let image = DecodedImage::open(path).unwrap();
        let expected = clip.caption_perplexities(&image, &names).unwrap();
        for (text, expected) in texts.iter().zip(expected) {
            let found = text["perplexity"].as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
        }
    }
}

#[test]
fn senseless_options_are_usage_errors_that_name_them() {
    let captions = Captions::new();
    for (arguments, part) in [
        (&["--num-beams", "0"][..], "--num-beams is 0"),
        (&["--num-beams", "4"], "--num-beam-groups is 3"),
        (&["--top-p", "1.5"], "--top-p is 1.5"),
        (&["--top-p", "0"], "--top-p is 0"),
        (&["--top-p=-0.5", "--generation", "top_p"], "--top-p is -0.5"),
        (&["--top-k", "0"], "--top-k is 0"),
        (&["--temperature", "0"], "--temperature is 0"),
        (&["--seq-len", "5"], "--seq-len is 5"),
        (&["--seq-len", "100"], "--seq-len is 100"),
        (&["--generation", "greedy"], "--generation"),
        (&["--seq-len", "6", "--prompt", "a photo of a cat on a mat"], "--prompt has"),
    ] {
        captions.run(arguments).failed(2, part);
    }
    let image = captions.images[0].as_str();
    captions.sandbox.run(&["caption", image]).failed(2, "--model: emoji-clip has no decoder");
    captions.run(&["--score", "no-such-file.txt"]).failed(1, "no-such-file.txt");
    let missing = captions.run(&["no-such-image.png", "--json", "--generation", "top_k"]);
    assert_eq!((missing.code, missing.json().len()), (3, 2), "{}", missing.err);
}

#[test]
fn a_library_says_what_is_missing() {
    let clip = Clip::builder("emoji-clip").lazy().build().unwrap();
    assert!(matches!(clip.captioner(), Err(Error::NoDecoder { .. })));
    let captions = Captions::new();
    let clip = Clip::builder(&captions.model).lazy().build().unwrap();
    let image = DecodedImage::open(&captions.images[0]).unwrap();
    let known = clip.caption_text(&[49406, 320, 2368, 49407, 0], &GenerationOptions::default()).unwrap();
    let partly = clip.caption_text(&[49406, 320, 63999, 63999, 2368], &GenerationOptions::default()).unwrap();
    assert_eq!((known.as_str(), partly.as_str()), ("a cat", "a \u{fffd} \u{fffd} cat"));
    let options = GenerationOptions { method: Method::TopK { top_k: 0 }, ..GenerationOptions::default() };
    assert!(matches!(clip.caption(&image, &options), Err(Error::Option(error)) if error.option == "top_k"));
}
