//! What the files and the caller say about a tokenizer, put together as `transformers` does it: the tokenizer's
//! configuration, then the caller's arguments, then, for old configurations, the map of special tokens.

use std::collections::BTreeMap;

use openclip_core::{Error, Result};
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::{
    class::Class,
    files::{ADDED_TOKENS, SPECIAL_TOKENS, TOKENIZER_CONFIG, TokenizerFiles},
};

/// The roles that special tokens have, in the order in which they are added to a vocabulary.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Special tokens without a role.
const OTHERS: &str = "additional_special_tokens";

/// Arguments that a caller may give; in a tokenizer's configuration there is more, which has no effect on ids.
const ARGUMENTS: [&str; 20] = [
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "clean_up_tokenization_spaces",
    "do_lower_case",
    "extra_ids",
    "from_slow",
    "legacy",
    "legacy_behaviour",
    "model_max_length",
    "padding_side",
    "split_special_tokens",
    "src_lang",
    "strip_accents",
    "tgt_lang",
    "tokenize_chinese_chars",
    "trim_offsets",
    "truncation_side",
    "use_fast",
    OTHERS,
];

/// A special token: its content, and how it is found in a text where that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpecialToken {
    pub(super) content: String,
    pub(super) added: Option<AddedToken>,
}

impl SpecialToken {
    /// A token that is found as it stands.
    pub(super) fn plain(content: &str) -> Self {
        Self { content: content.to_owned(), added: None }
    }

    /// A token with its own way of being found.
    pub(super) fn added(token: AddedToken) -> Self {
        Self { content: token.content.clone(), added: Some(token) }
    }

    /// A string, or an object in the manner of `AddedToken`.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self::plain(content)),
            Value::Object(_) => added_token(value).map(Self::added),
            _ => None,
        }
    }
}

/// An `AddedToken` as files have it.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    let token = AddedToken::from(value.get("content")?.as_str()?, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false));
    Some(match flag("normalized") {
        Some(normalized) => token.normalized(normalized),
        None => token,
    })
}

/// Everything that is said about a tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The tokenizer's class.
    pub(super) class: Class,
    /// Where the files are, for messages.
    pub(super) origin: String,
    /// Tokens that go beside the vocabulary, by id.
    pub(super) added_tokens: BTreeMap<u32, AddedToken>,
    values: Map<String, Value>,
}

impl Settings {
    /// The settings of `files` with the caller's `arguments`.
    pub(super) fn read(files: &TokenizerFiles, arguments: &Map<String, Value>) -> Result<Self> {
        let origin = files.origin();
        let unknown = arguments
            .keys()
            .find(|name| !ARGUMENTS.contains(&name.as_str()) && !ROLES.contains(&name.as_str()));
        if let Some(name) = unknown {
            let message = format!("`tokenizer_kwargs` has `{name}`, which no tokenizer takes");
            return Err(Error::config("text_cfg", message));
        }
        let config: Option<Map<String, Value>> = files.read_json(TOKENIZER_CONFIG)?;
        let mut values = config.unwrap_or_default();
        let class = Class::of(files, &Value::Object(values.clone()))?;
        values.extend(arguments.clone());
        let mut this = Self { class, origin, added_tokens: BTreeMap::new(), values };
        match this.values.get("added_tokens_decoder").and_then(Value::as_object) {
            Some(tokens) => {
                let read = |(id, token): (&String, &Value)| Some((id.parse().ok()?, added_token(token)?));
                this.added_tokens = tokens.iter().filter_map(read).collect();
                if this.added_tokens.len() != tokens.len() {
                    return this.fail("`added_tokens_decoder` is damaged");
                }
            }
            None => this.read_older_files(files, arguments)?,
        }
        Ok(this)
    }

