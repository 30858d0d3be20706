//! Any text through cleaning and the tokenizer and back: every id is in the vocabulary.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openclip_text::{ClipTokenizer, Tokenizer};

static TOKENIZER: LazyLock<ClipTokenizer> =
    LazyLock::new(|| ClipTokenizer::new().expect("the bundled vocabulary is sound"));

fuzz_target!(|text: &str| {
    let ids = TOKENIZER.encode(text).expect("every text can be encoded");
    assert!(ids.iter().all(|&id| (id as usize) < TOKENIZER.vocab_size()));
    TOKENIZER.decode(&ids).expect("ids of a text can be decoded");
});
