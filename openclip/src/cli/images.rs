//! Image inputs: files, folders that are searched through, and lists on stdin; and running them through a model.

use std::{
    collections::VecDeque,
    io::{BufRead, stdin},
    path::{Path, PathBuf},
};

use crate::{
    Clip,
    core::HostTensor,
    vision::preprocess::{BatchLoader, DecodeOptions, LoaderOptions},
};
use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::cli::{
    Program,
    arguments::{ImageArguments, ModelArguments},
    progress,
};

/// Extensions that a search through a folder takes for images.
const EXTENSIONS: &[&str] = &[
    "bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff",
    "webp",
];

/// An input: a file to read, or something that can't be one.
pub struct Input {
    /// What it is called, as it was given or found.
    pub path: PathBuf,
    /// Why there is nothing to read.
    pub error: Option<String>,
}

impl Input {
    fn file(path: PathBuf) -> Self {
        Self { path, error: None }
    }

    fn failed(path: &Path, error: impl std::fmt::Display) -> Self {
        Self { path: path.to_owned(), error: Some(format!("{}: {error}", path.display())) }
    }
}

/// All inputs that `paths` stand for, in order; those of a folder sorted by path.
pub fn collect(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            for line in stdin().lock().lines() {
                let line = line.context("list of images on stdin")?;
                if !line.is_empty() {
                    add(&mut inputs, Path::new(&line));
                }
            }
        } else {
            add(&mut inputs, path);
        }
    }
    Ok(inputs)
}

fn add(inputs: &mut Vec<Input>, path: &Path) {
    if !path.is_dir() {
        inputs.push(Input::file(path.to_owned()));
        return;
    }
    let before = inputs.len();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && has_image_extension(entry.path()) => {
                inputs.push(Input::file(entry.into_path()));
            }
            Ok(_) => {}
            Err(error) => {
                let place = error.path().unwrap_or(path).to_owned();
                let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                inputs.push(Input::failed(&place, format!("folder can't be read: {reason}")));
            }
        }
    }
    if inputs.len() == before {
        inputs.push(Input::failed(path, format!("folder has no images ({})", EXTENSIONS.join(", "))));
    }
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}

/// Runs `inputs` through the image tower while the next batch is being prepared, and hands each one's raw embedding, or
/// the reason why there is none, to `each`, in order. Returns how many failed.
pub fn embed(
    clip: &Clip,
    inputs: &[Input],
    images: &ImageArguments,
    model: &ModelArguments,
    program: &Program,
    mut each: impl FnMut(&Input, Result<&[f32], String>) -> Result<()>,
) -> Result<usize> {
    let encoder = clip.image_encoder()?;
    let embed = |pixels: &HostTensor| {
        let embeddings = encoder.encode(pixels)?;
        let width: usize = embeddings.dims().iter().skip(1).product();
        // Without pooling a tower gives an embedding per token, which can be neither written as a row nor compared.
        anyhow::ensure!(
            width == encoder.info().embed_dim,
            "{} gives {:?} values for a batch, not one embedding per image",
            clip.name(),
            embeddings.dims()
        );
        Ok(embeddings.rows().map(<[f32]>::to_vec).collect())
    };
    run(clip, inputs, images, model, program, embed, |input, row| {
        each(input, row.as_deref().map_err(Clone::clone))
    })
}

/// Runs `inputs` through `batch`, which gives something for each image of `[N, 3, H, W]`, while the next batch is being
/// prepared, and hands what there is for each input, or the reason why there is nothing, to `each`, in order. Returns how
/// many failed.
pub fn run<T: Clone>(
    clip: &Clip,
    inputs: &[Input],
    images: &ImageArguments,
    model: &ModelArguments,
    program: &Program,
    mut batch: impl FnMut(&HostTensor) -> Result<Vec<T>>,
    mut each: impl FnMut(&Input, Result<T, String>) -> Result<()>,
) -> Result<usize> {
    let options = LoaderOptions::default()
        .with_batch_size(model.batch_size)
        .with_threads(model.loader_threads())
        .with_decode(DecodeOptions::default().with_fast(images.fast_decode));
    let readable = inputs.iter().filter(|input| input.error.is_none());
    let paths: Vec<PathBuf> = readable.map(|input| input.path.clone()).collect();
    let loader = BatchLoader::new(clip.preprocessor()?.clone(), paths, options);
    let bar = progress::count(inputs.len(), "images", program.quiet);

    let mut failed = 0;
    let mut finished = |input: &Input, result: Result<T, String>| {
        if let Err(reason) = &result {
            failed += 1;
            bar.suspend(|| eprintln!("error: {reason}"));
        }
        bar.inc(1);
        each(input, result)
    };
    let mut waiting: VecDeque<&Input> = inputs.iter().collect();
    for loaded in loader {
        let results = batch(&loaded.pixels)?;
        for item in &loaded.items {
            while let Some(input) = waiting.pop_front() {
                if let Some(reason) = &input.error {
                    finished(input, Err(reason.clone()))?;
                    continue;
                }
                let result = item.as_ref().map_err(ToString::to_string).and_then(|&row| {
                    results.get(row).cloned().ok_or_else(|| format!("{}: no result", input.path.display()))
                });
                finished(input, result)?;
                break;
            }
        }
    }
    for input in waiting {
        let reason = input.error.clone().unwrap_or_else(|| format!("{}: not read", input.path.display()));
        finished(input, Err(reason))?;
    }
    bar.finish_and_clear();
    Ok(failed)
}
