//! Hugging Face tokenizers, with the wrapper that the reference puts around them (`HFTokenizer` of open_clip's
//! `tokenizer.py`): cleaning, cutting and padding to a context length, separators that are taken out, class tokens of
//! CLIPS, languages of NLLB.
//!
//! A tokenizer comes from tokenizer.json, or from the vocabulary alone where a repository has no more, and is set up as
//! `transformers` 4.57 does it.

mod assemble;
mod charsmap;
mod class;
#[cfg(test)]
mod conformance;
mod convert;
mod files;
mod sentencepiece;
mod settings;
#[cfg_attr(not(feature = "sentencepiece"), path = "no_slow.rs")]
mod slow;

use openclip_core::{Error, Result, TokenBatch};
use serde_json::{Map, Value};
use tokenizers::{Encoding, PostProcessor, TruncationDirection};

use self::{
    assemble::{Assembled, assemble, set_language},
    class::Class,
    settings::Settings,
    slow::Slow,
};
use super::{Clean, Tokenizer};

pub use files::TokenizerFiles;

/// The languages of NLLB, by the codes that are its tokens.
fn nllb_languages() -> impl Iterator<Item = &'static str> {
    include_str!("nllb_languages.txt").split_whitespace()
}

/// How a Hugging Face tokenizer is used.
#[derive(Clone, Debug, Default)]
pub struct HuggingFaceOptions {
    /// Tokens per text.
    pub context_length: usize,
    /// The configuration's `tokenizer_mode`: nothing, or `clips`.
    pub mode: Option<String>,
    /// The configuration's `tokenizer_kwargs`: `clean`, `strip_sep_token`, `language`, and arguments of the tokenizer
    /// itself.
    pub arguments: Map<String, Value>,
    /// The language of the texts, before the one in `arguments`.
    pub language: Option<String>,
}

/// A tokenizer of the Hugging Face hub.
pub struct HuggingFaceTokenizer {
    tokenizer: tokenizers::Tokenizer,
    /// Encodes in place of `tokenizer`.
    slow: Option<Slow>,
    clean: Clean,
    context_length: usize,
    special: SpecialIds,
    pad: u32,
    pads_left: bool,
    truncation: TruncationDirection,
    /// The separator, where it is replaced by zero.
    stripped: Option<u32>,
    /// The tokens of CLIPS: start, end, class.
    clips: Option<[u32; 3]>,
    cleans_up: bool,
    marks_word_ends: bool,
}

/// Ids of special tokens by role.
struct SpecialIds {
    bos: Option<u32>,
    eos: Option<u32>,
    sep: Option<u32>,
}

