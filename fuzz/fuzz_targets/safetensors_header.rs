//! Any bytes as a safetensors file: opened, listed and read without a panic. Seeds: `conformance/checkpoints`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_core::weights::{SafetensorsFile, WeightSource};

fuzz_target!(|content: &[u8]| {
    let Ok(file) = SafetensorsFile::from_bytes("input", content) else { return };
    for name in file.names() {
        if let Ok(data) = file.read(&name, &[]) {
            assert_eq!(data.info.count().map(|count| count * data.info.dtype.size()), Some(data.bytes.len()));
        }
    }
});
