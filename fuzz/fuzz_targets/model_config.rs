//! Any text as a configuration: it describes towers, whose parameters can then be listed, or is an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openclip_core::CheckpointConfig;
use openclip_zoo::build::{Families, parameters};

fuzz_target!(|text: &str| {
    if let Ok(config) = CheckpointConfig::from_json("fuzz", text) {
        let _ = parameters(&Families::default(), &config.model_cfg);
    }
});
