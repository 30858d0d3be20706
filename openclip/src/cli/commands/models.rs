//! `openclip models list` and `openclip models show`: what the registry knows.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{Write, stdout},
    path::PathBuf,
};

use crate::zoo::{
    Architecture, Pretrained, Profile, Registry,
    build::{self, Families},
    hub::{Hub, HubConfig},
};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cli::{
    Program,
    arguments::{Models, ModelsCommand, ModelsList},
    outcome::{Outcome, UsageError},
    table::table,
};

pub fn run(arguments: &Models, program: &Program) -> Result<Outcome> {
    let registry = &program.registry;
    let catalog = Catalog { hub: Hub::new(HubConfig::from_env()), families: program.families.clone() };
    let text = match &arguments.command {
        None => catalog.list(registry, &ModelsList::default())?,
        Some(ModelsCommand::List(options)) => catalog.list(registry, options)?,
        Some(ModelsCommand::Show { name, json: true }) => {
            format!("{}\n", catalog.json(registry.architecture(name)?)?)
        }
        Some(ModelsCommand::Show { name, json: false }) => catalog.show(registry.architecture(name)?)?,
    };
    stdout().write_all(text.as_bytes()).context("stdout")?;
    Ok(Outcome::Done)
}

/// What is known of models beside their records.
struct Catalog {
    hub: Hub,
    families: Families,
}

impl Catalog {
    fn list(&self, registry: &Registry, options: &ModelsList) -> Result<String> {
        let all = registry.architectures()?;
        let mut chosen = all.clone();
        if let Some(family) = &options.family {
            chosen.retain(|architecture| architecture.family.eq_ignore_ascii_case(family));
            if chosen.is_empty() {
                let families: BTreeSet<&str> =
                    all.iter().map(|architecture| architecture.family.as_str()).collect();
                let families: Vec<&str> = families.into_iter().collect();
                let message = format!("there is no family `{family}`; there are: {}", families.join(", "));
                return Err(UsageError(message).into());
            }
        }
        if options.json {
            let mut text = String::new();
            for architecture in chosen {
                for line in self.json_lines(architecture, options.pretrained)? {
                    writeln!(text, "{line}")?;
                }
            }
            return Ok(text);
        }
        if options.pretrained {
            let rows = chosen.iter().flat_map(|architecture| {
                architecture.pretrained.iter().map(|pretrained| self.pretrained_row(architecture, pretrained))
            });
            let header =
                ["architecture", "tag", "family", "ImageNet", "pixels", "size", "licence", "cached", "from"];
            return Ok(table(&header, &rows.collect::<Result<Vec<_>>>()?));
        }
        let rows = chosen.iter().map(|architecture| self.architecture_row(architecture));
        let header = [
            "architecture",
            "family",
            "params",
            "GFLOPs",
            "pixels",
            "tags",
            "ImageNet",
            "size",
            "licence",
            "cached",
        ];
        Ok(table(&header, &rows.collect::<Result<Vec<_>>>()?))
    }

    /// Published sizes and costs, or those that the model's definition has.
    fn profile(&self, architecture: &Architecture) -> Result<Profile> {
        match &architecture.profile {
            Some(profile) => Ok(profile.clone()),
            None => Ok(build::profile(&self.families, &architecture.config)?),
        }
    }