impl HuggingFaceTokenizer {
    /// Reads the tokenizer in `files`.
    ///
    /// # Errors
    /// [`Error::Config`] when a file is damaged, missing or of a kind that isn't supported, when an option makes no sense
    /// for this tokenizer, or when a token that is needed isn't in the vocabulary; [`Error::InvalidArgument`] for a context
    /// length of 0, [`Error::Io`].
    pub fn open(files: &TokenizerFiles, options: &HuggingFaceOptions) -> Result<Self> {
        if options.context_length == 0 {
            return Err(Error::InvalidArgument(
                "context length 0 holds no token; it must be at least 1".into(),
            ));
        }
        let mut arguments = options.arguments.clone();
        let clean = match text_of(&mut arguments, "clean")? {
            Some(name) => name.parse()?,
            None => Clean::Whitespace,
        };
        let strip_sep_token = match arguments.remove("strip_sep_token") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => return Err(bad_argument("strip_sep_token", "true or false", &other)),
        };
        let language = text_of(&mut arguments, "language")?;
        let language = options.language.clone().or(language);
        let settings = Settings::read(files, &arguments)?;
        let Assembled { mut tokenizer, pads_left, truncates_left, pad_token, cleans_up } =
            assemble(files, &settings)?;
        let slow = match settings.flag("use_fast")? {
            Some(false) => Some(Slow::new(files, &settings, &tokenizer)?),
            Some(true) | None => None,
        };
        if let Some(language) = language {
            set_language(&mut tokenizer, &settings, &language)?;
        }
        let id = |role: &str| -> Result<Option<u32>> {
            match settings.token(role)? {
                None => Ok(None),
                Some(token) => match tokenizer.token_to_id(&token.content) {
                    Some(id) => Ok(Some(id)),
                    None => settings.fail(format!("`{role}` {} is not in the vocabulary", token.content)),
                },
            }
        };
        let needed = |role: &str, reason: &str| match id(role)? {
            Some(id) => Ok(id),
            None => settings.fail(format!("there is no `{role}`, which {reason} needs")),
        };
        let Some(pad) = pad_token.and_then(|token| tokenizer.token_to_id(&token)) else {
            return settings.fail("there is no `pad_token`, so texts can't be brought to one length");
        };
        let clips = match options.mode.as_deref() {
            None | Some("") => None,
            Some("clips") => {
                let needed = |role| needed(role, "`tokenizer_mode` clips");
                Some([needed("bos_token")?, needed("eos_token")?, needed("cls_token")?])
            }
            Some(other) => {
                let message = format!("`tokenizer_mode` {other:?} is unknown; there is `clips`");
                return Err(Error::config("text_cfg", message));
            }
        };
        let stripped = if strip_sep_token { Some(needed("sep_token", "`strip_sep_token`")?) } else { None };
        let special = SpecialIds { bos: id("bos_token")?, eos: id("eos_token")?, sep: id("sep_token")? };
        Ok(Self {
            clean,
            context_length: options.context_length,
            special,
            pad,
            pads_left,
            truncation: if truncates_left { TruncationDirection::Left } else { TruncationDirection::Right },
            stripped,
            clips,
            cleans_up,
            marks_word_ends: settings.class == Class::Clip,
            slow,
            tokenizer,
        })
    }

    /// The tokens of a text that is clean already, without those that every text has.
    fn encode_clean(&self, text: &str) -> Result<Encoding> {
        let encoding = match &self.slow {
            Some(slow) => slow.encode(&self.tokenizer, text),
            None => self.tokenizer.encode_fast(text, false),
        };
        encoding.map_err(|error| failed(text, &error))
    }

    /// The ids of `text`, cut and padded to `context_length`.
    fn row(&self, text: &str, context_length: usize) -> Result<Vec<u32>> {
        let mut encoding = self.encode_clean(&self.clean.apply(text))?;
        let mut ids = match self.clips {
            Some([bos, eos, class]) => {
                let kept = encoding.get_ids().iter().copied().take(context_length.saturating_sub(3));
                let mut ids: Vec<u32> = [bos].into_iter().chain(kept).chain([eos]).collect();
                ids.resize(context_length - 1, self.pad);
                ids.push(class);
                return Ok(ids);
            }
            None => {
                let around =
                    self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
                let Some(room) = context_length.checked_sub(around) else {
                    return Err(Error::InvalidArgument(format!(
                        "context length {context_length} doesn't hold the {around} tokens that every text has"
                    )));
                };
                encoding.truncate(room, 0, self.truncation);
                let ended =
                    self.slow.as_ref().is_some_and(|slow| slow.is_ended_by(encoding.get_ids().last()));
                let encoding = self.tokenizer.post_process(encoding, None, !ended);
                encoding.map_err(|error| failed(text, &error))?.get_ids().to_vec()
            }
        };
        if ids.len() > context_length {
            return Err(Error::InvalidArgument(format!(
                "the tokenizer gives {} tokens where {context_length} were asked for",
                ids.len()
            )));
        }
        let missing = context_length - ids.len();
        let padding = std::iter::repeat_n(self.pad, missing);
        match self.pads_left {
            true => ids = padding.chain(ids).collect(),
            false => ids.extend(padding),
        }
        if let Some(separator) = self.stripped {
            ids.iter_mut().filter(|id| **id == separator).for_each(|id| *id = 0);
        }
        Ok(ids)
    }
}

/// Takes the argument `name` out, which has to be a text.
fn text_of(arguments: &mut Map<String, Value>, name: &str) -> Result<Option<String>> {
    match arguments.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(bad_argument(name, "a text", &other)),
    }
}

fn bad_argument(name: &str, expected: &str, found: &Value) -> Error {
    Error::config("text_cfg", format!("`tokenizer_kwargs` has `{name}` {found}; it must be {expected}"))
}

fn failed(text: &str, error: &tokenizers::Error) -> Error {
    let start: String = text.chars().take(40).collect();
    Error::InvalidArgument(format!("the tokenizer can't encode the text that starts {start:?}: {error}"))
}

impl Tokenizer for HuggingFaceTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_clean(&self.clean.apply(text))?.get_ids().to_vec())
    }

    /// Tokens that every text has are kept when a text is cut.
    fn tokenize_with_context_length(&self, texts: &[&str], context_length: usize) -> Result<TokenBatch> {
        if context_length == 0 {
            return Err(Error::InvalidArgument(
                "context length 0 holds no token; it must be at least 1".into(),
            ));
        }
        let mut ids = Vec::with_capacity(texts.len() * context_length);
        for text in texts {
            ids.extend(self.row(text, context_length)?);
        }
        TokenBatch::new(texts.len(), context_length, ids)
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(Error::InvalidArgument(format!(
                "token id {id} is not in the vocabulary of {} tokens",
                self.vocab_size()
            )));
        }
        let mut text = self
            .tokenizer
            .decode(ids, false)
            .map_err(|error| Error::InvalidArgument(format!("the ids can't be decoded: {error}")))?;
        if self.marks_word_ends {
            text = text.replace("</w>", " ").trim().to_owned();
        }
        Ok(if self.cleans_up { without_spaces_before_signs(text) } else { text })
    }

    fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn sot_token_id(&self) -> Option<u32> {
        self.special.bos
    }

    fn eot_token_id(&self) -> Option<u32> {
        self.special.eos.or(self.special.sep)
    }

    fn pad_token_id(&self) -> u32 {
        self.pad
    }
}

