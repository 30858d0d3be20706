//! Any bytes as a PyTorch checkpoint: opened, listed and read without a panic or an attempt at unbounded memory.
//!
//! A mutated zip archive rarely stays one, so the input is also taken as the pickle of an archive that is whole.
//! Seeds: `conformance/checkpoints`, and the `data.pkl` of each.

#![no_main]

mod archive;

use libfuzzer_sys::fuzz_target;
use openclip_core::weights::{PickleCheckpoint, WeightSource};

fn exercise(content: &[u8]) {
    let Ok(file) = PickleCheckpoint::from_bytes("input", content) else { return };
    for name in file.names() {
        if let Ok(data) = file.read(&name, &[]) {
            assert_eq!(data.info.count().map(|count| count * data.info.dtype.size()), Some(data.bytes.len()));
        }
    }
}

fuzz_target!(|content: &[u8]| {
    exercise(content);
    let storage = [1; 256];
    exercise(&archive::stored(&[("a/data.pkl", content), ("a/data/0", &storage), ("a/data/1", &storage)]));
});
