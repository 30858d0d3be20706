//! Towers on prepared inputs: one of them, or both in turn.

use std::{hint::black_box, path::Path};

use anyhow::{Context, Result};
use openclip_core::{HostTensor, ImageEncoder, TextEncoder};
use openclip_zoo::build::{BackendOptions, Families, image_encoder, text_encoder};

use super::{
    super::{inputs::Inputs, workload::Checkpoint},
    Call, Options, Work,
};

/// A tower, and what it is run on.
struct Tower {
    encoder: Encoder,
    inputs: Inputs,
}

enum Encoder {
    Image(Box<dyn ImageEncoder>),
    Text(Box<dyn TextEncoder>),
}

/// A tower with a batch.
type Encode<'a> = Box<dyn Fn() -> Result<HostTensor> + 'a>;

/// Builds the tower of each file of inputs.
pub fn build(options: &Options) -> Result<Box<dyn Work>> {
    let (checkpoint, backend) = (Checkpoint::open(&options.model)?, options.backend()?);
    let towers = options.inputs.iter().map(|path| Tower::build(&checkpoint, &backend, path));
    Ok(Box::new(towers.collect::<Result<Vec<Tower>>>()?))
}

impl Tower {
    fn build(checkpoint: &Checkpoint, backend: &BackendOptions, path: &Path) -> Result<Self> {
        let Checkpoint { config, source } = checkpoint;
        let (families, config, inputs) = (Families::default(), &config.model_cfg, Inputs::read(path)?);
        let encoder = if inputs.are_pixels() {
            Encoder::Image(image_encoder(&families, config, source, backend)?)
        } else {
            Encoder::Text(text_encoder(&families, config, source, backend)?)
        };
        Ok(Self { encoder, inputs })
    }

    fn prepare(&self, first: usize, count: usize) -> Result<Encode<'_>> {
        Ok(match &self.encoder {
            Encoder::Image(encoder) => {
                let pixels = self.inputs.pixels(first, count)?;
                Box::new(move || Ok(encoder.encode(&pixels)?))
            }
            Encoder::Text(encoder) => {
                let tokens = self.inputs.tokens(first, count)?;
                Box::new(move || Ok(encoder.encode(&tokens)?))
            }
        })
    }
}

impl Work for Vec<Tower> {
    fn prepare(&self, first: usize, count: usize) -> Result<Call<'_>> {
        let towers: Vec<Encode<'_>> =
            self.iter().map(|tower| tower.prepare(first, count)).collect::<Result<_>>()?;
        Ok(Box::new(move || {
            for encode in &towers {
                black_box(encode()?);
            }
            Ok(())
        }))
    }

    fn first(&self) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for tower in self {
            let embeddings = tower.prepare(0, 1)?()?;
            values.extend_from_slice(embeddings.rows().next().context("the encoder gives an embedding")?);
        }
        Ok(values)
    }
}
