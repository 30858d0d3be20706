//! `openclip inspect image` and `openclip inspect text`: what a model computes on the way to an embedding.

mod picture;

use std::{borrow::Cow, path::Path};

use crate::{
    AttentionMap, DecodedImage, Stage,
    core::{
        EXTRA_TOKENS, HostTensor,
        files::folder_of,
        weights::{DType, TensorData, TensorInfo, save_safetensors},
    },
};
use anyhow::{Result, ensure};
use serde_json::json;

use crate::cli::{
    Program,
    arguments::{Inspect, InspectCommand, InspectImage, InspectText, InspectedParts},
    outcome::{Outcome, UsageError},
    table::table,
};

pub fn run(arguments: &Inspect, program: &Program) -> Result<Outcome> {
    match &arguments.command {
        InspectCommand::Image(image) => inspect_image(image, program),
        InspectCommand::Text(texts) => inspect_texts(texts, program),
    }
}

fn inspect_image(arguments: &InspectImage, program: &Program) -> Result<Outcome> {
    let InspectImage { image, picture, parts, model } = arguments;
    check_output(parts.output.as_deref(), "safetensors")?;
    check_output(picture.as_deref(), "png")?;
    let image = DecodedImage::open(image)?;
    let clip = model.builder(program)?.image_only().build()?;
    let (_, stages) = clip.image_intermediates(&image, &parts.stages, parts.normalize_stages)?;
    let maps = parts.attention.as_ref().map(|indices| clip.image_attention(&image, indices)).transpose()?;
    if let Some(path) = picture {
        picture::write(path, &clip, &image)?;
    }
    report(parts, stages, maps.unwrap_or_default())
}

fn inspect_texts(arguments: &InspectText, program: &Program) -> Result<Outcome> {
    let InspectText { texts, parts, model } = arguments;
    check_output(parts.output.as_deref(), "safetensors")?;
    let clip = model.builder(program)?.text_only().build()?;
    let (_, stages) = clip.text_intermediates(texts, &parts.stages, parts.normalize_stages)?;
    let maps = parts.attention.as_ref().map(|indices| clip.text_attention(texts, indices)).transpose()?;
    report(parts, stages, maps.unwrap_or_default())
}

/// Checks before any work that `path` can be written as what its extension says.
fn check_output(path: Option<&Path>, extension: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    if path.extension().is_none_or(|found| !found.eq_ignore_ascii_case(extension)) {
        return Err(
            UsageError(format!("{}: the file's name has to end in .{extension}", path.display())).into()
        );
    }
    let folder = folder_of(path);
    ensure!(folder.is_dir(), "{}: there is no folder {}", path.display(), folder.display());
    Ok(())
}

/// Prints what was found, and writes it where that is wanted.
fn report(parts: &InspectedParts, stages: Vec<Stage>, maps: Vec<AttentionMap>) -> Result<Outcome> {
    let of_stage = |Stage { name, features, extra_tokens }: Stage| {
        let extra = extra_tokens.map(|tokens| (format!("{name}{EXTRA_TOKENS}"), tokens));
        [Some((name, features)), extra].into_iter().flatten()
    };
    let of_map = |AttentionMap { name, weights }| (name, weights);
    let tensors: Vec<_> = stages.into_iter().flat_map(of_stage).chain(maps.into_iter().map(of_map)).collect();
    if let Some(path) = &parts.output {
        let stored = tensors.iter().map(|(name, values)| (name.clone(), stored(values)));
        save_safetensors(path, stored, None)?;
    }
    let rows = tensors.iter().map(|(name, values)| {
        let (mean, deviation) = statistics(values.data());
        (name, values.dims(), mean, deviation)
    });
    if parts.json {
        for (name, dims, mean, std) in rows {
            println!("{}", json!({"name": name, "dims": dims, "mean": mean, "std": std}));
        }
    } else {
        let row = |(name, dims, mean, std): (&String, &[usize], f64, f64)| {
            vec![name.clone(), format!("{dims:?}"), format!("{mean:.4}"), format!("{std:.4}")]
        };
        print!("{}", table(&["module", "dimensions", "mean", "std"], &rows.map(row).collect::<Vec<_>>()));
    }
    Ok(Outcome::Done)
}

fn stored(values: &HostTensor) -> TensorData<'static> {
    let bytes = values.data().iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorData {
        info: TensorInfo { dtype: DType::F32, dims: values.dims().to_vec() },
        bytes: Cow::Owned(bytes),
    }
}

/// Mean and standard deviation.
fn statistics(values: &[f32]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}
