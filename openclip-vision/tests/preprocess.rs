//! Preprocessing against the references in `conformance/preprocess`: modes, pixels and tensors of every file kind, and
//! that damaged files are errors, never panics.

#![allow(clippy::unwrap_used)] // helpers outside of test functions

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use openclip_vision::preprocess::{
    BatchLoader, DecodeOptions, DecodedImage, ImageError, ImageSize, ImageSource, LoaderOptions,
    PreprocessConfig, Preprocessor, ResizeMode,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/preprocess")
}

fn references() -> Value {
    serde_json::from_slice(&std::fs::read(root().join("references.json")).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(name: &str) -> Result<DecodedImage, ImageError> {
    DecodedImage::open(root().join("inputs").join(name))
}

fn inputs() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("inputs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn files_open_in_pillows_modes() {
    let references = references();
    let files = references["files"].as_object().unwrap();
    assert!(files.len() > 140);
    let failures: Vec<_> = files
        .iter()
        .filter_map(|(name, expected)| {
            let found = match open(name) {
                Ok(image) => {
                    serde_json::json!({"mode": image.mode().name(), "width": image.width(), "height": image.height()})
                }
                Err(error) => return Some(format!("{error}, expected {expected}")),
            };
            (found != *expected).then(|| format!("{name}: {found}, expected {expected}"))
        })
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn pixels_and_tensors_are_the_references() {
    let references = references();
    let images: BTreeMap<_, _> = references["files"]
        .as_object()
        .unwrap()
        .keys()
        .map(|name| (name.clone(), open(name).unwrap()))
        .collect();
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in references["cases"].as_array().unwrap() {
        let Some(image) = images.get(case["file"].as_str().unwrap()) else { continue };
        let mut fail =
            |what: &str| failures.push(format!("{what}: {} with {}", case["file"], case["config"]));
        let config = PreprocessConfig::default().merged("references.json", &case["config"]).unwrap();
        let preprocessor = Preprocessor::new(config).unwrap();
        compared += 1;
        match preprocessor.resize_and_crop(image) {
            Err(ImageError::VanishingSide { .. }) if case["error"] == true => {}
            Err(error) => fail(&error.to_string()),
            Ok(_) if case["error"] == true => fail("the reference refuses it"),
            Ok(pixels) if sha256(&pixels.data) != case["pixels"] => fail("other pixels"),
            Ok(_) => {
                let tensor = preprocessor.prepare(image).unwrap();
                let bytes: Vec<u8> = tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect();
                if sha256(&bytes) != case["tensor"] {
                    fail("other tensor");
                }
            }
        }
    }
    assert!(compared > 1000, "{compared} cases");
    assert!(failures.is_empty(), "{} of {compared} differ: {failures:#?}", failures.len());
}

/// The same as the hashes, with the first difference spelt out.
#[test]
fn whole_pixels_of_two_cases() {
    let cases = [
        (
            "size-300x217-RGB.png",
            PreprocessConfig { size: ImageSize::Square(32), ..PreprocessConfig::default() },
        ),
        (
            "png-type6-8bit.png",
            PreprocessConfig {
                size: ImageSize::Square(20),
                resize_mode: ResizeMode::Squash,
                ..PreprocessConfig::default()
            },
        ),
    ];
    for (name, config) in cases {
        let side = config.size.width();
        let dump = format!("pixels-{}-{side}.ppm", name.trim_end_matches(".png"));
        let expected = std::fs::read(root().join(dump)).unwrap();
        let expected = &expected[expected.len() - side * side * 3..];
        let found = Preprocessor::new(config).unwrap().resize_and_crop(&open(name).unwrap()).unwrap().data;
        let difference = found.iter().zip(expected).position(|(found, expected)| found != expected);
        let report = difference.map(|at| {
            let (x, y) = (at / 3 % side, at / 3 / side);
            format!("{name}: x {x}, y {y}, channel {}: {} instead of {}", at % 3, found[at], expected[at])
        });
        assert_eq!(report, None);
    }
}

fn own_size(image: &DecodedImage) -> Vec<u8> {
    let size = ImageSize::HeightWidth([image.height(), image.width()]);
    let config = PreprocessConfig { size, resize_mode: ResizeMode::Squash, ..PreprocessConfig::default() };
    Preprocessor::new(config).unwrap().resize_and_crop(image).unwrap().data
}

#[test]
fn lossy_webp_has_libwebps_pixels() {
    let image = DecodedImage::open(root().join("lossy.webp")).unwrap();
    let expected = std::fs::read(root().join("lossy.ppm")).unwrap();
    let found = own_size(&image);
    assert_eq!(found, expected[expected.len() - found.len()..]);
}

#[test]
fn jpegs_have_libjpegs_pixels() {
    for name in ["jpeg-0.jpg", "jpeg-2.jpg", "jpeg-cmyk.jpg"] {
        let expected = std::fs::read(root().join(name).with_extension("ppm")).unwrap();
        let found = own_size(&open(name).unwrap());
        let expected = &expected[expected.len() - found.len()..];
        let difference = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!(difference, None, "{name}");
    }
}

/// Single frames of Motion JPEG come without the tables that everybody uses.
#[test]
fn a_jpeg_without_huffman_tables_has_the_standard_ones() {
    let (name, bytes) = inputs().into_iter().find(|(name, _)| name == "jpeg-2.jpg").unwrap();
    let mut without = bytes[..2].to_vec();
    let mut rest = &bytes[2..];
    while rest[1] != 0xda {
        let (segment, after) = rest.split_at(2 + usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        if segment[1] != 0xc4 {
            without.extend(segment);
        }
        rest = after;
    }
    without.extend(rest);
    assert!(without.len() + 400 < bytes.len(), "the file had no tables");
    let found = DecodedImage::from_bytes(name.as_str(), &without).unwrap();
    assert_eq!(found, DecodedImage::from_bytes(name.as_str(), &bytes).unwrap());
}

/// Decoding no more than the crop needs gives what decoding everything gives.
#[test]
fn files_are_prepared_as_the_images_in_them_are() {
    let cases = [
        (ImageSize::Square(64), ResizeMode::Shortest),
        (ImageSize::Square(7), ResizeMode::Shortest),
        (ImageSize::HeightWidth([90, 30]), ResizeMode::Shortest),
        (ImageSize::Square(40), ResizeMode::Longest),
        (ImageSize::HeightWidth([20, 50]), ResizeMode::Squash),
    ];
    let mut failures = Vec::new();
    for (name, bytes) in inputs() {
        let Ok(image) = DecodedImage::from_bytes(name.as_str(), &bytes) else { continue };
        for (size, resize_mode) in cases {
            let config = PreprocessConfig { size, resize_mode, ..PreprocessConfig::default() };
            let preprocessor = Preprocessor::new(config).unwrap();
            let expected = preprocessor.prepare(&image).map_err(|error| error.to_string());
            let found = preprocessor.prepare_bytes(name.as_str(), &bytes, &DecodeOptions::default());
            if found.map_err(|error| error.to_string()) != expected {
                failures.push(format!("{name} at {size:?} {resize_mode:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Decoding at reduced size is close to the reference, happens only where it is asked for, and only to large images.
#[test]
fn fast_decoding_is_close() {
    let fast = DecodeOptions::default().with_fast(true);
    let mut reduced = 0;
    for (name, bytes) in inputs().into_iter().filter(|(name, _)| name.ends_with(".jpg")) {
        let image = DecodedImage::from_bytes(name.as_str(), &bytes).unwrap();
        let longest = image.width().max(image.height());
        for (side, may_differ) in [(longest.div_ceil(16), true), (longest, false)] {
            let config = PreprocessConfig {
                size: ImageSize::Square(side),
                mean: vec![0.0; 3],
                std: vec![1.0; 3],
                resize_mode: ResizeMode::Squash,
                ..PreprocessConfig::default()
            };
            let preprocessor = Preprocessor::new(config).unwrap();
            let exact = preprocessor.prepare(&image).unwrap();
            let found = preprocessor.prepare_bytes(name.as_str(), &bytes, &fast).unwrap();
            let pairs = exact.data().iter().zip(found.data());
            let worst = pairs.map(|(exact, found)| (exact - found).abs()).fold(0.0, f32::max);
            assert!(worst <= if may_differ { 0.1 } else { 0.0 }, "{name} at {side}: {worst}");
            reduced += usize::from(worst > 0.0);
        }
    }
    assert!(reduced > 0, "nothing was decoded at reduced size");
}

#[test]
fn damaged_files_never_panic_and_truncated_ones_are_errors() {
    let preprocessor =
        Preprocessor::new(PreprocessConfig { size: ImageSize::Square(8), ..PreprocessConfig::default() })
            .unwrap();
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut decoded_halves = Vec::new();
    for (name, bytes) in inputs() {
        for length in (0..40.min(bytes.len())).chain([bytes.len() / 3, bytes.len() / 2, bytes.len() - 1]) {
            let _ = DecodedImage::from_bytes(name.as_str(), &bytes[..length]);
        }
        // A GIF or TIFF may keep its only pixels in the first half.
        let exempt = name.ends_with(".gif") || name.ends_with(".tif");
        if !exempt && bytes.len() > 200 && DecodedImage::from_bytes("half", &bytes[..bytes.len() / 2]).is_ok()
        {
            decoded_halves.push(name.clone());
        }
        for _ in 0..60 {
            let mut flipped = bytes.clone();
            for _ in 0..=random(4) {
                // Headers decide most, so half of the damage goes there.
                let range = if random(2) == 0 { flipped.len().min(64) } else { flipped.len() };
                let at = random(range);
                flipped[at] ^= 1 << random(8);
            }
            match DecodedImage::from_bytes(name.as_str(), &flipped) {
                Ok(image) => drop(preprocessor.resize_and_crop(&image)),
                // What a panic in a decoder is turned into: ours have none.
                Err(error) if name.ends_with(".jpg") => {
                    assert!(!error.to_string().contains("its decoder failed"), "{error}");
                }
                Err(_) => {}
            }
        }
    }
    assert!(decoded_halves.is_empty(), "half a file was taken for a whole: {decoded_halves:#?}");
}

#[test]
fn batches_keep_order_and_errors_their_place() {
    let names: Vec<_> = inputs().into_iter().map(|(name, _)| name).collect();
    let preprocessor =
        Preprocessor::new(PreprocessConfig { size: ImageSize::Square(16), ..PreprocessConfig::default() })
            .unwrap();
    let sources: Vec<ImageSource> = names
        .iter()
        .enumerate()
        .map(|(index, name)| match index % 10 {
            3 => ImageSource::Bytes { name: format!("broken {index}"), bytes: b"not an image".to_vec() },
            5 => ImageSource::Image(open(name).unwrap()),
            _ => root().join("inputs").join(name).into(),
        })
        .collect();
    for threads in [1, 3] {
        let options = LoaderOptions::default().with_batch_size(7).with_threads(threads).with_prefetch(2);
        let mut position = 0;
        for batch in BatchLoader::new(preprocessor.clone(), sources.clone(), options) {
            assert_eq!(batch.first, position);
            let rows: Vec<_> = batch.pixels.rows().collect();
            for item in &batch.items {
                match item {
                    Ok(row) => {
                        let expected = preprocessor.prepare(&open(&names[position]).unwrap()).unwrap();
                        assert_eq!(rows[*row], expected.data(), "{}", names[position]);
                    }
                    Err(error) => {
                        assert_eq!(position % 10, 3, "{error}");
                        assert!(error.to_string().starts_with(&format!("broken {position}: not an image")));
                    }
                }
                position += 1;
            }
        }
        assert_eq!(position, names.len());
    }
}

#[test]
fn a_loader_that_is_dropped_early_stops() {
    let preprocessor = Preprocessor::new(PreprocessConfig::default()).unwrap();
    let endless = std::iter::repeat_with(|| "no/such/file.png");
    let mut loader = BatchLoader::new(preprocessor, endless, LoaderOptions::default().with_batch_size(4));
    assert_eq!(loader.next().unwrap().items.len(), 4);
    drop(loader);
}
