//! Ours as a competitor: `cargo xtask bench` starts this program again for each backend and precision.

use std::{
    hint::black_box,
    io::{self, BufRead, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use openclip_core::{Error, HostTensor, ImageEncoder, Precision, TextEncoder};
use openclip_zoo::build::{BackendKind, BackendOptions, Families, image_encoder, text_encoder};

use super::{
    comparisons::Tower,
    protocol::{Answer, Request},
    workload::{Checkpoint, Inputs},
};

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of the checkpoint
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    tower: Tower,
    #[arg(long)]
    backend: BackendKind,
    #[arg(long)]
    precision: Precision,
    #[command(flatten)]
    inputs: Inputs,
    #[arg(long)]
    threads: usize,
}

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
    let encoder = match Encoder::build(options) {
        Ok(encoder) => encoder,
        Err(error) => {
            return match error.downcast_ref() {
                Some(Error::Unsupported { .. }) => answer(Answer::Refused(error.to_string())),
                _ => Err(error),
            };
        }
    };
    let first = encoder.prepare(&options.inputs, 1)?.embed()?;
    let embedding = first.rows().next().context("the encoder gives an embedding")?.to_vec();
    answer(Answer::Ready { embedding })?;
    for line in io::stdin().lock().lines() {
        let Request { batch } = line?.parse()?;
        answer(Answer::Seconds(encoder.prepare(&options.inputs, batch)?.time()?.as_secs_f64()))?;
    }
    Ok(())
}

enum Encoder {
    Image(Box<dyn ImageEncoder>),
    Text(Box<dyn TextEncoder>),
}

impl Encoder {
    fn build(options: &Options) -> Result<Self> {
        let Checkpoint { config, source } = Checkpoint::open(&options.model)?;
        let (families, config) = (Families::default(), &config.model_cfg);
        let backend = BackendOptions {
            kind: options.backend,
            precision: options.precision,
            threads: Some(options.threads),
            ..BackendOptions::default()
        };
        Ok(match options.tower {
            Tower::Image => Self::Image(image_encoder(&families, config, &source, &backend)?),
            Tower::Text => Self::Text(text_encoder(&families, config, &source, &backend)?),
        })
    }

    fn prepare(&self, inputs: &Inputs, batch: usize) -> Result<Call<'_>> {
        Ok(match self {
            Self::Image(encoder) => {
                let pixels = inputs.pixels(batch)?;
                Call(Box::new(move || encoder.encode(&pixels)))
            }
            Self::Text(encoder) => {
                let tokens = inputs.tokens(batch)?;
                Call(Box::new(move || encoder.encode(&tokens)))
            }
        })
    }
}

/// A batch, and the encoder that it is for.
struct Call<'a>(Box<dyn Fn() -> openclip_core::Result<HostTensor> + 'a>);

impl Call<'_> {
    fn embed(&self) -> Result<HostTensor> {
        Ok((self.0)()?)
    }

    fn time(&self) -> Result<Duration> {
        let start = Instant::now();
        black_box(self.embed()?);
        Ok(start.elapsed())
    }
}
