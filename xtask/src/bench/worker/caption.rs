//! Captions of prepared images, with the default options but for the method.

use std::hint::black_box;

use anyhow::{Context, Result};
use openclip_coca::{GenerationOptions, Method, Rereading, generate};
use openclip_core::{Captioner, HostTensor};
use openclip_zoo::build::{Families, captioner};

use super::{
    super::{inputs::Inputs, workload::Checkpoint},
    Call, Options, Work,
};

/// A captioner, and what it is run on.
struct Captions {
    captioner: Box<dyn Captioner>,
    inputs: Inputs,
    options: GenerationOptions,
    anew: bool,
}

pub fn build(options: &Options, method: Method) -> Result<Box<dyn Work>> {
    let Checkpoint { config, source } = Checkpoint::open(&options.model)?;
    let captioner = captioner(&Families::default(), &config.model_cfg, &source, &options.backend()?)?;
    let inputs = Inputs::read(options.inputs.first().context("--inputs")?)?;
    let generation = GenerationOptions { method, ..GenerationOptions::default() };
    Ok(Box::new(Captions { captioner, inputs, options: generation, anew: options.anew }))
}

impl Captions {
    /// Token ids of the captions, one after the other.
    fn write(&self, pixels: &HostTensor) -> Result<Vec<u32>> {
        let (captioner, options) = (self.captioner.as_ref(), &self.options);
        let captions = match self.anew {
            true => generate(&Rereading(captioner), pixels, options)?,
            false => generate(captioner, pixels, options)?,
        };
        Ok(captions.into_iter().flat_map(|caption| caption.tokens).collect())
    }
}

impl Work for Captions {
    fn prepare(&self, first: usize, count: usize) -> Result<Call<'_>> {
        let pixels = self.inputs.pixels(first, count)?;
        Ok(Box::new(move || {
            black_box(self.write(&pixels)?);
            Ok(())
        }))
    }

    fn first(&self) -> Result<Vec<f32>> {
        Ok(self.write(&self.inputs.pixels(0, 1)?)?.into_iter().map(|id| id as f32).collect())
    }
}
