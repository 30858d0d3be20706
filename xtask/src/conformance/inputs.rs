//! What comes before the towers: preprocessing against Pillow and torchvision, tokens against the reference's tokenizers.
//! Both don't depend on a backend, and their comparisons are tests of the crates that do the work.

use std::{env, process::Command};

use anyhow::{Context, Result};

use crate::project;

/// A comparison, by the name that people see, and the tests that make it.
const SUITES: [(&str, &[&str]); 2] = [
    ("preprocessing", &["--package", "openclip-vision", "--test", "preprocess"]),
    ("tokenizers", &["--package", "openclip-text", "--lib", "conformance"]),
];

/// Runs the comparisons; says of each whether all of it is equal, and prints what isn't.
#[allow(clippy::print_stdout, reason = "a command-line program")]
pub fn check() -> Result<Vec<(&'static str, bool)>> {
    let mut outcomes = Vec::new();
    for (name, arguments) in SUITES {
        let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--quiet"])
            .args(arguments)
            .current_dir(project::root())
            .output()
            .context("cargo can't be started")?;
        if !output.status.success() {
            println!("{}", String::from_utf8_lossy(&output.stdout));
            println!("{}", String::from_utf8_lossy(&output.stderr));
        }
        outcomes.push((name, output.status.success()));
    }
    Ok(outcomes)
}
