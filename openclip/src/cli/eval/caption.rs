//! `openclip eval caption`.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{arguments::Caption, run::Run};
use crate::{
    Clip,
    cli::{
        Program,
        outcome::{Outcome, UsageError},
    },
    coca::{self, GenerationOptions},
    core::HostTensor,
    eval::{Model, ModelError, dataset::Wanted, task},
    vision::Preprocessor,
};

/// A line of `openclip caption --json`.
#[derive(Deserialize)]
struct Written {
    image: String,
    caption: String,
}

/// A model that writes captions with these options.
struct Captioner<'a> {
    clip: &'a Clip,
    options: GenerationOptions,
}

impl Model for Captioner<'_> {
    fn preprocessor(&self) -> Result<&Preprocessor, ModelError> {
        Ok(self.clip.preprocessor()?)
    }

    fn embed_images(&self, pixels: &HostTensor) -> Result<HostTensor, ModelError> {
        self.clip.embed_images(pixels)
    }

    fn embed_texts(&self, texts: &[&str], batch_size: usize) -> Result<HostTensor, ModelError> {
        self.clip.embed_texts(texts, batch_size)
    }

    fn caption(&self, pixels: &HostTensor) -> Result<Vec<String>, ModelError> {
        let captions =
            coca::generate(self.clip.captioner()?, pixels, &self.options).map_err(crate::Error::from)?;
        let texts = captions.iter().map(|caption| self.clip.caption_text(&caption.tokens, &self.options));
        Ok(texts.collect::<Result<_, _>>()?)
    }
}

pub fn run(arguments: &Caption, program: &Program) -> Result<Outcome> {
    let mut options = arguments.generation.options()?;
    let written = arguments.captions.as_deref().map(read).transpose()?;
    let run = Run::open(&arguments.task, program, Wanted::Captions)?;
    if written.is_none() {
        let captioner = match run.clip.captioner() {
            Err(error @ crate::Error::NoDecoder { .. }) => {
                return Err(UsageError(format!("--model: {error}")).into());
            }
            captioner => captioner?,
        };
        if let Some(prompt) = &arguments.generation.prompt {
            options.prompt = run.clip.caption_prompt(prompt, &options)?;
        }
        options.check_for(captioner.info()).map_err(UsageError::of_option)?;
    }
    let task = task::Captioning { written, extraction: run.extraction()? };
    Ok(run.evaluate_with(&task, |clip| Box::new(Captioner { clip, options }))?.1)
}

/// Captions by the images' paths, and by their file names where only one image has it.
fn read(path: &Path) -> Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("captions {}", path.display()))?;
    let mut captions = HashMap::new();
    let mut files: HashMap<String, Option<String>> = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Written { image, caption } = serde_json::from_str(line)
            .with_context(|| format!("captions {}, line {}", path.display(), number + 1))?;
        let file = Path::new(&image).file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.entry(file).and_modify(|known| *known = None).or_insert_with(|| Some(caption.clone()));
        captions.insert(image, caption);
    }
    ensure!(!captions.is_empty(), "captions {}: the file is empty", path.display());
    for (file, caption) in files {
        if let Some(caption) = caption {
            captions.entry(file).or_insert(caption);
        }
    }
    Ok(captions)
}
