//! `openclip quantize`: a model with its weights in 8-bit integers.

use anyhow::Result;

use crate::cli::{Program, arguments::Quantize, outcome::Outcome};

pub fn run(arguments: &Quantize, program: &Program) -> Result<Outcome> {
    let written = arguments.model.builder(program).quantize(&arguments.output)?;
    for path in &written.files {
        println!("{}", path.display());
    }
    println!(
        "{} in the source, {} in f32, {} now ({:.0}% of f32)",
        megabytes(written.source_bytes),
        megabytes(written.f32_bytes),
        megabytes(written.bytes),
        100.0 * written.bytes as f64 / written.f32_bytes.max(1) as f64
    );
    Ok(Outcome::Done)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
