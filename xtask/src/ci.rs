//! `cargo xtask ci`: everything that has to pass before a change lands.

use anyhow::Result;

use crate::tidy::{cargo, step};

/// Runs all steps, stopping at the first that fails.
pub fn run() -> Result<()> {
    crate::tidy::run()?;
    step("tests", || cargo(&["test", "--workspace"]))?;
    step("conformance", || xtask::conformance::run(&xtask::conformance::Options::default()))
}