    /// The file that the weights were downloaded to, if they were.
    fn cached(&self, pretrained: &Pretrained) -> Result<Option<PathBuf>> {
        for file in pretrained.hub_files()? {
            if let Some(path) = self.hub.lookup(&file)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn json(&self, architecture: &Architecture) -> Result<Value> {
        let mut value = json!(architecture);
        value["profile"] = json!(self.profile(architecture)?);
        for (record, pretrained) in architecture.pretrained.iter().enumerate() {
            value["pretrained"][record]["cached"] = json!(self.cached(pretrained)?.is_some());
        }
        Ok(value)
    }

    fn json_lines(&self, architecture: &Architecture, pretrained: bool) -> Result<Vec<Value>> {
        let common = json!({
            "name": architecture.name,
            "family": architecture.family,
            "image_size": image_size(architecture),
            "embed_dim": architecture.config.embed_dim,
            "profile": self.profile(architecture)?,
        });
        if !pretrained {
            let mut line = common;
            line["tags"] = architecture.tags().collect();
            return Ok(vec![line]);
        }
        let line = |record: &Pretrained| {
            let mut line = common.clone();
            line["pretrained"] = json!(record);
            line["cached"] = json!(self.cached(record)?.is_some());
            Ok(line)
        };
        architecture.pretrained.iter().map(line).collect()
    }

    fn architecture_row(&self, architecture: &Architecture) -> Result<Vec<String>> {
        let profile = self.profile(architecture)?;
        let best = architecture.pretrained.iter().filter_map(|pretrained| pretrained.imagenet_zero_shot);
        let mut cached = 0;
        for pretrained in &architecture.pretrained {
            cached += usize::from(self.cached(pretrained)?.is_some());
        }
        Ok(vec![
            architecture.name.clone(),
            architecture.family.clone(),
            format!("{:.1} M", profile.mparams),
            profile.gflops.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")),
            size_text(architecture),
            architecture.pretrained.len().to_string(),
            percent(best.reduce(f64::max)),
            match architecture.pretrained.as_slice() {
                [only] => size(only.size, &profile),
                _ => size(None, &profile),
            },
            licences(&architecture.pretrained),
            if cached > 0 { cached.to_string() } else { "-".to_owned() },
        ])
    }

    fn pretrained_row(&self, architecture: &Architecture, pretrained: &Pretrained) -> Result<Vec<String>> {
        let [size, cached] = self.size_and_cached(pretrained, &self.profile(architecture)?)?;
        Ok(vec![
            architecture.name.clone(),
            pretrained.tag.clone(),
            architecture.family.clone(),
            percent(pretrained.imagenet_zero_shot),
            size_text(architecture),
            size,
            licences(std::slice::from_ref(pretrained)),
            cached,
            place(pretrained),
        ])
    }

    /// Size of the weights' file where it is known or there, or about what the parameters take, and whether it is there.
    fn size_and_cached(&self, pretrained: &Pretrained, profile: &Profile) -> Result<[String; 2]> {
        let cached = self.cached(pretrained)?;
        let on_disk = cached.as_ref().and_then(|path| std::fs::metadata(path).ok()).map(|file| file.len());
        Ok([
            size(on_disk.or(pretrained.size), profile),
            if cached.is_some() { "yes" } else { "-" }.to_owned(),
        ])
    }

    fn show(&self, architecture: &Architecture) -> Result<String> {
        let config = &architecture.config;
        let profile = self.profile(architecture)?;
        let mut text = format!("{}\n", architecture.name);
        writeln!(text, "  family      {}", architecture.family)?;
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
        writeln!(text, "  embedding   {}", config.embed_dim)?;
        writeln!(text, "  image       {}", serde_json::to_string(&config.vision_cfg)?)?;
        writeln!(text, "  text        {}", serde_json::to_string(&config.text_cfg)?)?;
        if config.quick_gelu {
            writeln!(text, "  activation  QuickGELU")?;
        }
        let scores = if config.init_logit_bias.is_some() { "sigmoid" } else { "softmax" };
        writeln!(text, "  scores      {scores}")?;
        if architecture.pretrained.is_empty() {
            writeln!(text, "\nno pretrained weights: give a checkpoint file with --pretrained FILE")?;
            return Ok(text);
        }
        text.push('\n');
        let row = |pretrained: &Pretrained| {
            let preprocess = &pretrained.preprocess;
            let [size, cached] = self.size_and_cached(pretrained, &profile)?;
            Ok(vec![
                pretrained.tag.clone(),
                percent(pretrained.imagenet_zero_shot),
                if pretrained.quick_gelu { "QuickGELU" } else { "GELU" }.to_owned(),
                format!("{} {}", preprocess.resize_mode, preprocess.interpolation),
                pretrained.tokenizer.clone(),
                size,
                licences(std::slice::from_ref(pretrained)),
                cached,
                place(pretrained),
            ])
        };
        let rows: Vec<Vec<String>> = architecture.pretrained.iter().map(row).collect::<Result<_>>()?;
        let header =
            ["tag", "ImageNet", "activation", "resize", "tokenizer", "size", "licence", "cached", "from"];
        text.push_str(&table(&header, &rows));
        Ok(text)
    }
}

fn image_size(architecture: &Architecture) -> Option<&Value> {
    architecture.config.vision_cfg.get("image_size")
}

fn size_text(architecture: &Architecture) -> String {
    image_size(architecture).map_or_else(|| "224".to_owned(), Value::to_string)
}

/// The size of a file, or where it isn't known about what the parameters take in 32-bit floats.
fn size(bytes: Option<u64>, profile: &Profile) -> String {
    match bytes {
        Some(bytes) => format!("{:.0} MB", bytes as f64 / 1e6),
        None => format!("~{:.0} MB", 4.0 * profile.mparams),
    }
}

/// The licence that is known of these weights, or how many.
fn licences(pretrained: &[Pretrained]) -> String {
    let known: BTreeSet<&str> = pretrained.iter().filter_map(|record| record.licence.as_deref()).collect();
    match (known.first(), known.len()) {
        (None, _) => "-".to_owned(),
        (Some(licence), 1) => (*licence).to_owned(),
        (Some(_), count) => format!("{count} licences"),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
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
