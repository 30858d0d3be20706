//! Any bytes as an image file: every one is an image or an error that names it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_vision::preprocess::{DecodeOptions, DecodedImage};

fuzz_target!(|bytes: &[u8]| {
    // A small limit keeps a run fast; whether it is kept is part of what is tried.
    let options = DecodeOptions::default().with_max_pixels(1 << 20);
    if let Ok(image) = DecodedImage::from_bytes_with("fuzz", bytes, &options) {
        assert!(image.width() as u64 * image.height() as u64 <= 1 << 20);
    }
});
