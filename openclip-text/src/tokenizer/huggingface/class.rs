//! The classes of `transformers` that a tokenizer can be of, and what a class adds to the files: special tokens, the side
//! of padding, and parts of the tokenizer that are rebuilt from its arguments.

use openclip_core::{Error, Result};
use serde_json::Value;
use tokenizers::AddedToken;

use super::{
    files::{MODEL_CONFIG, TOKENIZER_CONFIG, TokenizerFiles},
    settings::SpecialToken,
};

/// What kind of tokenizer the files describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Bert,
    Roberta,
    XlmRoberta,
    T5,
    Nllb,
    Gemma,
    Clip,
    /// No more than what is in tokenizer.json.
    Plain,
}

/// Classes by name, without the ending `Fast`.
const NAMES: [(&str, Class); 11] = [
    ("BertTokenizer", Class::Bert),
    ("DistilBertTokenizer", Class::Bert),
    ("ElectraTokenizer", Class::Bert),
    ("RobertaTokenizer", Class::Roberta),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
    ("T5Tokenizer", Class::T5),
    ("MT5Tokenizer", Class::T5),
    ("NllbTokenizer", Class::Nllb),
    ("GemmaTokenizer", Class::Gemma),
    ("CLIPTokenizer", Class::Clip),
    ("PreTrainedTokenizer", Class::Plain),
];

/// Classes by the `model_type` of a model's configuration.
const MODEL_TYPES: [(&str, Class); 9] = [
    ("bert", Class::Bert),
    ("distilbert", Class::Bert),
    ("electra", Class::Bert),
    ("roberta", Class::Roberta),
    ("xlm-roberta", Class::XlmRoberta),
    ("t5", Class::T5),
    ("mt5", Class::T5),
    ("gemma", Class::Gemma),
    ("clip", Class::Clip),
];

impl Class {
    /// The class that the tokenizer's configuration names, else the one that goes with the model's configuration.
    pub(super) fn of(files: &TokenizerFiles, config: &Value) -> Result<Self> {
        let named = |value: &Value| value.get("tokenizer_class").and_then(Value::as_str).map(str::to_owned);
        let model: Value = files.read_json(MODEL_CONFIG)?.unwrap_or_default();
        if let Some(name) = named(config).or_else(|| named(&model)) {
            let plain = name.strip_suffix("Fast").unwrap_or(&name);
            let found = NAMES.iter().find(|(known, _)| *known == plain);
            return found.map(|&(_, class)| class).ok_or_else(|| {
                let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
                let message = format!(
                    "the tokenizer's class `{name}` isn't supported; these are: {}",
                    known.join(", ")
                );
                Error::config(files.origin(), message)
            });
        }
        let model_type = model.get("model_type").and_then(Value::as_str);
        let found = MODEL_TYPES.iter().find(|(known, _)| Some(*known) == model_type);
        found.map(|&(_, class)| class).ok_or_else(|| {
            let message = format!(
                "no file says what class the tokenizer is of: {TOKENIZER_CONFIG} needs a `tokenizer_class`, or \
                 {MODEL_CONFIG} a known `model_type`"
            );
            Error::config(files.origin(), message)
        })
    }

    /// The special token that stands for `role` where no file says otherwise.
    pub(super) fn default_token(self, role: &str) -> Option<SpecialToken> {
        let name = match (self, role) {
            (Self::Plain, _) => return None,
            (Self::Bert, "unk_token") => "[UNK]",
            (Self::Bert, "sep_token") => "[SEP]",
            (Self::Bert, "pad_token") => "[PAD]",
            (Self::Bert, "cls_token") => "[CLS]",
            (Self::Bert, "mask_token") => "[MASK]",
            (Self::Bert, _) => return None,
            (Self::Clip, "bos_token") => "<|startoftext|>",
            (Self::Clip, "eos_token" | "unk_token" | "pad_token") => "<|endoftext|>",
            (Self::Clip, _) => return None,
            (Self::Gemma, "bos_token") => "<bos>",
            (Self::Gemma, "eos_token") => "<eos>",
            (_, "unk_token") => "<unk>",
            (_, "pad_token") => "<pad>",
            (Self::Gemma, _) => return None,
            (_, "eos_token") => "</s>",
            (Self::T5, _) => return None,
            (_, "bos_token" | "cls_token") => "<s>",
            (_, "sep_token") => "</s>",
            (_, "mask_token") => "<mask>",
            _ => return None,
        };
        let mask = role == "mask_token";
        Some(match self {
            // The mask takes the space before it along.
            Self::Roberta if mask => {
                SpecialToken::added(AddedToken::from(name, false).lstrip(true).normalized(false))
            }
            Self::XlmRoberta if mask => SpecialToken::added(AddedToken::from(name, false).lstrip(true)),
            Self::Nllb if mask => {
                SpecialToken::added(AddedToken::from(name, true).lstrip(true).normalized(true))
            }
            _ => SpecialToken::plain(name),
        })
    }

    /// Whether texts are padded at their left where no file says otherwise.
    pub(super) fn pads_left(self) -> bool {
        self == Self::Gemma
    }
}
