//! `cargo xtask conformance`: our numbers against the reference's, per architecture, backend and precision.

mod case;
mod compare;
mod inputs;
mod update;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
pub use case::Case;
pub use compare::{Outcome, Tolerance};
use openclip_core::Precision;
use openclip_zoo::build::{BackendKind, BackendOptions, Families};

use crate::project;

/// What to compare.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Every architecture at full size, not only those that cover each code path quickly
    #[arg(long)]
    pub all: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Make the references anew with the Python reference first; installs it under target/
    #[arg(long)]
    pub update: bool,
}

/// Full-size architectures of the quick subset, beside all made-up configurations.
const QUICK: &[&str] =
    &["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-32.image-256", "ViT-B-32.context-48", "ViT-S-32-alt"];

/// A tower's line of the matrix.
#[derive(Debug)]
pub struct Line {
    /// The case.
    pub case: String,
    /// `image` or `text`.
    pub tower: &'static str,
    /// The backend.
    pub backend: BackendKind,
    /// The precision.
    pub precision: Precision,
    /// How near it came, or why it didn't run.
    pub outcome: Result<Outcome>,
    /// Time to build and run the tower.
    pub time: Duration,
}

impl Line {
    /// Whether the tower keeps the contract.
    pub fn passes(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|outcome| outcome.passes(Tolerance::of_case(&self.case, self.precision)))
    }
}

/// The cases that `options` selects, smallest files of a kind first.
///
/// # Errors
/// When there are none, or one can't be read.
pub fn cases(options: &Options) -> Result<Vec<Case>> {
    let folder = project::root().join("conformance/towers");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("folder {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        name.is_some_and(|name| selected(name, options))
    });
    paths.sort();
    if paths.is_empty() {
        bail!("no reference in {} matches; --all includes every architecture", folder.display());
    }
    paths.iter().map(|path| Case::read(path)).collect()
}

fn selected(name: &str, options: &Options) -> bool {
    let quick = name.starts_with("made-") || QUICK.contains(&name);
    match &options.filter {
        Some(filter) => name.contains(filter.as_str()),
        None => options.all || quick,
    }
}

/// Compares one case on every backend that is compiled in.
pub fn check(case: &Case, families: &Families) -> Vec<Line> {
    let mut lines = Vec::new();
    for &backend in BackendKind::ALL {
        let options = BackendOptions { kind: backend, ..BackendOptions::default() };
        let mut run = |tower, compare: &dyn Fn() -> Result<Option<Outcome>>| {
            let start = Instant::now();
            if let Some(outcome) = compare().transpose() {
                let (case, precision) = (case.name.clone(), options.precision);
                lines.push(Line { case, tower, backend, precision, outcome, time: start.elapsed() });
            }
        };
        run("image", &|| compare::image(case, families, &options));
        run("text", &|| compare::text(case, families, &options));
    }
    lines
}

/// Runs the command: prints a line per tower, backend and precision, and the sum of it; without a filter, also whether
/// preprocessing and tokenizer equal the reference's.
///
/// # Errors
/// When a tower doesn't keep the contract.
#[allow(clippy::print_stdout, reason = "a command-line program")]
pub fn run(options: &Options) -> Result<()> {
    if options.update {
        update::run(options.filter.as_deref())?;
    }
    let families = Families::default();
    let cases = cases(options)?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    println!(
        "{:width$}  tower  backend  precision  max difference  1 - cosine  seconds  verdict",
        "architecture"
    );
    let (mut passed, mut failed) = (0, 0);
    for case in &cases {
        for line in check(case, &families) {
            let verdict = if line.passes() { "equal" } else { "DIFFERENT" };
            let (difference, cosine) = match &line.outcome {
                Ok(outcome) => {
                    (format!("{:.1e}", outcome.difference), format!("{:.1e}", 1.0 - outcome.cosine))
                }
                Err(_) => ("-".to_owned(), "-".to_owned()),
            };
            println!(
                "{:width$}  {:5}  {:7}  {:9}  {difference:>14}  {cosine:>10}  {:>7.1}  {verdict}",
                line.case,
                line.tower,
                line.backend.to_string(),
                line.precision.to_string(),
                line.time.as_secs_f64(),
            );
            match &line.outcome {
                Ok(Outcome { first_difference: Some(place), .. }) => {
                    println!("    first difference: {place}")
                }
                Err(error) => println!("    {error:#}"),
                Ok(_) => {}
            }
            if line.passes() { passed += 1 } else { failed += 1 }
        }
    }
    println!("{passed} towers equal the reference, {failed} don't");
    // A filter is a question about certain architectures.
    let inputs = if options.filter.is_none() { inputs::check()? } else { Vec::new() };
    for (name, equal) in &inputs {
        println!("{name}: {}", if *equal { "all cases equal" } else { "DIFFERENT" });
    }
    if failed > 0 || inputs.iter().any(|(_, equal)| !equal) {
        bail!("not everything equals the reference");
    }
    Ok(())
}
