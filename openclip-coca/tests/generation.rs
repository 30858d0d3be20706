//! Generation with keys and values that are kept equals generation that reads every text anew, token for token.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

use std::sync::Arc;

use openclip_candle::CandleBackend;
use openclip_coca::{
    Caption, CocaFamily, GenerationOptions, Method, Rereading, TokenStream, generate, perplexities,
};
use openclip_core::{
    CaptionFamily, Captioner, CheckpointConfig, EagerCaptioner, HostTensor, Precision, Result, TokenBatch,
    Weights,
    backend::DeviceSpec,
    weights::synth::{SynthesisedWeights, image},
};

const CONFIG: &str = r#"{
    "embed_dim": 32, "custom_text": true,
    "vision_cfg": {"layers": 2, "width": 48, "head_width": 16, "image_size": 32, "patch_size": 8,
                   "attentional_pool": true, "attn_pooler_queries": 5, "attn_pooler_heads": 4},
    "text_cfg": {"context_length": 16, "vocab_size": 90, "width": 32, "heads": 2, "layers": 2, "embed_cls": true},
    "multimodal_cfg": {"context_length": 16, "width": 32, "heads": 2, "layers": 2}
}"#;

fn captioner() -> EagerCaptioner<CandleBackend> {
    let config = CheckpointConfig::from_json("test", CONFIG).unwrap().model_cfg;
    let backend = CandleBackend::new(DeviceSpec::Cpu, Precision::F32).unwrap();
    let tower =
        CocaFamily.build(&backend, &config, &Weights::new(Arc::new(SynthesisedWeights::new()))).unwrap();
    EagerCaptioner::new(backend, tower, CocaFamily.info(&config).unwrap())
}

fn options(method: Method) -> GenerationOptions {
    GenerationOptions {
        method,
        seq_len: 12,
        min_seq_len: 3,
        sot_token_id: 88,
        eos_token_id: 41,
        seed: 7,
        ..GenerationOptions::default()
    }
}

fn every_method() -> Vec<GenerationOptions> {
    let methods = [
        Method::default(),
        Method::BeamSearch { num_beams: 5, num_beam_groups: 1 },
        Method::BeamSearch { num_beams: 1, num_beam_groups: 1 },
        Method::TopK { top_k: 1 },
        Method::TopK { top_k: 9 },
        Method::TopP { top_p: 0.9 },
    ];
    let mut every: Vec<_> = methods.map(options).into();
    // Padding in the midst of a text, and a window that moves on.
    every.push(GenerationOptions { prompt: vec![88, 0, 5, 0], ..options(Method::default()) });
    every.push(GenerationOptions {
        max_seq_len: 4,
        temperature: 2.0,
        ..options(Method::TopP { top_p: 1.0 })
    });
    every
}

fn tokens(captions: &[Caption]) -> Vec<&[u32]> {
    captions.iter().map(|caption| caption.tokens.as_slice()).collect()
}

#[test]
fn what_is_kept_changes_no_token() {
    let captioner = captioner();
    let pixels = image(3, 32, 32);
    for options in every_method() {
        let kept = generate(&captioner, &pixels, &options).unwrap();
        let anew = generate(&Rereading(&captioner), &pixels, &options).unwrap();
        assert_eq!(tokens(&kept), tokens(&anew), "{options:?}");
        for (kept, anew) in kept.iter().zip(&anew) {
            assert!((kept.score - anew.score).abs() < 1e-4, "{} {}", kept.score, anew.score);
        }
    }
}

#[test]
fn a_caption_doesnt_depend_on_the_batch() {
    let captioner = captioner();
    let pixels = image(3, 32, 32);
    for options in every_method() {
        let together = generate(&captioner, &pixels, &options).unwrap();
        for (row, together) in pixels.rows().zip(&together) {
            let pixels = HostTensor::new([1, 3, 32, 32], row.to_vec()).unwrap();
            let alone = generate(&captioner, &pixels, &options).unwrap();
            assert_eq!(tokens(&alone), [together.tokens.as_slice()]);
            let stream = TokenStream::new(&captioner, &pixels, options.clone()).unwrap();
            let streamed: Vec<u32> = stream.map(Result::unwrap).collect();
            assert_eq!(streamed, together.tokens[options.beginning().len()..]);
        }
    }
    assert!(generate(&captioner, &image(0, 32, 32), &options(Method::default())).unwrap().is_empty());
}

#[test]
fn the_likeliest_text_has_the_lowest_perplexity() {
    let captioner = captioner();
    let pixels = image(1, 32, 32);
    let greedy = generate(&captioner, &pixels, &options(Method::TopK { top_k: 1 })).unwrap().remove(0).tokens;
    let mut other = greedy.clone();
    other.iter_mut().skip(1).for_each(|id| *id = 89 - *id % 40);
    let length = greedy.len() + 2;
    let padded = [&greedy, &other].map(|ids| [ids.as_slice(), &[0, 0]].concat()).concat();
    let texts = TokenBatch::new(2, length, padded).unwrap();
    let session = captioner.look(&pixels).unwrap();
    let found = perplexities(session.as_ref(), 0, &texts, 0).unwrap();
    assert!(found[0] < found[1] && found[0] >= 1.0, "{found:?}");
    let empty = TokenBatch::new(1, 3, vec![88, 0, 0]).unwrap();
    assert!(perplexities(session.as_ref(), 0, &empty, 0).is_err());
}

#[test]
fn options_that_the_model_cant_do_are_named() {
    let captioner = captioner();
    let long = GenerationOptions { seq_len: 40, ..options(Method::default()) };
    let error = generate(&captioner, &image(1, 32, 32), &long).unwrap_err().to_string();
    assert!(error.starts_with("seq_len is 40") && error.contains("17"), "{error}");
}
