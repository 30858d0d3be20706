//! `.safetensors`: the tensor `embeddings` `[N, D]` in f32, written row by row. A failed input's row is NaN. The header's
//! metadata holds what the rows are: `kind` (`image` or `text`) and `format`.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{EmbeddingWriter, npy::row, whole_file::WholeFile};

pub struct Safetensors {
    file: WholeFile,
    dim: usize,
    missing: usize,
}

impl Safetensors {
    pub fn create(path: &Path, kind: &str, count: usize, dim: usize) -> Result<Self> {
        let mut file = WholeFile::create(path)?;
        let header = json!({
            "__metadata__": { "format": "pt", "kind": kind },
            "embeddings": { "dtype": "F32", "shape": [count, dim], "data_offsets": [0, 4 * count * dim] },
        });
        let mut text = header.to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        file.write(&(text.len() as u64).to_le_bytes())?;
        file.write(text.as_bytes())?;
        Ok(Self { file, dim, missing: count })
    }
}

impl EmbeddingWriter for Safetensors {
    fn add(&mut self, _: &str, result: Result<&[f32], &str>) -> Result<()> {
        self.missing -= 1;
        self.file.write(&row(result, self.dim)?)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        ensure!(self.missing == 0, "{} embeddings are missing", self.missing);
        self.file.finish()
    }
}
