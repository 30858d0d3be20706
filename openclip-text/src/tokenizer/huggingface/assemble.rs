//! From files and settings to a tokenizer: read or converted, with its special tokens, and with the parts that its class
//! rebuilds from arguments.

use std::collections::HashSet;

use openclip_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TruncationDirection,
    utils::padding::PaddingDirection,
};

use super::{
    charsmap,
    class::Class,
    convert,
    files::{TOKENIZER, TokenizerFiles},
    settings::Settings,
};

/// A tokenizer that neither cuts nor pads, and the sides on which that is to be done.
pub(super) struct Assembled {
    pub(super) tokenizer: Tokenizer,
    pub(super) pads_left: bool,
    pub(super) truncates_left: bool,
    pub(super) pad_token: Option<String>,
    pub(super) cleans_up: bool,
}

/// Makes the tokenizer that `settings` describe.
pub(super) fn assemble(files: &TokenizerFiles, settings: &Settings) -> Result<Assembled> {
    // T5 applies a prefix space only while the SentencePiece model is converted.
    let converted = settings.flag("from_slow")?.unwrap_or(false)
        || settings.flag("use_fast")? == Some(false)
        || settings.class == Class::T5 && settings.flag("add_prefix_space")?.is_some();
    let mut tokenizer = match files.read(TOKENIZER)? {
        Some((origin, bytes)) if !converted => {
            charsmap::check_json(&origin, &bytes)?;
            Tokenizer::from_bytes(bytes).map_err(|error| Error::config(origin, error.to_string()))?
        }
        _ => convert::convert(files, settings)?,
    };
    let padding = tokenizer.get_padding();
    let pads_left = match settings.is_left("padding_side")? {
        Some(left) => left,
        None => match padding {
            Some(padding) => matches!(padding.direction, PaddingDirection::Left),
            None => settings.class.pads_left(),
        },
    };
    let truncates_left = match settings.is_left("truncation_side")? {
        Some(left) => left,
        None => {
            tokenizer.get_truncation().is_some_and(|params| params.direction == TruncationDirection::Left)
        }
    };
    let pad_token = match settings.token("pad_token")? {
        Some(token) => Some(token.content),
        None => padding.map(|padding| padding.pad_token.clone()),
    };
    // The converter of BERT's vocabularies has another default than what reads tokenizer.json.
    let by_default = settings.class == Class::Bert && (converted || files.path(TOKENIZER).is_none());
    let cleans_up = settings.flag("clean_up_tokenization_spaces")?.unwrap_or(by_default);
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| Error::config(&settings.origin, error.to_string()))?;
    add_tokens(&mut tokenizer, settings)?;
    apply_arguments(&mut tokenizer, settings)?;
    Ok(Assembled { tokenizer, pads_left, truncates_left, pad_token, cleans_up })
}

/// Adds the tokens that the settings have and the tokenizer hasn't, or has with other flags.
fn add_tokens(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<()> {
    let present = tokenizer.get_added_tokens_decoder();
    let special = settings.special_tokens()?;
    let names: HashSet<&str> = special.iter().map(|(_, token)| token.content.as_str()).collect();
    let mut known: HashSet<String> = present.values().map(|token| token.content.clone()).collect();
    let mut missing = Vec::new();
    for token in settings.added_tokens.values() {
        if !present.values().any(|other| other == token && other.special == token.special) {
            known.insert(token.content.clone());
            missing.push(token.clone());
        }
    }
    for (_, token) in &special {
        if known.insert(token.content.clone()) {
            missing
                .push(token.added.clone().unwrap_or_else(|| AddedToken::from(token.content.clone(), true)));
        }
    }
    for token in &mut missing {
        token.special |= names.contains(token.content.as_str());
    }
    let added = tokenizer.add_tokens(missing);
    added.map(drop).map_err(|error| Error::config(&settings.origin, error.to_string()))
}

/// A part of a tokenizer in the form that tokenizer.json has it.
pub(super) fn component<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::config(TOKENIZER, error.to_string()))
}

