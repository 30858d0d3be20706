//! Any text as a caption: tokenized without a panic, into tokens without spaces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_eval::metric::caption::tokens;

fuzz_target!(|text: &str| {
    for token in tokens(text) {
        assert!(!token.is_empty());
    }
});
