//! In place of SentencePiece's own library, where the cargo feature `sentencepiece` is off.

use openclip_core::Result;
use tokenizers::{Encoding, Tokenizer};

use super::{files::TokenizerFiles, settings::Settings};

/// Nothing: such a tokenizer can't be made.
pub(super) enum Slow {}

impl Slow {
    pub(super) fn new(_: &TokenizerFiles, settings: &Settings, _: &Tokenizer) -> Result<Self> {
        settings.fail(
            "`use_fast` is false: build with the feature `sentencepiece` for SentencePiece's own library",
        )
    }

    pub(super) fn is_ended_by(&self, _: Option<&u32>) -> bool {
        match *self {}
    }

    pub(super) fn encode(&self, _: &Tokenizer, _: &str) -> tokenizers::Result<Encoding> {
        match *self {}
    }
}
