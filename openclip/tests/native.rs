//! The backends with native libraries, and exported files in stock onnxruntime. Needs what `cargo xtask native` fetches, and
//! the environment that it prints.

#![cfg(all(feature = "tch", feature = "ort"))]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod support;

use std::{env, fs, path::Path, process::Command};

use openclip::{Clip, DecodedImage, core::HostTensor, zoo::emoji_clip};
use serde_json::Value;
use support::{Run, Sandbox, noto_recall, read_npy, sample_labels};

const BACKENDS: [&str; 2] = ["tch", "ort"];

/// Each precision with the backends that have it, and the smallest cosine that its contract allows.
const PRECISIONS: [(&str, &str, f32); 6] = [
    ("tch", "f32", 0.999_999),
    ("tch", "f16", 0.9999),
    ("tch", "bf16", 0.999),
    ("ort", "f32", 0.999_999),
    ("ort", "f16", 0.9999),
    ("ort", "int8", 0.99),
];

fn clip(backend: &str, precision: &str) -> Clip {
    let (backend, precision) = (backend.parse().unwrap(), precision.parse().unwrap());
    Clip::builder("emoji-clip").backend(backend).precision(precision).build().unwrap()
}

fn samples() -> Vec<DecodedImage> {
    let decode =
        |sample: &emoji_clip::SampleImage| DecodedImage::from_bytes(sample.file, sample.png).unwrap();
    emoji_clip::SAMPLE_IMAGES.iter().map(decode).collect()
}

fn classify(sandbox: &Sandbox, options: &[&str]) -> Run {
    let (samples, labels) = (sandbox.samples(), sample_labels());
    let arguments = ["classify", samples.to_str().unwrap(), "--labels", &labels, "--json"];
    sandbox.run(&[&arguments, options].concat())
}

#[track_caller]
fn assert_same_scores(found: &Run, expected: &Run, tolerance: f64) {
    assert_eq!(found.code, 0, "{}", found.err);
    let (found, expected) = (found.json(), expected.json());
    assert_eq!((found.len(), expected.len()), (16, 16));
    for (found, expected) in found.iter().zip(&expected) {
        let score = |line: &Value, label: &Value| {
            let labels = line["labels"].as_array().unwrap();
            labels.iter().find(|found| found["label"] == *label).unwrap()["score"].as_f64().unwrap()
        };
        for label in expected["labels"].as_array().unwrap() {
            let difference = score(found, &label["label"]) - label["score"].as_f64().unwrap();
            assert!(difference.abs() < tolerance, "{} {label}: {difference}", found["image"]);
        }
    }
}

#[test]
fn each_backend_gives_candles_scores() {
    let sandbox = Sandbox::new();
    let expected = classify(&sandbox, &[]);
    for backend in BACKENDS {
        assert_same_scores(&classify(&sandbox, &["--backend", backend, "--threads", "1"]), &expected, 1e-4);
    }
}

#[test]
fn each_precision_keeps_its_contract() {
    let (candle, images) = (clip("candle", "f32"), samples());
    let prompts = emoji_clip::SAMPLE_IMAGES.map(|sample| emoji_clip::TEMPLATE.replace("{}", sample.label));
    let expected = (
        images.iter().map(|image| candle.encode_image(image).unwrap()).collect::<Vec<_>>(),
        candle.encode_text(&prompts).unwrap(),
    );
    for (backend, precision, contract) in PRECISIONS {
        let clip = clip(backend, precision);
        let texts = clip.encode_text(&prompts).unwrap();
        for (index, image) in images.iter().enumerate() {
            let image = clip.encode_image(image).unwrap().cosine(&expected.0[index]);
            let text = texts[index].cosine(&expected.1[index]);
            let cosine = image.min(text);
            assert!(cosine >= contract, "{backend} {precision}, sample {index}: {image}, {text}");
            assert!(cosine < 1.0 + 1e-5, "{backend} {precision}: unit length");
        }
    }
}

/// Zero-shot accuracy: how many of 203 emoji, half a point each, get their own label, and labels their emoji.
#[test]
fn int8_is_as_accurate_as_f32() {
    let accuracy = |options: &[&str]| {
        let recall = noto_recall(options);
        let first: Vec<f64> = recall.iter().filter(|(_, k, _)| *k == 1).map(|(.., recall)| *recall).collect();
        (first[0] + first[1]) / 2.0
    };
    let (int8, f32) = (accuracy(&["--backend", "ort", "--precision", "int8"]), accuracy(&[]));
    assert!((int8 - f32).abs() <= 0.5, "int8 {int8}, f32 {f32}");
}

#[test]
fn precisions_that_can_not_be_are_refused_with_the_reason() {
    let sandbox = Sandbox::new();
    for (backend, precision, reason) in
        [("tch", "int8", "--backend candle"), ("ort", "bf16", "use f32, f16 or int8")]
    {
        classify(&sandbox, &["--backend", backend, "--precision", precision]).failed(1, reason);
    }
    for backend in BACKENDS {
        classify(&sandbox, &["--backend", backend, "--device", "cuda:99"]).failed(1, "use --device cpu");
    }
}

