//! Tokenizers of repositories without tokenizer.json, made from their vocabularies as `transformers` makes them
//! (`convert_slow_tokenizer.py`).

use std::collections::BTreeMap;

use openclip_core::{Error, Result};
use serde_json::{Value, json};
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
    models::{bpe::BPE, wordpiece::WordPiece},
};

use super::{
    assemble::{component, surround},
    class::Class,
    files::TokenizerFiles,
    sentencepiece,
    settings::Settings,
};

/// Makes a tokenizer of the class in `settings` from a vocabulary.
pub(super) fn convert(files: &TokenizerFiles, settings: &Settings) -> Result<Tokenizer> {
    match settings.class {
        Class::Bert => word_piece(files, settings),
        Class::Roberta => byte_level(files, settings),
        Class::Clip => clip(files, settings),
        Class::XlmRoberta | Class::Nllb => {
            sentencepiece::convert(files, settings, &["sentencepiece.bpe.model"])
        }
        Class::T5 => sentencepiece::convert(files, settings, &["spiece.model"]),
        Class::Gemma => sentencepiece::convert(files, settings, &["tokenizer.model"]),
        Class::Plain => missing(settings, &["tokenizer.json"]),
    }
}

/// The error that none of the files `names` is there.
pub(super) fn missing<T>(settings: &Settings, names: &[&str]) -> Result<T> {
    settings.fail(format!("the tokenizer has no {}", names.join(" and no ")))
}

/// The parts of a tokenizer around its model, in the form of tokenizer.json.
pub(super) struct Parts {
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: Value,
    pub(super) decoder: Value,
}

impl Parts {
    /// Puts them around `model`.
    pub(super) fn around(self, model: impl Into<ModelWrapper>, settings: &Settings) -> Result<Tokenizer> {
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(self.normalizer)
            .map_err(|error| Error::config(&settings.origin, error.to_string()))?;
        tokenizer.with_pre_tokenizer(Some(component::<PreTokenizerWrapper>(self.pre_tokenizer)?));
        tokenizer.with_decoder(Some(component::<DecoderWrapper>(self.decoder)?));
        Ok(tokenizer)
    }
}

/// The content of the special token that stands for `role`, which has to be there.
fn required(settings: &Settings, role: &str) -> Result<String> {
    match settings.token(role)? {
        Some(token) => Ok(token.content),
        None => settings.fail(format!("there is no `{role}`")),
    }
}

/// BERT: vocab.txt, a token per line.
fn word_piece(files: &TokenizerFiles, settings: &Settings) -> Result<Tokenizer> {
    let Some((origin, text)) = files.read_text("vocab.txt")? else {
        return missing(settings, &["tokenizer.json", "vocab.txt"]);
    };
    // Of a token that is there twice the last line counts.
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n').map(|line| line.trim_end_matches('\r'));
    let vocabulary: BTreeMap<String, u32> = lines.map(str::to_owned).zip(0..).collect();
    let model = WordPiece::builder()
        .vocab(vocabulary.into_iter().collect::<Vocabulary>())
        .unk_token(required(settings, "unk_token")?)
        .build()
        .map_err(|error| Error::config(origin, error.to_string()))?;
    let parts = Parts {
        normalizer: Some(component(json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": true,
            "strip_accents": null,
            "lowercase": true,
        }))?),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
    };
    let mut tokenizer = parts.around(model, settings)?;
    surround(
        &mut tokenizer,
        settings,
        &[required(settings, "cls_token")?],
        &[required(settings, "sep_token")?],
    )?;
    Ok(tokenizer)
}

/// What models take their vocabulary as.
type Vocabulary = ahash::AHashMap<String, u32>;

/// vocab.json, and the pairs of merges.txt after its first line.
fn pairs_and_vocabulary(files: &TokenizerFiles, settings: &Settings) -> Result<BpeFiles> {
    let vocabulary = files.read_json::<Vocabulary>("vocab.json")?;
    let (Some(vocabulary), Some((origin, text))) = (vocabulary, files.read_text("merges.txt")?) else {
        return missing(settings, &["tokenizer.json", "vocab.json with merges.txt"]);
    };
    let pair = |line: &str| {
        let mut parts = line.split_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(left), Some(right), None) => Ok((left.to_owned(), right.to_owned())),
            _ => Err(Error::config(&origin, format!("`{line}` is not a pair of tokens"))),
        }
    };
    let merges = text.trim_end().lines().skip(1).map(pair).collect::<Result<_>>()?;
    Ok(BpeFiles { origin, vocabulary, merges })
}

struct BpeFiles {
    origin: String,
    vocabulary: Vocabulary,
    merges: Vec<(String, String)>,
}

/// RoBERTa: byte pairs over bytes.
fn byte_level(files: &TokenizerFiles, settings: &Settings) -> Result<Tokenizer> {
    let BpeFiles { origin, vocabulary, merges } = pairs_and_vocabulary(files, settings)?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(String::new())
        .build()
        .map_err(|error| Error::config(origin, error.to_string()))?;
    let prefix = settings.flag("add_prefix_space")?.unwrap_or(false);
    let parts =
        Parts { normalizer: None, pre_tokenizer: byte_level_parts(prefix), decoder: byte_level_parts(true) };
    let mut tokenizer = parts.around(model, settings)?;
    around_bytes(&mut tokenizer, settings, ["cls_token", "sep_token"])?;
    Ok(tokenizer)
}

/// CLIP: byte pairs of words, whose ends are marked.
fn clip(files: &TokenizerFiles, settings: &Settings) -> Result<Tokenizer> {
    /// No CLIP tokenizer has more merges; files go on after that.
    const MERGES: usize = 49152 - 256 - 2;
    let BpeFiles { origin, vocabulary, mut merges } = pairs_and_vocabulary(files, settings)?;
    merges.truncate(MERGES);
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .unk_token(required(settings, "unk_token")?)
        .build()
        .map_err(|error| Error::config(origin, error.to_string()))?;
    let parts = Parts {
        normalizer: Some(component(json!({"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]}))?),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"},
                "behavior": "Removed",
                "invert": true,
            },
            byte_level_parts(false),
        ]}),
        decoder: byte_level_parts(true),
    };
    let mut tokenizer = parts.around(model, settings)?;
    around_bytes(&mut tokenizer, settings, ["bos_token", "eos_token"])?;
    Ok(tokenizer)
}

fn byte_level_parts(add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true})
}

/// Puts the tokens of two roles around every text.
fn around_bytes(tokenizer: &mut Tokenizer, settings: &Settings, roles: [&str; 2]) -> Result<()> {
    let token = |role: &str| -> Result<Value> {
        let content = required(settings, role)?;
        match tokenizer.token_to_id(&content) {
            Some(id) => Ok(json!([content, id])),
            None => settings.fail(format!("`{content}` is not in the vocabulary")),
        }
    };
    let [first, last] = roles;
    let processor: PostProcessorWrapper = component(json!({
        "type": "RobertaProcessing",
        "sep": token(last)?,
        "cls": token(first)?,
        "trim_offsets": true,
        "add_prefix_space": true,
    }))?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}
