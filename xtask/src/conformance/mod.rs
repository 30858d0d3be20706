//! `cargo xtask conformance`: our numbers against the reference's, per architecture, backend and precision.

mod captions;
mod case;
mod compare;
mod cuts;
mod inputs;
mod inside;
mod matrix;
mod memory;
mod update;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
pub use case::Case;
pub use compare::{Outcome, Tolerance};
pub use cuts::largest_change;
pub use matrix::{Column, columns};
use openclip_core::Precision;
use openclip_zoo::build::{BackendOptions, Families};

use crate::project;

/// What to compare.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Runs on candle, and on libtorch and ONNX Runtime once `cargo xtask native` has fetched them."
)]
pub struct Options {
    /// Every architecture at full size, not only those that cover each code path quickly
    #[arg(long)]
    pub all: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only these backends: candle, tch, ort
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub backend: Vec<String>,
    /// Only these precisions: f32, f16, bf16, int8
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub precision: Vec<Precision>,
    /// Make the references anew with the Python reference first; installs it under target/
    #[arg(long)]
    pub update: bool,
}

impl Options {
    /// Whether a backend is wanted that needs a native library.
    pub fn needs_native(&self) -> bool {
        self.backend.is_empty() || self.backend.iter().any(|wanted| wanted != "candle")
    }

    /// Whether the filter lets `name` pass, or without a filter, whether it is one of the quick cases or all are wanted.
    fn selects(&self, name: &str) -> bool {
        match &self.filter {
            Some(filter) => name.contains(filter.as_str()),
            None => {
                self.all || name.starts_with("made-") || QUICK.contains(&name) || QUICK_IMAGES.contains(&name)
            }
        }
    }

    fn is_quick(&self) -> bool {
        self.filter.is_none() && !self.all
    }

    fn wants(&self, backend: &str, precision: Precision) -> bool {
        (self.backend.is_empty() || self.backend.iter().any(|wanted| wanted == backend))
            && (self.precision.is_empty() || self.precision.contains(&precision))
    }
}

/// Full-size architectures of the quick subset, beside all made-up configurations.
const QUICK: &[&str] = &[
    "RN50-quickgelu",
    "ViT-B-32",
    "ViT-B-32-quickgelu",
    "ViT-B-32.context-48",
    "ViT-B-32.image-256",
    "ViT-S-32-alt",
];

/// Full-size architectures whose image towers are in the quick subset, too. Made-up configurations show what is special about
/// their text towers.
const QUICK_IMAGES: &[&str] = &[
    "EVA02-B-16",
    "MobileCLIP-B",
    "MobileCLIP2-S0",
    "PE-Core-T-16-384",
    "ViT-B-16-SigLIP",
    "ViTamin-S",
    "convnext_tiny",
    "swin_base_patch4_window7_224",
    "vit_medium_patch16_gap_256",
    "vit_relpos_medium_patch16_cls_224",
];

/// A tower on a backend in a precision: a cell of the matrix.
#[derive(Debug)]
pub struct Line {
    /// The case.
    pub case: String,
    /// `image`, `text` or `caption`.
    pub tower: &'static str,
    /// What it ran on.
    pub options: BackendOptions,
    /// How near it came, or why it didn't run.
    pub outcome: Result<Outcome>,
}

/// Why a tower didn't run, where that isn't a failure.
#[derive(Debug, thiserror::Error)]
#[error("not run: it needs about {needed} GB of memory, and {available} are free")]
struct TooLarge {
    needed: u64,
    available: u64,
}

impl Line {
    /// Whether the tower keeps the contract.
    pub fn passes(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|outcome| outcome.passes(Tolerance::of_case(&self.case, self.options.precision)))
    }

    /// Whether there is a reason why the tower didn't run.
    pub fn is_skipped(&self) -> bool {
        self.outcome.as_ref().is_err_and(|error| error.is::<TooLarge>())
    }
}

/// The cases that `options` selects, smallest files of a kind first.
///
/// # Errors
/// When there are none, or one can't be read.
pub fn cases(options: &Options) -> Result<Vec<Case>> {
    let mut cases = cases_in(&project::root().join("conformance/towers"), |name| options.selects(name))?;
    if options.is_quick() {
        cases.iter_mut().filter(|case| QUICK_IMAGES.contains(&&*case.name)).for_each(|case| case.text = None);
    }
    Ok(cases)
}

fn cases_in(folder: &Path, selects: impl Fn(&str) -> bool) -> Result<Vec<Case>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("folder {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        name.is_some_and(&selects)
    });
    paths.sort();
    if paths.is_empty() {
        bail!("no reference in {} matches; --all includes every architecture", folder.display());
    }
    paths.iter().map(|path| Case::read(path)).collect()
}

