//! `cargo xtask ci`: everything that has to pass before a change lands.

use anyhow::{Result, ensure};
use xtask::{
    every_backend,
    native::{self, Native},
};

use crate::tidy::{self, cargo, step};

/// The packages with code for libtorch or ONNX Runtime by itself, and the features that compile it in. Default builds and
/// their tests leave it out.
const BACKENDS: &[&str] =
    &["--package", "openclip-ort", "--package", "openclip-tch", "--features", "openclip-ort/runtime"];
/// The command with every backend.
const COMMAND: &[&str] = &["--package", "openclip", "--features", "ort,tch"];

/// Evaluation with the library for compressed datasets.
const ZSTD: &[&str] = &["--package", "openclip-eval", "--features", "zstd"];

/// Runs all steps, stopping at the first that fails.
pub fn run() -> Result<()> {
    tidy::run()?;
    step("tests", || cargo(&["test"], &[]))?;
    // An architecture from outside the workspace.
    let outside =
        ["test", "--manifest-path", "examples/mixer/Cargo.toml", "--target-dir", "target", "--locked"];
    step("the example from outside", || cargo(&outside, &[]))?;
    let mut native = None;
    step("native libraries", || {
        native = Some(Native::fetch(native::Options::default())?);
        Ok(())
    })?;
    let native = native.ok_or_else(|| anyhow::anyhow!("no native libraries"))?;
    let cargo = |parts: &[&[&str]]| cargo(&parts.concat(), &native.environment());
    step("lints of native backends", || {
        for packages in [BACKENDS, COMMAND] {
            cargo(&[&["clippy", "--all-targets", "--quiet"], packages, &["--", "--deny", "warnings"]])?;
        }
        Ok(())
    })?;
    step("tests of native backends", || {
        cargo(&[&["test"], BACKENDS])?;
        cargo(&[&["test"], COMMAND, &["--test", "native", "--test", "caption"]])?;
        cargo(&[&["test"], ZSTD, &["--test", "reference", "parquet"]])
    })?;
    // The tests have run candle's.
    step("conformance of native backends", || {
        let status = every_backend::run(&native, ["conformance", "--backend", "tch,ort"])?;
        ensure!(status.success(), "{status}");
        Ok(())
    })?;
    // What reads this output finds here that all is well; a failed step never comes this far.
    println!("steps: {} passed, 0 failed", tidy::STEPS + 6);
    Ok(())
}
