//! The tokenizer of a model, and whether it fits the text tower.

use openclip_core::TextInfo;
use openclip_text::{ClipTokenizer, HuggingFaceOptions, HuggingFaceTokenizer, Tokenizer, TokenizerFiles};
use openclip_zoo::TokenizerInfo;

use crate::{Error, Result};

/// Which tokenizer, before it is read.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// What the model is called in messages.
    pub(super) model: &'a str,
    /// What the model's configuration says.
    pub(super) info: &'a TokenizerInfo,
    /// The files of a Hugging Face tokenizer; without them it is CLIP's own.
    pub(super) files: Option<&'a TokenizerFiles>,
    /// The language of the texts.
    pub(super) language: Option<&'a str>,
}

impl Choice<'_> {
    /// The tokenizer for `tower`.
    pub(super) fn open(&self, tower: &TextInfo) -> Result<Box<dyn Tokenizer>> {
        let tokenizer = match self.files {
            Some(files) => self.hugging_face(files, tower)?,
            None => self.clip(tower)?,
        };
        match fault(tokenizer.as_ref(), tower) {
            Some(fault) => self.fail(format!("{fault}: this is not the model's tokenizer")),
            None => Ok(tokenizer),
        }
    }

    fn clip(&self, tower: &TextInfo) -> Result<Box<dyn Tokenizer>> {
        if let Some(language) = self.language {
            return self.fail(format!(
                "language `{language}` was asked for, and this model has no languages: only those of the NLLB family do"
            ));
        }
        let mut builder = ClipTokenizer::builder().context_length(tower.context_length);
        for (option, value) in &self.info.options {
            builder = match (option.as_str(), value.as_str()) {
                ("clean", Some(clean)) => builder.clean(clean.parse()?),
                _ => return self.fail(format!("unknown option `{option}`: {value}")),
            };
        }
        Ok(Box::new(builder.build()?))
    }

    fn hugging_face(&self, files: &TokenizerFiles, tower: &TextInfo) -> Result<Box<dyn Tokenizer>> {
        let options = HuggingFaceOptions {
            context_length: tower.context_length,
            mode: self.info.mode.clone(),
            arguments: self.info.options.clone(),
            language: self.language.map(str::to_owned),
        };
        Ok(Box::new(HuggingFaceTokenizer::open(files, &options)?))
    }

    fn fail<T>(&self, message: String) -> Result<T> {
        Err(Error::Tokenizer { model: self.model.to_owned(), message })
    }
}

/// Why `tokenizer` can't be the one that `tower` was trained with, if it can't.
fn fault(tokenizer: &dyn Tokenizer, tower: &TextInfo) -> Option<String> {
    if tokenizer.vocab_size() > tower.vocab_size {
        return Some(format!(
            "it has {} ids, the text tower only {}",
            tokenizer.vocab_size(),
            tower.vocab_size
        ));
    }
    if let Some(pad) = tower.pad_id
        && tokenizer.pad_token_id() != pad
    {
        return Some(format!("it pads with {}, the text tower expects {pad}", tokenizer.pad_token_id()));
    }
    if let Some(eos) = tower.eos_id
        && tokenizer.eot_token_id() != Some(eos)
    {
        let found = tokenizer.eot_token_id().map_or_else(|| "nothing".to_owned(), |id| id.to_string());
        return Some(format!("it ends texts with {found}, the text tower looks for {eos}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use openclip_core::TextReach;

    use super::*;

    #[test]
    fn a_tokenizer_has_to_fit_the_tower() {
        let tokenizer = ClipTokenizer::new().unwrap();
        let tower = TextInfo {
            context_length: 77,
            vocab_size: 49408,
            embed_dim: 8,
            reach: TextReach::Whole,
            pad_id: Some(0),
            eos_id: Some(49407),
        };
        assert_eq!(fault(&tokenizer, &tower), None);
        for (tower, part) in [
            (TextInfo { vocab_size: 49407, ..tower.clone() }, "it has 49408 ids, the text tower only 49407"),
            (TextInfo { pad_id: Some(1), ..tower.clone() }, "it pads with 0, the text tower expects 1"),
            (
                TextInfo { eos_id: Some(2), ..tower.clone() },
                "it ends texts with 49407, the text tower looks for 2",
            ),
        ] {
            assert_eq!(fault(&tokenizer, &tower).as_deref(), Some(part));
        }
    }
}