/// Compares the towers of one case on every column.
pub fn check(case: &Case, families: &Families, columns: &[Column]) -> Vec<Vec<Line>> {
    let fits = |values: usize, options: &BackendOptions| -> Result<()> {
        let needed = memory::needed(values, options);
        match memory::available() {
            Some(available) if available < needed => {
                Err(TooLarge { needed: needed >> 30, available: available >> 30 }.into())
            }
            _ => Ok(()),
        }
    };
    let line = |tower, options: &BackendOptions, outcome: Result<Option<Outcome>>| {
        let outcome = outcome.transpose()?;
        Some(Line { case: case.name.clone(), tower, options: options.clone(), outcome })
    };
    let image = columns.iter().filter_map(|Column { options }| {
        let values = case.image.as_ref()?.parameters.elements;
        let outcome = fits(values, options).and_then(|()| compare::image(case, families, options));
        line("image", options, outcome)
    });
    let text = columns.iter().filter_map(|Column { options }| {
        let values = case.text.as_ref()?.parameters.elements;
        let outcome = fits(values, options).and_then(|()| compare::text(case, families, options));
        line("text", options, outcome)
    });
    let caption = columns.iter().filter_map(|Column { options }| {
        let parts = [case.image.as_ref()?.parameters.elements, case.text.as_ref()?.parameters.elements];
        let values = parts.iter().sum::<usize>() + case.caption.as_ref()?.parameters.elements;
        let outcome = fits(values, options).and_then(|()| compare::caption(case, families, options));
        line("caption", options, outcome)
    });
    [image.collect(), text.collect(), caption.collect()]
        .into_iter()
        .filter(|lines: &Vec<Line>| !lines.is_empty())
        .collect()
}

/// Runs the command: prints the matrix and the sum of it; without a filter, also whether preprocessing and tokenizer equal
/// the reference's.
///
/// # Errors
/// When a tower doesn't keep the contract.
#[allow(clippy::print_stdout, reason = "a command-line program")]
pub fn run(options: &Options) -> Result<()> {
    if options.update {
        update::run(options.filter.as_deref())?;
    }
    let towers = compare_all(&cases(options)?, &Families::default(), options);
    // A filter is a question about certain architectures.
    let inputs = if options.filter.is_none() { inputs::check()? } else { Vec::new() };
    for (name, equal) in &inputs {
        println!("{name}: {}", if *equal { "all cases equal" } else { "DIFFERENT" });
    }
    ensure!(inputs.iter().all(|(_, equal)| *equal), "not everything equals the reference");
    towers
}

/// The same for architectures from elsewhere: towers of `families`, with their references in `folder`, in the form that
/// `conformance/README.md` describes. All of them count as quick.
///
/// # Errors
/// When a tower doesn't keep the contract, and for `--update`: how these references are made isn't known here.
pub fn run_in(folder: &Path, families: &Families, options: &Options) -> Result<()> {
    ensure!(!options.update, "the references in {} are not made by this program", folder.display());
    let selects = |name: &str| options.filter.as_deref().is_none_or(|filter| name.contains(filter));
    compare_all(&cases_in(folder, selects)?, families, options)
}

/// Prints the matrix of `cases` and the sum of it.
#[allow(clippy::print_stdout, reason = "a command-line program")]
fn compare_all(cases: &[Case], families: &Families, options: &Options) -> Result<()> {
    let (columns, holes) = matrix::columns(|backend, precision| options.wants(backend, precision));
    if columns.is_empty() {
        let reasons: Vec<String> =
            holes.iter().map(|hole| format!("{}: {}", hole.name, hole.reason)).collect();
        bail!("nothing can run:\n{}", reasons.join("\n"));
    }
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    println!("{}", matrix::head(&columns, width));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases {
        for lines in check(case, families, &columns) {
            let tower = lines.first().map_or("", |line| line.tower);
            println!("{}", matrix::row(&case.name, tower, &lines, &columns, width));
            for line in &lines {
                match line.passes() {
                    true => passed += 1,
                    false if line.is_skipped() => skipped += 1,
                    false => failed += 1,
                }
            }
        }
    }
    println!("f32: largest difference of unit-length embeddings; other precisions: 1 - cosine");
    for hole in &holes {
        println!("no column {}: {}", hole.name, hole.reason);
    }
    println!("{passed} towers equal the reference, {failed} don't, {skipped} didn't run");
    ensure!(failed == 0, "not everything equals the reference");
    Ok(())
}
