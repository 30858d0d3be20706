//! `openclip models list` and `openclip models show`: what the registry knows.

use std::{
    fmt::Write as _,
    io::{Write, stdout},
};

use anyhow::{Context, Result};
use openclip::zoo::{Architecture, Pretrained, Registry};
use serde_json::{Value, json};

use crate::{
    arguments::{Models, ModelsCommand, ModelsList},
    outcome::{Outcome, UsageError},
};

pub fn run(arguments: &Models) -> Result<Outcome> {
    let registry = Registry::bundled();
    let text = match &arguments.command {
        None => list(&registry, &ModelsList::default())?,
        Some(ModelsCommand::List(options)) => list(&registry, options)?,
        Some(ModelsCommand::Show { name, json: true }) => {
            format!("{}\n", serde_json::to_value(registry.architecture(name)?)?)
        }
        Some(ModelsCommand::Show { name, json: false }) => show(registry.architecture(name)?)?,
    };
    stdout().write_all(text.as_bytes()).context("stdout")?;
    Ok(Outcome::Done)
}

fn list(registry: &Registry, options: &ModelsList) -> Result<String> {
    let all = registry.architectures()?;
    let mut chosen = all.clone();
    if let Some(family) = &options.family {
        chosen.retain(|architecture| architecture.family.eq_ignore_ascii_case(family));
        if chosen.is_empty() {
            let mut families: Vec<&str> =
                all.iter().map(|architecture| architecture.family.as_str()).collect();
            families.dedup();
            let message = format!("there is no family `{family}`; there are: {}", families.join(", "));
            return Err(UsageError(message).into());
        }
    }
    if options.json {
        let lines = chosen.iter().flat_map(|architecture| json_lines(architecture, options.pretrained));
        return Ok(lines.map(|line| format!("{line}\n")).collect());
    }
    let rows: Vec<Vec<String>> = match options.pretrained {
        false => chosen.iter().map(|architecture| architecture_row(architecture)).collect(),
        true => chosen
            .iter()
            .flat_map(|architecture| {
                architecture.pretrained.iter().map(|pretrained| pretrained_row(architecture, pretrained))
            })
            .collect(),
    };
    let header: &[&str] = match options.pretrained {
        false => &["architecture", "family", "params", "image", "GFLOPs", "size", "width", "tags"],
        true => &["architecture", "tag", "ImageNet", "size", "licence", "from"],
    };
    Ok(table(header, &rows))
}

fn json_lines(architecture: &Architecture, pretrained: bool) -> Vec<Value> {
    let common = json!({
        "name": architecture.name,
        "family": architecture.family,
        "image_size": image_size(architecture),
        "embed_dim": architecture.config.embed_dim,
        "profile": architecture.profile,
    });
    if !pretrained {
        let mut line = common;
        line["tags"] = architecture.tags().collect();
        return vec![line];
    }
    let line = |record: &Pretrained| {
        let mut line = common.clone();
        line["pretrained"] = json!(record);
        line
    };
    architecture.pretrained.iter().map(line).collect()
}

fn image_size(architecture: &Architecture) -> Option<&Value> {
    architecture.config.vision_cfg.get("image_size")
}

fn size_text(architecture: &Architecture) -> String {
    image_size(architecture).map_or_else(|| "224".to_owned(), Value::to_string)
}

fn architecture_row(architecture: &Architecture) -> Vec<String> {
    let profile = architecture.profile.as_ref();
    let millions = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} M"));
    vec![
        architecture.name.clone(),
        architecture.family.clone(),
        millions(profile.map(|profile| profile.mparams)),
        millions(profile.map(|profile| profile.image_mparams)),
        profile
            .and_then(|profile| profile.gflops)
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")),
        size_text(architecture),
        architecture.config.embed_dim.to_string(),
        architecture.pretrained.len().to_string(),
    ]
}

fn pretrained_row(architecture: &Architecture, pretrained: &Pretrained) -> Vec<String> {
    vec![
        architecture.name.clone(),
        pretrained.tag.clone(),
        accuracy(pretrained),
        size_text(architecture),
        pretrained.licence.clone().unwrap_or_else(|| "-".to_owned()),
        place(pretrained),
    ]
}

fn accuracy(pretrained: &Pretrained) -> String {
    pretrained.imagenet_zero_shot.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
}

/// Where weights come from.
fn place(pretrained: &Pretrained) -> String {
    match (&pretrained.bundled, &pretrained.repository, &pretrained.url) {
        (Some(_), _, _) => "this program".to_owned(),
        (_, Some(repository), _) => repository.clone(),
        (_, _, Some(url)) => url.address.clone(),
        _ => "-".to_owned(),
    }
}

fn show(architecture: &Architecture) -> Result<String> {
    let mut text = format!("{}\n", architecture.name);
    writeln!(text, "  family      {}", architecture.family)?;
    if let Some(profile) = &architecture.profile {
        writeln!(
            text,
            "  parameters  {:.2} M: image {:.2} M, text {:.2} M",
            profile.mparams, profile.image_mparams, profile.text_mparams
        )?;
        if let (Some(all), Some(image), Some(of_text)) =
            (profile.gflops, profile.image_gflops, profile.text_gflops)
        {
            writeln!(text, "  GFLOPs      {all:.2}: image {image:.2}, text {of_text:.2}")?;
        }
    }
    writeln!(text, "  embedding   {}", architecture.config.embed_dim)?;
    writeln!(text, "  image       {}", serde_json::to_string(&architecture.config.vision_cfg)?)?;
    writeln!(text, "  text        {}", serde_json::to_string(&architecture.config.text_cfg)?)?;
    if architecture.config.quick_gelu {
        writeln!(text, "  activation  QuickGELU")?;
    }
    if architecture.pretrained.is_empty() {
        writeln!(text, "\nno pretrained weights: give a checkpoint file with --pretrained FILE")?;
        return Ok(text);
    }
    text.push('\n');
    let rows: Vec<Vec<String>> = architecture
        .pretrained
        .iter()
        .map(|pretrained| {
            let preprocess = &pretrained.preprocess;
            vec![
                pretrained.tag.clone(),
                accuracy(pretrained),
                if pretrained.quick_gelu { "QuickGELU" } else { "GELU" }.to_owned(),
                format!("{} {}", preprocess.resize_mode, preprocess.interpolation),
                pretrained.licence.clone().unwrap_or_else(|| "-".to_owned()),
                place(pretrained),
            ]
        })
        .collect();
    text.push_str(&table(&["tag", "ImageNet", "activation", "resize", "licence", "from"], &rows));
    Ok(text)
}

/// Columns that line up. Columns of numbers stand to the right.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            cell == "-" || cell.starts_with(|first: char| first.is_ascii_digit()) && !cell.contains("://")
        })
    };
    let numeric: Vec<bool> = (0..header.len()).map(numeric).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths.iter().zip(&numeric))
            .map(|(cell, (&width, &numeric))| match numeric {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
