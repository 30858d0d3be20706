//! Preprocessing of a photograph of 640x427 pixels on one thread: decoding alone, resizing with cropping and normalising
//! alone, and all of it together, which leaves out the decoding of what is cropped. `PHOTO=FILE` measures another image.
//!
//! `rocket.jpg` is a photograph of a launch by SpaceX that was put into the public domain (CC0), as scikit-image has it.

#![allow(missing_docs, clippy::expect_used, clippy::panic)] // a benchmark, whose macros make items

use criterion::{Criterion, criterion_group, criterion_main};
use openclip_vision::preprocess::{DecodeOptions, DecodedImage, PreprocessConfig, Preprocessor};

fn photo() -> Vec<u8> {
    match std::env::var("PHOTO") {
        Ok(path) => std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")),
        Err(_) => include_bytes!("rocket.jpg").to_vec(),
    }
}

fn stages(criterion: &mut Criterion) {
    let photo = photo();
    let preprocessor = Preprocessor::new(PreprocessConfig::default()).expect("the default is valid");
    let image = DecodedImage::from_bytes("photo", &photo).expect("a JPEG");
    let mut output = vec![0.0; preprocessor.output_len()];
    let mut group = criterion.benchmark_group("preprocess");
    group.bench_function("decode", |bencher| bencher.iter(|| DecodedImage::from_bytes("photo", &photo)));
    group.bench_function("transform", |bencher| {
        bencher.iter(|| preprocessor.prepare_into(&image, &mut output))
    });
    group.bench_function("both", |bencher| {
        bencher.iter(|| preprocessor.prepare_bytes("photo", &photo, &DecodeOptions::default()));
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