/// Takes out the spaces that decoding puts before signs and contractions, where the tokenizer's configuration asks for it.
fn without_spaces_before_signs(mut text: String) -> String {
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        text = text.replace(from, to);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn open(name: &str, mode: Option<&str>, arguments: Value) -> Result<HuggingFaceTokenizer> {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/tokenizer/huggingface").join(name);
        let options = HuggingFaceOptions {
            context_length: 8,
            mode: mode.map(str::to_owned),
            arguments: arguments.as_object().cloned().unwrap_or_default(),
            language: None,
        };
        HuggingFaceTokenizer::open(&TokenizerFiles::in_folder(&folder), &options)
    }

    #[test]
    fn options_that_make_no_sense_are_errors() {
        for (name, mode, arguments, part) in [
            ("bert", Some("clap"), json!({}), "`tokenizer_mode` \"clap\" is unknown"),
            ("bert", Some("clips"), json!({}), "there is no `bos_token`, which `tokenizer_mode` clips needs"),
            (
                "mt5",
                None,
                json!({"strip_sep_token": true}),
                "there is no `sep_token`, which `strip_sep_token` needs",
            ),
            ("bert", None, json!({"strip_sep_token": 1}), "must be true or false"),
            ("bert", None, json!({"clean": "upper"}), "clean mode \"upper\" is unknown"),
            ("bert", None, json!({"language": "eng_Latn"}), "this tokenizer has no languages"),
            ("nllb", None, json!({"language": "eng"}), "`eng` is not a language of this tokenizer"),
            ("nllb", None, json!({"src_lang": "<mask"}), "`<mask` is not a language of this tokenizer"),
            ("bert", None, json!({"no_such_option": true}), "`tokenizer_kwargs` has `no_such_option`"),
            ("bert", None, json!({"pad_token": null}), "there is no `pad_token`"),
            ("bert", None, json!({"padding_side": "top"}), "`padding_side` must be left or right"),
            ("bert", None, json!({"use_fast": false}), "`use_fast` is false"),
            (
                "siglip",
                None,
                json!({"use_fast": false}),
                "the tokenizer has no tokenizer.json and no spiece.model",
            ),
            ("gemma", None, json!({"bos_token": null, "add_bos_token": true}), "there is no `bos_token`"),
            (
                "siglip",
                None,
                json!({"add_prefix_space": true}),
                "the tokenizer has no tokenizer.json and no spiece.model",
            ),
            ("t5", None, json!({"extra_ids": 1_000_000}), "`extra_ids` is 1000000"),
            ("nothing", None, json!({}), "no file says what class the tokenizer is of"),
        ] {
            let error = open(name, mode, arguments.clone()).err().unwrap().to_string();
            assert!(error.contains(part), "{name} {arguments}: {error}");
        }
    }

    #[test]
    fn a_language_is_the_token_before_a_text() {
        let by_option = open("nllb", None, json!({"language": "deu_Latn"})).unwrap();
        let by_source = open("nllb", None, json!({"src_lang": "deu_Latn"})).unwrap();
        let ids = by_option.tokenize(&["ein Hund"]).unwrap();
        assert_eq!(ids, by_source.tokenize(&["ein Hund"]).unwrap());
        assert_eq!(ids.ids().first().copied(), by_option.tokenizer.token_to_id("deu_Latn"));
        assert_ne!(ids, open("nllb", None, json!({})).unwrap().tokenize(&["ein Hund"]).unwrap());
    }

    #[test]
    fn the_tokens_of_every_text_have_to_fit() {
        let tokenizer = open("bert", None, json!({})).unwrap();
        assert!(tokenizer.tokenize_with_context_length(&["a"], 0).is_err());
        let error = tokenizer.tokenize_with_context_length(&["a"], 1).unwrap_err().to_string();
        assert!(error.contains("doesn't hold the 2 tokens that every text has"), "{error}");
        assert_eq!(tokenizer.tokenize_with_context_length(&["a"], 2).unwrap().ids(), [2, 3]);
        let clips = open("bert-saved", Some("clips"), json!({})).unwrap();
        for (length, expected) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            assert_eq!(clips.tokenize_with_context_length(&["a b"], length).unwrap().length(), expected);
        }
        assert_eq!(tokenizer.tokenize(&[]).unwrap().rows(), 0);
        assert!(
            tokenizer
                .decode(&[900])
                .unwrap_err()
                .to_string()
                .contains("token id 900 is not in the vocabulary")
        );
    }
}