    /// What stands apart from the configuration in older repositories.
    fn read_older_files(&mut self, files: &TokenizerFiles, arguments: &Map<String, Value>) -> Result<()> {
        let special: Map<String, Value> = files.read_json(SPECIAL_TOKENS)?.unwrap_or_default();
        for (role, mut value) in special {
            if arguments.get(&role).is_some_and(|value| !value.is_null()) {
                continue;
            }
            match &mut value {
                Value::Object(token) => {
                    token.insert("special".to_owned(), true.into());
                }
                Value::Array(tokens) => {
                    let mut all =
                        self.values.get(&role).and_then(Value::as_array).cloned().unwrap_or_default();
                    for token in tokens.iter_mut() {
                        if let Value::Object(token) = token {
                            token.insert("special".to_owned(), true.into());
                        }
                        if !all.contains(token) {
                            all.push(token.take());
                        }
                    }
                    value = Value::Array(all);
                }
                _ => {}
            }
            self.values.insert(role, value);
        }
        let added: BTreeMap<String, u32> = files.read_json(ADDED_TOKENS)?.unwrap_or_default();
        let special: Vec<String> =
            self.special_tokens()?.into_iter().map(|(_, token)| token.content).collect();
        for (content, id) in added {
            let special = special.contains(&content);
            self.added_tokens.insert(id, AddedToken::from(content, special));
        }
        Ok(())
    }

    /// An error about these settings.
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::config(&self.origin, message.into()))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A switch, where it is set.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => self.fail(format!("`{name}` must be true or false, not {other}")),
        }
    }

    /// A text, where it is set.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.fail(format!("`{name}` must be a text, not {other}")),
        }
    }

    /// A number, where it is set.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) => Ok(Some(number)),
                None => self.fail(format!("`{name}` must be a number, not {value}")),
            },
        }
    }

    /// A side, `left` or `right`, where it is set: whether it is the left one.
    pub(super) fn is_left(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name)? {
            None => Ok(None),
            Some("left") => Ok(Some(true)),
            Some("right") => Ok(Some(false)),
            Some(other) => self.fail(format!("`{name}` must be left or right, not `{other}`")),
        }
    }

    /// The special token that stands for `role`.
    pub(super) fn token(&self, role: &str) -> Result<Option<SpecialToken>> {
        let token = match self.values.get(role) {
            // A tokenizer without this token, whatever its class has.
            Some(Value::Null) => None,
            Some(value) => match SpecialToken::read(value) {
                Some(token) => Some(token),
                None => return self.fail(format!("`{role}` is not a token: {value}")),
            },
            None => self.class.default_token(role),
        };
        Ok(token.map(|token| match self.added_tokens.values().find(|added| added.content == token.content) {
            Some(added) => SpecialToken::added(added.clone()),
            None => token,
        }))
    }

    /// Every special token with its role, in order; tokens that stand in two roles are there twice.
    pub(super) fn special_tokens(&self) -> Result<Vec<(&'static str, SpecialToken)>> {
        let mut all = Vec::new();
        for role in ROLES {
            all.extend(self.token(role)?.map(|token| (role, token)));
        }
        let mut others = match self.value(OTHERS) {
            None => match self.class {
                Class::Nllb => super::nllb_languages().map(SpecialToken::plain).collect(),
                _ => Vec::new(),
            },
            Some(Value::Array(tokens)) => {
                let read: Vec<_> = tokens.iter().filter_map(SpecialToken::read).collect();
                if read.len() != tokens.len() {
                    return self.fail(format!("`{OTHERS}` has something that is not a token"));
                }
                read
            }
            Some(other) => return self.fail(format!("`{OTHERS}` must be a list, not {other}")),
        };
        if self.class == Class::T5 && !others.iter().any(|token| token.content.contains("<extra_id_")) {
            others.extend(
                (0..self.extra_ids()?).map(|index| SpecialToken::plain(&format!("<extra_id_{index}>"))),
            );
        }
        all.extend(others.into_iter().map(|token| (OTHERS, token)));
        Ok(all)
    }

    /// Number of sentinel tokens of T5.
    pub(super) fn extra_ids(&self) -> Result<usize> {
        let count = self.number("extra_ids")?.unwrap_or(100);
        match count {
            0..=10_000 => Ok(count),
            _ => self.fail(format!("`extra_ids` is {count}, which is more than any tokenizer has")),
        }
    }
}
