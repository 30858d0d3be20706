//! Whether a tower fits into the machine's memory: the largest ones don't everywhere.

use std::fs;

use openclip_core::Precision;
use openclip_zoo::build::BackendOptions;

/// Bytes that building and running a tower of so many values needs at most, as measured: the weights that the backend keeps,
/// and what it needs beside them while it prepares.
pub fn needed(values: usize, options: &BackendOptions) -> u64 {
    let per_value = match (options.kind.to_string().as_str(), options.precision) {
        ("ort", Precision::F32) => 8.5,
        // Processors have no operators for halves: ONNX Runtime keeps floats beside them.
        ("ort", Precision::F16) => 10.5,
        ("ort", _) => 3.0,
        (_, Precision::F32) => 4.5,
        (..) => 3.0,
    };
    const ACTIVATIONS: f64 = 1e9;
    (values as f64 * per_value + ACTIVATIONS) as u64
}

/// Bytes that the machine has free, where it is known.
pub fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
