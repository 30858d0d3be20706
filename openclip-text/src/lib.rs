//! Tokenizers and text towers of OpenCLIP models.
//!
//! [`tokenizer`] turns texts into token ids, exactly as the Python reference does. [`transformer`] is the native text
//! tower and [`huggingface`] the towers of `transformers`, written over the backend seam of `openclip-core`.

pub mod huggingface;
pub mod prompts;
pub mod tokenizer;
pub mod transformer;

pub use huggingface::{HuggingFaceText, HuggingFaceTextConfig, HuggingFaceTextFamily};
pub use tokenizer::{
    Clean, ClipTokenizer, ClipTokenizerBuilder, HuggingFaceOptions, HuggingFaceTokenizer, Tokenizer,
    TokenizerFiles,
};
pub use transformer::{TextTransformer, TextTransformerConfig, TextTransformerFamily};
