//! `cargo xtask ci`: everything that has to pass before a change lands.

use anyhow::Result;
use xtask::conformance;

use crate::tidy::{self, cargo, step};

/// Runs all steps, stopping at the first that fails.
pub fn run() -> Result<()> {
    tidy::run()?;
    step("tests", || cargo(&["test", "--workspace"]))?;
    step("conformance", || conformance::run(&conformance::Options::default()))?;
    // What reads this output finds here that all is well; a failed step never comes this far.
    println!("steps: {} passed, 0 failed", tidy::STEPS + 2);
    Ok(())
}
