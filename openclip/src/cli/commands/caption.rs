//! `openclip caption`: images described in words, and how well given words describe them.

use std::{
    io::{Write, stdout},
    path::Path,
};

use crate::{
    Clip,
    coca::{self, GenerationOptions, perplexities},
    core::{Captioner, HostTensor},
};
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cli::{
    Program,
    arguments::Caption,
    images::{self, Input},
    outcome::{Outcome, UsageError},
};

/// A caption as `--json` prints it.
#[derive(Serialize)]
struct Captioned<'a> {
    image: &'a str,
    caption: &'a str,
    tokens: &'a [u32],
    score: f32,
}

/// An image's texts as `--json` prints them, best first.
#[derive(Serialize)]
struct Scored<'a> {
    image: &'a str,
    texts: Vec<ScoredText<'a>>,
}

#[derive(Serialize)]
struct ScoredText<'a> {
    text: &'a str,
    perplexity: f64,
}

pub fn run(arguments: &Caption, program: &Program) -> Result<Outcome> {
    let mut options = arguments.generation.options()?;
    let texts = arguments.score.as_deref().map(lines).transpose()?;
    let inputs = images::collect(&arguments.images.images)?;
    // Towers that embed aren't needed.
    let clip = arguments.model.builder(program)?.lazy().build()?;
    let captioner = match clip.captioner() {
        Err(error @ crate::Error::NoDecoder { .. }) => {
            return Err(UsageError(format!("--model: {error}")).into());
        }
        captioner => captioner?,
    };
    if let Some(prompt) = &arguments.generation.prompt {
        options.prompt = clip.caption_prompt(prompt, &options)?;
    }
    match texts {
        Some(texts) => score(arguments, &clip, captioner, &inputs, &texts, program),
        None => {
            options.check_for(captioner.info()).map_err(UsageError::of_option)?;
            write(arguments, &clip, captioner, &inputs, &options, program)
        }
    }
}

/// The texts of a file, one a line.
fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("texts {}", path.display()))?;
    let texts: Vec<String> =
        text.lines().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "texts {}: the file is empty", path.display());
    Ok(texts)
}

fn write(
    arguments: &Caption,
    clip: &Clip,
    captioner: &dyn Captioner,
    inputs: &[Input],
    options: &GenerationOptions,
    program: &Program,
) -> Result<Outcome> {
    let generate = |pixels: &HostTensor| Ok(coca::generate(captioner, pixels, options)?);
    let Caption { images, model, json, .. } = arguments;
    let failed = images::run(clip, inputs, images, model, program, generate, |input, result| {
        let Ok(coca::Caption { tokens, score }) = result else { return Ok(()) };
        let image = input.path.to_string_lossy();
        let caption = clip.caption_text(&tokens, options)?;
        match json {
            true => print_json(&Captioned { image: &image, caption: &caption, tokens: &tokens, score }),
            false => print(&format!("{image}: {caption}\n")),
        }
    })?;
    Ok(Outcome::of_inputs(failed, inputs.len()))
}

fn score(
    arguments: &Caption,
    clip: &Clip,
    captioner: &dyn Captioner,
    inputs: &[Input],
    texts: &[String],
    program: &Program,
) -> Result<Outcome> {
    let tokenizer = clip.tokenizer()?;
    let known: Vec<&str> = texts.iter().map(String::as_str).collect();
    let tokens = tokenizer.tokenize_with_context_length(&known, captioner.info().context_length)?;
    let rank = |pixels: &HostTensor| {
        let session = captioner.look(pixels)?;
        let images = 0..session.tree().images();
        let scores =
            images.map(|image| perplexities(session.as_ref(), image, &tokens, tokenizer.pad_token_id()));
        Ok(scores.collect::<crate::core::Result<Vec<_>>>()?)
    };
    let Caption { images, model, json, .. } = arguments;
    let failed = images::run(clip, inputs, images, model, program, rank, |input, result| {
        let Ok(scores) = result else { return Ok(()) };
        let image = input.path.to_string_lossy();
        let texts = texts.iter().zip(scores);
        let mut texts: Vec<ScoredText> =
            texts.map(|(text, perplexity)| ScoredText { text, perplexity }).collect();
        texts.sort_by(|a, b| a.perplexity.total_cmp(&b.perplexity));
        if *json {
            return print_json(&Scored { image: &image, texts });
        }
        let lines = texts.iter().map(|text| format!("  {:>10.2}  {}\n", text.perplexity, text.text));
        print(&format!("{image}\n{}", lines.collect::<String>()))
    })?;
    Ok(Outcome::of_inputs(failed, inputs.len()))
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    print(&line)
}

fn print(text: &str) -> Result<()> {
    stdout().write_all(text.as_bytes()).context("stdout")
}
