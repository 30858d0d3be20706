//! Any bytes as a dataset in each of the formats that are one file: opened and read to the end without a panic.
//!
//! Seeds: `conformance/evaluation/noto-v1.parquet`, small tars and tables.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use openclip_eval::dataset::{Wanted, open, read_labels};

fuzz_target!(|content: &[u8]| {
    let _ = read_labels(content);
    let Ok(folder) = tempfile::tempdir() else { return };
    for (format, file) in [("wds", "a.tar"), ("csv", "a.csv"), ("parquet", "a.parquet"), ("mnist", "t10k-images-idx3-ubyte")] {
        let path = folder.path().join(file);
        if fs::write(&path, content).is_err() {
            return;
        }
        let path = if format == "mnist" { folder.path() } else { &path };
        let Ok(name) = format!("{format}:{}", path.display()).parse() else { continue };
        for wanted in [Wanted::Classes, Wanted::Captions, Wanted::Choices] {
            if let Ok(dataset) = open(&name, "test", wanted)
                && let Ok(samples) = dataset.samples()
            {
                samples.take_while(Result::is_ok).for_each(drop);
            }
        }
    }
});
