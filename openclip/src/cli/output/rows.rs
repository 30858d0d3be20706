//! Files that are a header and then the embeddings row by row in f32. A failed input's row is NaN.

use std::path::Path;

use crate::core::files::AtomicFile;
use anyhow::{Result, ensure};

use super::EmbeddingWriter;

pub struct Rows {
    file: AtomicFile,
    dim: usize,
    missing: usize,
}

impl Rows {
    /// Starts a file of `count` rows of `dim` values after `header`.
    pub fn create(path: &Path, header: &[u8], count: usize, dim: usize) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        file.append(header)?;
        Ok(Self { file, dim, missing: count })
    }
}

impl EmbeddingWriter for Rows {
    fn add(&mut self, _: &str, result: Result<&[f32], &str>) -> Result<()> {
        let bytes: Vec<u8> = match result {
            Ok(row) => {
                ensure!(
                    row.len() == self.dim,
                    "the model gives {} values per input, not {}",
                    row.len(),
                    self.dim
                );
                row.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            Err(_) => f32::NAN.to_le_bytes().repeat(self.dim),
        };
        self.missing -= 1;
        Ok(self.file.append(&bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        ensure!(self.missing == 0, "{} embeddings are missing", self.missing);
        Ok(self.file.finish()?)
    }
}
