//! Hugging Face towers over the backend that computes dimensions only: what they give, and what they refuse.

#![allow(clippy::unwrap_used, reason = "the helpers of a test")]

use std::sync::Arc;

use openclip_core::{
    CheckpointConfig, Dim, DisplayDims, ModelConfig, Result, Symbol, Taps, TextFamily, Weights,
    backend::{ShapeBackend, ShapeTensor},
    weights::synth::SynthesisedWeights,
};
use openclip_text::{HuggingFaceTextFamily, huggingface::known_model};

const BERT: &str = r#""model_type": "bert", "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 20"#;
const MT5: &str = r#""model_type": "mt5", "vocab_size": 99, "d_model": 32, "num_layers": 2, "num_heads": 3, "d_kv": 8,
    "d_ff": 40"#;
const M2M100: &str = r#""model_type": "m2m_100", "vocab_size": 99, "d_model": 32, "encoder_layers": 2,
    "encoder_attention_heads": 4, "encoder_ffn_dim": 64"#;

fn config(text_cfg: &str) -> ModelConfig {
    let json = format!(r#"{{"embed_dim": 24, "vision_cfg": {{}}, "text_cfg": {text_cfg}}}"#);
    CheckpointConfig::from_json("test", &json).unwrap().model_cfg
}

/// A small tower; of a field that is there twice the last one counts.
fn small(model: &str, options: &str) -> ModelConfig {
    config(&format!(
        r#"{{"hf_model_name": "x", "context_length": 12, "hf_model_config": {{{model}}}{options}}}"#
    ))
}

/// The dimensions of embedding and tokens for a batch and a length that are unknown.
fn dimensions(config: &ModelConfig) -> Result<[String; 2]> {
    let w = Weights::new(Arc::new(SynthesisedWeights::new())).scope("text");
    let tower = HuggingFaceTextFamily.build(&ShapeBackend, config, &w)?;
    let ids = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), Dim::symbol(Symbol::SEQUENCE)]);
    let show = |tensor: ShapeTensor| DisplayDims(&tensor.0).to_string();
    let cut = tower.forward(&ShapeBackend, &ids, &mut Taps::none())?;
    let whole = tower.forward(&ShapeBackend, &ids, &mut Taps::everything())?;
    assert_eq!(cut.pooled, whole.pooled);
    Ok([show(whole.pooled), whole.tokens.map(show).unwrap_or_default()])
}

#[test]
fn neither_batch_size_nor_length_is_read() {
    let (all, behind_class) = ("[batch, sequence, 32]", "[batch, sequence - 1, 32]");
    for (model, options, tokens) in [
        (BERT, "", all),
        (BERT, r#", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear""#, behind_class),
        (BERT, r#", "hf_pooler_type": "cls_last_hidden_state_pooler""#, all),
        (MT5, "", all),
        (M2M100, r#", "hf_pooler_type": null"#, behind_class),
    ] {
        let found = dimensions(&small(model, options)).unwrap();
        assert_eq!(found, ["[batch, 24]", tokens], "{model} {options}");
    }
}

#[test]
fn contradictions_are_named() {
    let bert = |fields: &str| small(&format!("{BERT}{fields}"), "");
    for (config, part) in [
        (config(r#"{"hf_model_name": "org/model"}"#), "put its config.json into `hf_model_config`"),
        (
            config(r#"{"hf_model_name": "roberta-base", "context_length": 513}"#),
            "more than the 512 positions",
        ),
        (small(BERT, r#", "no_such_field": 1"#), "no_such_field"),
        (small(BERT, r#", "hf_pooler_type": "max_pooler""#), "max_pooler is not available"),
        (small(BERT, r#", "hf_pooler_type": "best""#), "`hf_pooler_type` \"best\" is unknown"),
        (small(BERT, r#", "hf_proj_type": null"#), "it is 32 wide, the embedding 24"),
        (small(BERT, r#", "hf_proj_type": "none""#), "`hf_proj_type` \"none\" is unknown"),
        (small(r#""model_type": "gpt2""#, ""), "`model_type` \"gpt2\" isn't supported"),
        (bert(r#", "num_attention_heads": 5"#), "32 can't be split into 5 heads"),
        (bert(r#", "num_hidden_layers": 0"#), "`num_hidden_layers` is 0"),
        (bert(r#", "num_hidden_layers": 100000"#), "too many"),
        (bert(r#", "hidden_act": "mish""#), "activation `mish` isn't supported"),
        (bert(r#", "position_embedding_type": "relative_key""#), "only encoders with absolute positions"),
        (bert(r#", "vocab_size": "many""#), "`vocab_size`"),
        (small(&format!(r#"{MT5}, "relative_attention_num_buckets": 6"#), ""), "make no sense"),
    ] {
        let error = dimensions(&config).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn published_models_are_known_by_every_name() {
    for name in [
        "bert-base-uncased",
        "roberta-base",
        "FacebookAI/xlm-roberta-base",
        "xlm-roberta-large",
        "google/mt5-base",
        "google/mt5-xl",
        "facebook/nllb-200-distilled-600M",
        "facebook/nllb-200-distilled-1.3B",
    ] {
        assert!(known_model(name).is_some(), "{name}");
    }
    let info = HuggingFaceTextFamily.info(&config(r#"{"hf_model_name": "roberta-base"}"#)).unwrap();
    assert_eq!((info.vocab_size, info.context_length, info.pad_id), (50265, 77, Some(1)));
    let changed = r#"{"hf_model_name": "roberta-base", "hf_model_config": {"vocab_size": 50300}}"#;
    assert_eq!(HuggingFaceTextFamily.info(&config(changed)).unwrap().vocab_size, 50300);
}