/// Rebuilds what the class makes from its arguments, whatever tokenizer.json says.
fn apply_arguments(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<()> {
    tokenizer.set_encode_special_tokens(settings.flag("split_special_tokens")?.unwrap_or(false));
    if let Some(PreTokenizerWrapper::ByteLevel(byte_level)) = tokenizer.get_pre_tokenizer() {
        let prefix = settings.flag("add_prefix_space")?.unwrap_or(false);
        let byte_level = byte_level.add_prefix_space(prefix);
        tokenizer.with_pre_tokenizer(Some(byte_level));
    }
    match settings.class {
        Class::Bert => {
            if let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() {
                let mut normalizer = *normalizer;
                normalizer.lowercase = settings.flag("do_lower_case")?.unwrap_or(true);
                normalizer.strip_accents = settings.flag("strip_accents")?;
                normalizer.handle_chinese_chars = settings.flag("tokenize_chinese_chars")?.unwrap_or(true);
                tokenizer
                    .with_normalizer(Some(normalizer))
                    .map_err(|error| Error::config(&settings.origin, error.to_string()))?;
            }
        }
        Class::Gemma => {
            let bos = settings.flag("add_bos_token")?.unwrap_or(true).then_some("bos_token");
            let eos = settings.flag("add_eos_token")?.unwrap_or(false).then_some("eos_token");
            let token = |role: Option<&str>| match role {
                None => Ok(None),
                Some(role) => match settings.token(role)? {
                    Some(token) => Ok(Some(token.content)),
                    None => settings.fail(format!("`add_{role}` is set and there is no `{role}`")),
                },
            };
            surround(tokenizer, settings, token(bos)?.as_slice(), token(eos)?.as_slice())?;
        }
        Class::Nllb => {
            let language = settings.text("src_lang")?.unwrap_or("eng_Latn").to_owned();
            set_language(tokenizer, settings, &language)?;
        }
        Class::Roberta | Class::XlmRoberta | Class::T5 | Class::Clip | Class::Plain => {}
    }
    Ok(())
}

/// Makes NLLB's tokens around a text say that it is in `language`.
pub(super) fn set_language(tokenizer: &mut Tokenizer, settings: &Settings, language: &str) -> Result<()> {
    if settings.class != Class::Nllb {
        return settings.fail(format!(
            "language `{language}` was asked for, and this tokenizer has no languages: only those of NLLB models do"
        ));
    }
    let is_language = super::nllb_languages().any(|known| known == language)
        || settings.special_tokens()?.iter().any(|(_, token)| token.content == language);
    if !is_language || tokenizer.token_to_id(language).is_none() {
        return settings.fail(format!(
            "`{language}` is not a language of this tokenizer; they are written like eng_Latn, fra_Latn or zho_Hans"
        ));
    }
    let Some(eos) = settings.token("eos_token")? else { return settings.fail("there is no `eos_token`") };
    match settings.flag("legacy_behaviour")?.unwrap_or(false) {
        true => surround(tokenizer, settings, &[], &[eos.content, language.to_owned()]),
        false => surround(tokenizer, settings, &[language.to_owned()], &[eos.content]),
    }
}

/// Puts `before` and `after` around every text.
pub(super) fn surround(
    tokenizer: &mut Tokenizer,
    settings: &Settings,
    before: &[String],
    after: &[String],
) -> Result<()> {
    let special = |id: &String| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let mut special_tokens = serde_json::Map::new();
    for token in before.iter().chain(after) {
        let Some(id) = tokenizer.token_to_id(token) else {
            return settings.fail(format!("`{token}` is not in the vocabulary"));
        };
        special_tokens.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
    }
    let template = |texts: &[&str]| -> Value {
        let texts = texts.iter().map(|id| sequence(id));
        before.iter().map(special).chain(texts).chain(after.iter().map(special)).collect()
    };
    let processor: PostProcessorWrapper = component(json!({
        "type": "TemplateProcessing",
        "single": template(&["A"]),
        "pair": template(&["A", "B"]),
        "special_tokens": special_tokens,
    }))?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}