#[test]
fn eight_threads_get_what_one_gets() {
    for (backend, precision, _) in PRECISIONS {
        let (clip, images) = (clip(backend, precision), samples());
        let one: Vec<_> = images.iter().map(|image| clip.encode_image(image).unwrap()).collect();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (clip, images, one) = (&clip, &images, &one);
                scope.spawn(move || {
                    for index in (0..images.len()).map(|index| (index + thread) % images.len()) {
                        let found = clip.encode_image(&images[index]).unwrap();
                        assert_eq!(found, one[index], "{backend} {precision}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_missing_library_is_one_clear_error() {
    let sandbox = Sandbox::new();
    let damaged = sandbox.write("libonnxruntime.so", "not a library");
    for path in ["/nowhere/libonnxruntime.so", damaged.to_str().unwrap()] {
        let sandbox = Sandbox::new().with("ORT_DYLIB_PATH", path);
        let run = classify(&sandbox, &["--backend", "ort"]);
        run.failed(1, path);
        for part in ["ONNX Runtime can't be loaded", "pip install onnxruntime", "ORT_DYLIB_PATH"] {
            run.failed(1, part);
        }
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
}

fn export(sandbox: &Sandbox, precision: &str) -> String {
    let folder = sandbox.path(precision);
    let run = sandbox.run(&["export", "--onnx", folder.to_str().unwrap(), "--precision", precision]);
    assert_eq!(run.code, 0, "{}", run.err);
    folder.to_str().unwrap().to_owned()
}

#[test]
fn exported_folders_run_without_the_weights() {
    let sandbox = Sandbox::new();
    let expected = classify(&sandbox, &[]);
    for (precision, tolerance) in [("f32", 1e-4), ("f16", 2e-3), ("int8", 5e-2)] {
        let folder = export(&sandbox, precision);
        let model = format!("local-dir:{folder}");
        let run = |options: &[&str]| classify(&sandbox, &[&["--model", &model], options].concat());
        assert_same_scores(&run(&["--backend", "ort"]), &expected, tolerance);
        run(&[]).failed(1, "use --backend ort");
        run(&["--backend", "ort", "--image-size", "96"]).failed(1, "override them when it is exported");
        let other = if precision == "f16" { "int8" } else { "f16" };
        run(&["--backend", "ort", "--precision", other]).failed(1, &format!("computes in {precision}"));

        fs::remove_file(Path::new(&folder).join("image.onnx")).unwrap();
        run(&["--backend", "ort"]).failed(1, "without its image tower");
        let texts = ["embed", "text", "a", "--backend", "ort", "--model", &model];
        assert_eq!(sandbox.run(&texts).code, 0);
        fs::write(Path::new(&folder).join("text.onnx"), "not a graph").unwrap();
        sandbox.run(&texts).failed(1, "text.onnx");
    }
}

/// A NumPy file, version 1.0.
fn write_npy(path: &Path, kind: &str, dims: &[usize], bytes: &[u8]) {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    let dims = dims.join(", ");
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}");
    let header = format!("{header:<117}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    fs::write(path, [b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), bytes].concat()).unwrap();
}

/// Runs an ONNX file on an input in the onnxruntime of Python.
fn stock_onnxruntime(sandbox: &Sandbox, model: &str, kind: &str, dims: &[usize], bytes: &[u8]) -> HostTensor {
    let python = env::var_os("OPENCLIP_PYTHON").expect(
        "OPENCLIP_PYTHON isn't set: run these tests in the environment that `cargo xtask native` prints",
    );
    let (input, output) = (sandbox.path("input.npy"), sandbox.path("output.npy"));
    write_npy(&input, kind, dims, bytes);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/stock_onnxruntime.py");
    let run = Command::new(python).arg(script).arg(model).arg(input).arg(&output).output().unwrap();
    assert!(run.status.success(), "{model}: {}", String::from_utf8_lossy(&run.stderr));
    let rows = read_npy(&output);
    HostTensor::new([rows.len(), rows[0].len()], rows.concat()).unwrap()
}

#[track_caller]
fn assert_near(found: &HostTensor, expected: &HostTensor, contract: f32, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (found, expected) in found.rows().zip(expected.rows()) {
        let unit = |row: &[f32]| openclip::Embedding::normalized(row);
        let cosine = unit(found).cosine(&unit(expected));
        assert!(cosine >= contract, "{what}: {cosine}");
    }
}

/// Exports run in onnxruntime as it comes from PyPI, at batch sizes and lengths that nobody recorded.
#[test]
fn exports_run_in_stock_onnxruntime() {
    let (sandbox, candle) = (Sandbox::new(), clip("candle", "f32"));
    let preprocessor = candle.preprocessor().unwrap();
    let pixels: Vec<HostTensor> =
        samples().iter().map(|image| preprocessor.prepare(image).unwrap()).collect();
    let prompts = emoji_clip::SAMPLE_IMAGES.map(|sample| sample.label);
    for (precision, contract) in [("f32", 0.999_99), ("f16", 0.9999), ("int8", 0.99)] {
        let folder = export(&sandbox, precision);
        for batch in [1, 7] {
            let dims = [&[batch], pixels[0].dims()].concat();
            let values: Vec<f32> = pixels[..batch].iter().flat_map(|image| image.data()).copied().collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let model = format!("{folder}/image.onnx");
            let found = stock_onnxruntime(&sandbox, &model, "<f4", &dims, &bytes);
            let input = HostTensor::new(dims, values).unwrap();
            let expected = candle.image_encoder().unwrap().encode(&input).unwrap();
            assert_near(&found, &expected, contract, &format!("{precision} images, batch {batch}"));

            let tokens = candle.tokenizer().unwrap().tokenize(&prompts[..batch]).unwrap();
            let bytes: Vec<u8> = tokens.ids().iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
            let dims = [tokens.rows(), tokens.length()];
            let model = format!("{folder}/text.onnx");
            let found = stock_onnxruntime(&sandbox, &model, "<i8", &dims, &bytes);
            let expected = candle.text_encoder().unwrap().encode(&tokens).unwrap();
            assert_near(&found, &expected, contract, &format!("{precision} texts, batch {batch}"));
        }
    }
}
