//! Checkpoints that PyTorch and NumPy wrote (`conformance/checkpoints`, made by `xtask/reference/checkpoints.py`): every
//! tensor is found with its values, everything else is refused by name, and no damage makes a reader panic.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use openclip_core::{
    Weights,
    weights::{
        CanonicalLayout, CountingSource, DType, NpzFile, PickleCheckpoint, SafetensorsFile, WeightSource,
        open_checkpoint, save_safetensors,
    },
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    accepted: BTreeMap<String, BTreeMap<String, Tensor>>,
    refused: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    dims: Vec<usize>,
    values: Vec<f64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/checkpoints")
}

fn expected() -> Expected {
    serde_json::from_str(&std::fs::read_to_string(folder().join("expected.json")).unwrap()).unwrap()
}

fn dtype(name: &str) -> DType {
    match name {
        "float32" => DType::F32,
        "float16" => DType::F16,
        "bfloat16" => DType::Bf16,
        "float64" => DType::F64,
        "uint8" | "bool" => DType::U8,
        "int8" => DType::I8,
        "int16" => DType::I16,
        "int32" => DType::I32,
        "int64" => DType::I64,
        other => panic!("{other}"),
    }
}

/// What of `source` differs from `tensors`.
fn differences(source: &dyn WeightSource, tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names = source.names();
    names.sort();
    if !names.iter().eq(tensors.keys()) {
        wrong.push(format!("names are {names:?}"));
    }
    for (name, tensor) in tensors {
        match source.read(name, &tensor.dims) {
            Err(error) => wrong.push(error.to_string()),
            Ok(data) => {
                let values: Vec<f32> = tensor.values.iter().map(|&value| value as f32).collect();
                if data.info.dtype != dtype(&tensor.dtype)
                    || data.info.dims != tensor.dims
                    || data.to_f32() != values
                {
                    wrong.push(format!("{name}: {:?} {:?}", data.info, data.to_f32()));
                }
                if source.info(name) != Some(data.info) {
                    wrong.push(format!("{name}: info is {:?}", source.info(name)));
                }
            }
        }
    }
    wrong
}

#[test]
fn tensors_are_those_that_pytorch_wrote() {
    let mut wrong = Vec::new();
    for (file, tensors) in expected().accepted {
        match open_checkpoint(folder().join(&file)) {
            Ok(source) => {
                wrong.extend(
                    differences(&*source, &tensors).into_iter().map(|line| format!("{file}: {line}")),
                );
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn everything_else_is_refused_by_name() {
    let mut wrong = Vec::new();
    for (file, message) in expected().refused {
        let found =
            open_checkpoint(folder().join(&file)).err().map(|error| error.to_string()).unwrap_or_default();
        if !found.contains(&message) || !found.contains(&file) {
            wrong.push(format!("{file}: `{message}` not in `{found}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tensors_of_other_element_types_fail_when_they_are_read() {
    let source = open_checkpoint(folder().join("unsupported.pt")).unwrap();
    assert_eq!(source.read("w", &[2]).unwrap().to_f32(), [0.0, 0.25]);
    let weights = Weights::new(source);
    let arrays = open_checkpoint(folder().join("unsupported.npz")).unwrap();
    assert_eq!(arrays.read("w", &[2]).unwrap().to_f32(), [0.0, 0.25]);
    let arrays = Weights::new(arrays);
    for (weights, name, dtype) in [
        (&weights, "eight", "float8_e4m3fn"),
        (&weights, "complex", "complex64"),
        (&weights, "unsigned", "uint16"),
        (&arrays, "big", ">f4"),
        (&arrays, "complex", "<c8"),
    ] {
        let error = weights.read(name, &[2]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(dtype), "{error}");
    }
}

#[test]
fn one_tower_reads_only_its_own_bytes() {
    for file in ["clip.pt", "all.safetensors"] {
        let opened = open_checkpoint(folder().join(file)).unwrap();
        let counted = Arc::new(CountingSource::new(opened));
        let source = Arc::new(CanonicalLayout::new(Arc::clone(&counted) as Arc<dyn WeightSource>));
        let weights = Weights::new(Arc::clone(&source) as Arc<dyn WeightSource>);
        let mut own = 0;
        for name in source.names().iter().filter(|name| !name.starts_with("visual.")) {
            let info = source.info(name).unwrap();
            own += (info.count().unwrap() * info.dtype.size()) as u64;
            weights.read(name, &info.dims).unwrap();
        }
        assert!(own > 0, "{file}");
        assert_eq!(counted.bytes_below(""), own, "{file}");
        assert_eq!(counted.bytes_below("visual"), 0, "{file}");
    }
}

#[test]
fn a_torchscript_archive_has_the_layout_of_its_state_dict() {
    let source = CanonicalLayout::new(open_checkpoint(folder().join("script.pt")).unwrap());
    let names = source.names();
    assert!(names.contains(&"text.positional_embedding".to_owned()), "{names:?}");
    assert!(names.contains(&"text.transformer.0.mlp.1.weight".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("vocab_size")), "{names:?}");
    assert_eq!(source.info("visual.ln_1.weight").unwrap().dtype, DType::F16);
}

#[test]
fn a_pickle_converts_to_safetensors_without_loss() {
    let path = tempfile::tempdir().unwrap();
    let out = path.path().join("converted.safetensors");
    for (file, tensors) in expected().accepted {
        let source = open_checkpoint(folder().join(&file)).unwrap();
        let data: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), source.read(name, &tensor.dims).unwrap()))
            .collect();
        save_safetensors(&out, data, None).unwrap();
        let wrong = differences(&SafetensorsFile::open(&out).unwrap(), &tensors);
        assert!(wrong.is_empty(), "{file}: {}", wrong.join("\n"));
    }
}

/// Opens `content` with the reader of `file`.
fn open_as(file: &str, content: &[u8]) -> openclip_core::Result<Box<dyn WeightSource>> {
    Ok(match file.rsplit_once('.') {
        Some((_, "safetensors")) => Box::new(SafetensorsFile::from_bytes(file, content)?),
        Some((_, "npz")) => Box::new(NpzFile::from_bytes(file, content)?),
        _ => Box::new(PickleCheckpoint::from_bytes(file, content)?),
    })
}

/// Opens `content` with the reader of `file` and reads all of it.
fn exercise(file: &str, content: &[u8]) {
    let Ok(source) = open_as(file, content) else { return };
    for name in source.names() {
        if let Ok(data) = source.read(&name, &[]) {
            let bytes = data.info.count().and_then(|count| count.checked_mul(data.info.dtype.size()));
            assert_eq!(bytes, Some(data.bytes.len()), "{file}: {name}");
        }
    }
}

/// The files that damage is tried on: those with the most to get wrong.
const DAMAGED: [&str; 6] =
    ["all.safetensors", "views.pt", "zip64.pt", "protocol4.pt", "arrays.npz", "packed.npz"];

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    for file in DAMAGED {
        let content = std::fs::read(folder().join(file)).unwrap();
        for length in 0..content.len() {
            let cut = &content[..length];
            let message = open_as(file, cut).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.starts_with(file), "{file} at {length}: `{message}`");
        }
    }
}

#[test]
fn no_flipped_bit_makes_a_reader_panic() {
    for file in DAMAGED {
        let mut content = std::fs::read(folder().join(file)).unwrap();
        for position in 0..content.len() {
            for bit in 0..8 {
                content[position] ^= 1 << bit;
                exercise(file, &content);
                content[position] ^= 1 << bit;
            }
            let byte = std::mem::replace(&mut content[position], 0xff);
            exercise(file, &content);
            content[position] = byte;
        }
    }
}
