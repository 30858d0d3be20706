//! JSON lines: `{"image": PATH, "embedding": [..]}` or `{"image": PATH, "error": REASON}`, and the same with `text`.

use std::{
    io::{Write, stdout},
    path::Path,
};

use crate::core::files::AtomicFile;
use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::EmbeddingWriter;

pub struct JsonLines {
    kind: &'static str,
    file: Option<AtomicFile>,
}

impl JsonLines {
    pub fn create(path: &Path, kind: &'static str) -> Result<Self> {
        Ok(Self { kind, file: Some(AtomicFile::create(path)?) })
    }

    pub fn to_stdout(kind: &'static str) -> Self {
        Self { kind, file: None }
    }
}

impl EmbeddingWriter for JsonLines {
    fn add(&mut self, input: &str, result: Result<&[f32], &str>) -> Result<()> {
        let (key, value) = match result {
            Ok(values) => ("embedding", Value::from(values)),
            Err(reason) => ("error", Value::from(reason)),
        };
        let mut object = Map::new();
        object.insert(self.kind.to_owned(), input.into());
        object.insert(key.to_owned(), value);
        let line = format!("{}\n", Value::from(object));
        match &mut self.file {
            Some(file) => Ok(file.append(line.as_bytes())?),
            None => stdout().write_all(line.as_bytes()).context("stdout"),
        }
    }

    fn finish(self: Box<Self>) -> Result<()> {
        match self.file {
            Some(file) => Ok(file.finish()?),
            None => stdout().flush().context("stdout"),
        }
    }
}
