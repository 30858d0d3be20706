//! Any bytes as a NumPy archive: opened, listed and read without a panic or an attempt at unbounded memory.
//!
//! A mutated zip archive rarely stays one, so the input is also taken as the one array of an archive that is whole.
//! Seeds: `conformance/checkpoints/*.npz`, and the `.npy` entries of each.

#![no_main]

mod archive;

use libfuzzer_sys::fuzz_target;
use openclip_core::weights::{NpzFile, WeightSource};

fn exercise(content: &[u8]) {
    let Ok(file) = NpzFile::from_bytes("input", content) else { return };
    for name in file.names() {
        if let Ok(data) = file.read(&name, &[]) {
            assert_eq!(data.info.count().map(|count| count * data.info.dtype.size()), Some(data.bytes.len()));
        }
    }
}

fuzz_target!(|content: &[u8]| {
    exercise(content);
    exercise(&archive::stored(&[("params/w.npy", content)]));
});
