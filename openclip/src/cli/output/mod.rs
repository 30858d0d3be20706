//! Embeddings as files: NumPy arrays, safetensors, JSON lines. Every file appears whole or not at all.

mod jsonl;
mod npy;
mod rows;
mod safetensors;

use std::path::Path;

use crate::core::files::folder_of;
use anyhow::Result;

use crate::cli::outcome::UsageError;

/// Takes embeddings in the inputs' order.
pub trait EmbeddingWriter {
    /// Adds the embedding of `input`, or the reason why it has none.
    fn add(&mut self, input: &str, result: Result<&[f32], &str>) -> Result<()>;

    /// Completes the file.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A writer of `count` embeddings of width `dim` to `path`, by its extension; JSON lines on stdout where there is no
/// path. `kind` is what a JSON line calls its input: `image` or `text`.
pub fn writer(
    path: Option<&Path>,
    kind: &'static str,
    count: usize,
    dim: usize,
) -> Result<Box<dyn EmbeddingWriter>> {
    let Some(path) = path else { return Ok(Box::new(jsonl::JsonLines::to_stdout(kind))) };
    match extension(path)? {
        Extension::Npy => Ok(Box::new(rows::Rows::create(path, &npy::header(count, dim), count, dim)?)),
        Extension::Safetensors => {
            let header = safetensors::header(kind, count, dim);
            Ok(Box::new(rows::Rows::create(path, &header, count, dim)?))
        }
        Extension::Jsonl => Ok(Box::new(jsonl::JsonLines::create(path, kind)?)),
    }
}

/// Checks, before anything is computed, that `path` can become an output file.
pub fn check(path: &Path) -> Result<()> {
    extension(path)?;
    let folder = folder_of(path);
    anyhow::ensure!(
        folder.is_dir(),
        "output {}: the folder {} doesn't exist; make it first",
        path.display(),
        folder.display()
    );
    anyhow::ensure!(!path.is_dir(), "output {}: there is a folder of this name", path.display());
    Ok(())
}

enum Extension {
    Npy,
    Safetensors,
    Jsonl,
}

fn extension(path: &Path) -> Result<Extension> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(Extension::Npy),
        Some("safetensors") => Ok(Extension::Safetensors),
        Some("jsonl") => Ok(Extension::Jsonl),
        _ => {
            let message =
                format!("output {}: the name must end in .npy, .safetensors or .jsonl", path.display());
            Err(UsageError(message).into())
        }
    }
}
