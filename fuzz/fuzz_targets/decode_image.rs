//! Any bytes as an image file: every one is an image or an error that names it, however much of it is decoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_vision::preprocess::{
    DecodeOptions, DecodedImage, ImageError, ImageSize, PreprocessConfig, Preprocessor,
};

fuzz_target!(|bytes: &[u8]| {
    // A small limit keeps a run fast; whether it is kept is part of what is tried.
    let options = DecodeOptions::default().with_max_pixels(1 << 20);
    // A panic in a decoder is caught and reported as this; the one of JPEGs is ours and has none.
    let is_jpeg = bytes.starts_with(b"\xff\xd8\xff");
    let whole = |error: &ImageError| {
        assert!(!is_jpeg || !error.to_string().contains("its decoder failed"), "{error}");
    };
    let config = PreprocessConfig { size: ImageSize::Square(16), ..PreprocessConfig::default() };
    let preprocessor = Preprocessor::new(config).expect("a valid configuration");
    for fast in [false, true] {
        let part = preprocessor.prepare_bytes("fuzz", bytes, &options.with_fast(fast));
        part.as_ref().err().into_iter().for_each(whole);
    }
    if let Ok(image) = DecodedImage::from_bytes_with("fuzz", bytes, &options) {
        assert!(image.width() as u64 * image.height() as u64 <= 1 << 20);
    }
});
