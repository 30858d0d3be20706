//! `openclip embed image` and `openclip embed text`: images and texts as vectors.

use std::io::Read;

use crate::Embedding;
use anyhow::{Context, Result, ensure};

use crate::cli::{
    Program,
    arguments::{Embed, EmbedCommand, EmbedImage, EmbedText},
    images,
    outcome::Outcome,
    output, progress,
};

pub fn run(arguments: &Embed, program: &Program) -> Result<Outcome> {
    match &arguments.command {
        EmbedCommand::Image(image) => embed_images(image, program),
        EmbedCommand::Text(text) => embed_texts(text, program),
    }
}

fn embed_images(arguments: &EmbedImage, program: &Program) -> Result<Outcome> {
    let path = arguments.output.output.as_deref();
    path.map_or(Ok(()), output::check)?;
    let inputs = images::collect(&arguments.images.images)?;
    let clip = arguments.model.builder(program)?.image_only().build()?;
    let dim = clip.image_encoder()?.info().embed_dim;
    let mut writer = output::writer(path, "image", inputs.len(), dim)?;
    let failed =
        images::embed(&clip, &inputs, &arguments.images, &arguments.model, program, |input, result| {
            let row = result.map(|raw| finished(raw, arguments.output.no_normalize));
            writer.add(&input.path.to_string_lossy(), row.as_deref().map_err(String::as_str))
        })?;
    let outcome = Outcome::of_inputs(failed, inputs.len());
    if outcome != Outcome::Failed {
        writer.finish()?;
    }
    Ok(outcome)
}

fn embed_texts(arguments: &EmbedText, program: &Program) -> Result<Outcome> {
    let path = arguments.output.output.as_deref();
    path.map_or(Ok(()), output::check)?;
    let texts = texts(arguments)?;
    let clip = arguments.model.builder(program)?.text_only().build()?;
    let mut writer = output::writer(path, "text", texts.len(), clip.text_encoder()?.info().embed_dim)?;
    let bar = progress::count(texts.len(), "texts", program.quiet);
    // So many batches at once that there are some of each length among them.
    let batch_size = arguments.model.batch_size;
    for window in texts.chunks(batch_size.saturating_mul(BATCHES_TO_SORT)) {
        let window: Vec<&str> = window.iter().map(String::as_str).collect();
        let embeddings = clip.encode_text_raw(&window, batch_size)?;
        for (text, raw) in window.iter().zip(embeddings.rows()) {
            writer.add(text, Ok(&finished(raw, arguments.output.no_normalize)))?;
        }
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    writer.finish()?;
    Ok(Outcome::Done)
}

/// Batches of texts that are sorted by length together.
const BATCHES_TO_SORT: usize = 32;

/// A raw embedding as it is written.
fn finished(raw: &[f32], no_normalize: bool) -> Vec<f32> {
    if no_normalize { raw.to_vec() } else { Embedding::normalized(raw).into_vec() }
}

/// The texts, in order. In a file every line is one, an empty line too.
fn texts(arguments: &EmbedText) -> Result<Vec<String>> {
    let Some(path) = &arguments.input else { return Ok(arguments.texts.clone()) };
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("texts on stdin")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("texts {}", path.display()))?;
    }
    let texts: Vec<String> = text.lines().map(str::to_owned).collect();
    ensure!(!texts.is_empty(), "texts {}: the file is empty", path.display());
    Ok(texts)
}
