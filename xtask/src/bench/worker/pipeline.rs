//! What begins with JPEG files: preparing them one after the other, and embedding them as `openclip embed image` does.

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use openclip_core::{HostTensor, ImageEncoder};
use openclip_vision::{
    DecodedImage, PreprocessConfig, Preprocessor,
    preprocess::{BatchLoader, ImageSize, LoaderOptions, ResizeMode},
};
use openclip_zoo::build::{Families, image_encoder};

use super::{
    super::{
        case::{Case, JPEG_BATCH},
        workload::Checkpoint,
    },
    Call, Options, Work,
};

fn files(options: &Options) -> Result<Vec<PathBuf>> {
    let folder = options.images.as_deref().context("--images")?;
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jpg"));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no photographs", folder.display());
    Ok(files)
}

fn some(files: &[PathBuf], first: usize, count: usize) -> Result<&[PathBuf]> {
    files.get(first..first + count).with_context(|| format!("there are {} photographs", files.len()))
}

/// All files through a loader and the image tower.
struct Embedding {
    files: Vec<PathBuf>,
    preprocessor: Preprocessor,
    encoder: Box<dyn ImageEncoder>,
    loader: LoaderOptions,
}

pub fn embedding(options: &Options) -> Result<Box<dyn Work>> {
    let checkpoint = Checkpoint::open(&options.model)?;
    let preprocessor = checkpoint.preprocessor()?;
    let Checkpoint { config, source } = &checkpoint;
    let encoder = image_encoder(&Families::default(), &config.model_cfg, source, &options.backend()?)?;
    let loader = LoaderOptions::default().with_batch_size(JPEG_BATCH).with_threads(options.threads);
    Ok(Box::new(Embedding { files: files(options)?, preprocessor, encoder, loader }))
}

impl Embedding {
    fn embed(&self, files: &[PathBuf]) -> Result<Vec<HostTensor>> {
        let mut embeddings = Vec::new();
        for batch in BatchLoader::new(self.preprocessor.clone(), files.to_vec(), self.loader) {
            embeddings.push(self.encoder.encode(&batch.pixels)?);
            for item in batch.items {
                item?;
            }
        }
        Ok(embeddings)
    }
}

impl Work for Embedding {
    fn prepare(&self, first: usize, count: usize) -> Result<Call<'_>> {
        let files = some(&self.files, first, count)?;
        Ok(Box::new(move || {
            black_box(self.embed(files)?);
            Ok(())
        }))
    }

    fn first(&self) -> Result<Vec<f32>> {
        let embeddings = self.embed(some(&self.files, 0, 1)?)?;
        Ok(embeddings.into_iter().flat_map(HostTensor::into_data).collect())
    }
}

/// Files one after the other, on this thread.
struct Preparation {
    case: Case,
    files: Vec<PathBuf>,
    preprocessor: Preprocessor,
}

pub fn preparation(options: &Options) -> Result<Box<dyn Work>> {
    let preprocessor = Checkpoint::open(&options.model)?.preprocessor()?;
    Ok(Box::new(Preparation { case: options.case, files: files(options)?, preprocessor }))
}

impl Work for Preparation {
    fn prepare(&self, first: usize, count: usize) -> Result<Call<'_>> {
        let files = some(&self.files, first, count)?;
        Ok(match self.case {
            Case::Decode => Box::new(move || {
                files.iter().try_for_each(|file| {
                    black_box(DecodedImage::open(file)?);
                    Ok(())
                })
            }),
            Case::Resize => {
                let images = files.iter().map(DecodedImage::open).collect::<Result<Vec<_>, _>>()?;
                Box::new(move || {
                    images.iter().try_for_each(|image| {
                        black_box(self.preprocessor.prepare(image)?);
                        Ok(())
                    })
                })
            }
            _ => Box::new(move || {
                files.iter().try_for_each(|file| {
                    black_box(self.preprocessor.prepare(&DecodedImage::open(file)?)?);
                    Ok(())
                })
            }),
        })
    }

    fn first(&self) -> Result<Vec<f32>> {
        let file = self.files.first().context("a photograph")?;
        match self.case {
            Case::Decode => decoded(file),
            _ => Ok(self.preprocessor.prepare(&DecodedImage::open(file)?)?.into_data()),
        }
    }
}

/// The pixels of a file, `[H, W, 3]`: what is left of preparing when the target has the image's own size.
fn decoded(file: &Path) -> Result<Vec<f32>> {
    let image = DecodedImage::open(file)?;
    let size = ImageSize::HeightWidth([image.height(), image.width()]);
    let config = PreprocessConfig { size, resize_mode: ResizeMode::Squash, ..PreprocessConfig::default() };
    let pixels = Preprocessor::new(config)?.resize_and_crop(&image)?;
    Ok(pixels.data.into_iter().map(f32::from).collect())
}
