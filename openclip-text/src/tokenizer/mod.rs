//! From texts to token ids: the [`Tokenizer`] trait, the cleaning that goes before every tokenizer, and the byte-pair
//! tokenizer of CLIP models, and Hugging Face tokenizers.

mod bpe;
mod clean;
mod clip;
#[cfg(test)]
mod conformance;
mod huggingface;
mod split;
mod unicode;

use openclip_core::{Result, TokenBatch};

pub use clean::{Clean, fix_text, unescape_html};
pub use clip::{ClipTokenizer, ClipTokenizerBuilder};
pub use huggingface::{HuggingFaceOptions, HuggingFaceTokenizer, TokenizerFiles};

/// Turns texts into the token ids that a text tower takes, and back.
pub trait Tokenizer: Send + Sync {
    /// The ids of one text, cleaned, without start and end tokens, padding or truncation.
    ///
    /// # Errors
    /// Whatever keeps the tokenizer from encoding `text`.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// The ids of `texts`, each with its start and end tokens, cut or padded to `context_length` tokens.
    ///
    /// # Shapes
    /// Returns `[N, L]`, `L` being `context_length`.
    ///
    /// # Errors
    /// [`InvalidArgument`](openclip_core::Error::InvalidArgument) when `context_length` is too small for the tokens
    /// that every text has; whatever keeps the tokenizer from encoding a text.
    fn tokenize_with_context_length(&self, texts: &[&str], context_length: usize) -> Result<TokenBatch>;

    /// The ids of `texts`, each with its start and end tokens, cut or padded to the tokenizer's context length.
    ///
    /// # Shapes
    /// Returns `[N, L]`, `L` being [`context_length`](Self::context_length).
    ///
    /// # Errors
    /// Those of [`tokenize_with_context_length`](Self::tokenize_with_context_length).
    fn tokenize(&self, texts: &[&str]) -> Result<TokenBatch> {
        self.tokenize_with_context_length(texts, self.context_length())
    }

    /// The text of `ids`, in which start and end tokens and padding are spelled out.
    ///
    /// # Errors
    /// [`InvalidArgument`](openclip_core::Error::InvalidArgument) when an id isn't in the vocabulary.
    fn decode(&self, ids: &[u32]) -> Result<String>;

    /// Number of ids, special tokens included; every id is smaller.
    fn vocab_size(&self) -> usize;

    /// Number of tokens per text in a batch, unless another one is asked for.
    fn context_length(&self) -> usize;

    /// Id of the token that starts a text, where the tokenizer has one.
    fn sot_token_id(&self) -> Option<u32>;

    /// Id of the token that ends a text, where the tokenizer has one.
    fn eot_token_id(&self) -> Option<u32>;

    /// Id that fills up texts shorter than the context length.
    fn pad_token_id(&self) -> u32;
}
