//! Ours as a competitor: `cargo xtask bench` starts this program again for each backend and precision.

mod caption;
mod pipeline;
mod retrieval;
mod towers;

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result};
use openclip_coca::Method;
use openclip_core::{Error, Precision};
use openclip_zoo::build::{BackendKind, BackendOptions};

use super::{
    case::Case,
    protocol::{Answer, Request},
};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    case: Case,
    /// Folder of the checkpoint
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    backend: Option<BackendKind>,
    #[arg(long)]
    precision: Option<Precision>,
    /// Files with the inputs of towers
    #[arg(long, num_args = 1..)]
    inputs: Vec<PathBuf>,
    /// Folder of photographs
    #[arg(long)]
    images: Option<PathBuf>,
    #[arg(long)]
    threads: usize,
    /// Keep nothing of a text from one token to the next
    #[arg(long)]
    anew: bool,
}

impl Options {
    fn backend(&self) -> Result<BackendOptions> {
        Ok(BackendOptions {
            kind: self.backend.context("--backend")?,
            precision: self.precision.unwrap_or_default(),
            threads: Some(self.threads),
            ..BackendOptions::default()
        })
    }
}

/// Something that can be timed.
trait Work {
    /// Gets a range of inputs ready, which isn't timed.
    fn prepare(&self, first: usize, count: usize) -> Result<Call<'_>>;

    /// What the first input becomes.
    fn first(&self) -> Result<Vec<f32>>;
}

/// What is timed.
type Call<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Speaks the protocol on stdin and stdout.
///
/// # Errors
/// When the model can't be built or run, or a line is no request.
pub fn run(options: &Options) -> Result<()> {
    let mut stdout = io::stdout();
    let mut answer = |answer: Answer| -> Result<()> {
        writeln!(stdout, "{}", answer.line()?)?;
        Ok(stdout.flush()?)
    };
    let work: Result<Box<dyn Work>> = match options.case {
        Case::Image | Case::TextCaptions | Case::TextFull | Case::Memory => towers::build(options),
        Case::Caption => caption::build(options, Method::default()),
        Case::CaptionBeams => {
            caption::build(options, Method::BeamSearch { num_beams: 6, num_beam_groups: 1 })
        }
        Case::Jpeg => pipeline::embedding(options),
        Case::Preprocess | Case::Decode | Case::Resize => pipeline::preparation(options),
        Case::Retrieval => Ok(Box::new(retrieval::Retrieval)),
        Case::Start => anyhow::bail!("`start` is about the real command"),
    };
    let work = match work {
        Ok(work) => work,
        Err(error) => {
            return match error.downcast_ref() {
                Some(Error::Unsupported { .. }) => answer(Answer::Refused(error.to_string())),
                _ => Err(error),
            };
        }
    };
    answer(Answer::Ready { embedding: work.first()? })?;
    for line in io::stdin().lock().lines() {
        let Request { first, count } = line?.parse()?;
        let call = work.prepare(first, count)?;
        let start = Instant::now();
        call()?;
        answer(Answer::Seconds(start.elapsed().as_secs_f64()))?;
    }
    Ok(())
}
