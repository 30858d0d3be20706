//! The files that a Hugging Face tokenizer consists of, wherever they are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use openclip_core::{Error, Result, files::write_atomically};
use serde::de::DeserializeOwned;

/// The whole tokenizer as the crate `tokenizers` writes it.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The tokenizer's class and its arguments.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Special tokens, where the configuration is an old one.
pub(super) const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// Tokens beside the vocabulary, where the configuration is an old one.
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";
/// The model's configuration, which tells the class where the tokenizer's doesn't.
pub(super) const MODEL_CONFIG: &str = "config.json";

/// Files of a Hugging Face tokenizer by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerFiles {
    paths: BTreeMap<&'static str, PathBuf>,
}

impl TokenizerFiles {
    /// What a tokenizer can be made of, the best first: names of files that go together.
    pub const VOCABULARIES: &'static [&'static [&'static str]] = &[
        &[TOKENIZER],
        &["spiece.model"],
        &["sentencepiece.bpe.model"],
        &["tokenizer.model"],
        &["vocab.json", "merges.txt"],
        &["vocab.txt"],
    ];

    /// What says more about a tokenizer; any of them may be absent, the first one least likely.
    pub const SETTINGS: &'static [&'static str] =
        &[MODEL_CONFIG, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS];

    /// Those that `folder` has.
    pub fn in_folder(folder: &Path) -> Self {
        let names = Self::VOCABULARIES.iter().copied().flatten().chain(Self::SETTINGS);
        let present = names.map(|&name| (name, folder.join(name))).filter(|(_, path)| path.is_file());
        Self { paths: present.collect() }
    }

    /// Adds the file `name`, one of [`VOCABULARIES`](Self::VOCABULARIES) and [`SETTINGS`](Self::SETTINGS).
    pub fn insert(&mut self, name: &'static str, path: PathBuf) {
        self.paths.insert(name, path);
    }

    /// Whether there is something that a tokenizer can be made of.
    pub fn has_vocabulary(&self) -> bool {
        Self::VOCABULARIES.iter().any(|names| names.iter().all(|name| self.path(name).is_some()))
    }

    /// The path of the file `name`.
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(PathBuf::as_path)
    }

    /// Copies the files into `folder` under their own names. Returns the copies.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn copy_to(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let copy = |(name, path): (&&str, &PathBuf)| {
            let target = folder.join(name);
            let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
            write_atomically(&target, |file| {
                file.write_all(&bytes).map_err(|error| Error::io(&target, error))
            })?;
            Ok(target)
        };
        self.paths.iter().map(copy).collect()
    }

    /// The bytes of the file `name`.
    pub(super) fn read(&self, name: &str) -> Result<Option<(String, Vec<u8>)>> {
        let Some(path) = self.path(name) else { return Ok(None) };
        let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
        Ok(Some((path.display().to_string(), bytes)))
    }

    /// The lines of the file `name`.
    pub(super) fn read_text(&self, name: &str) -> Result<Option<(String, String)>> {
        let Some((origin, bytes)) = self.read(name)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some((origin, text))),
            Err(_) => Err(Error::config(origin, "the file is not UTF-8 text")),
        }
    }

    /// The JSON value in the file `name`.
    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((origin, bytes)) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::config(origin, error.to_string()))
    }

    /// Where the files are, for messages.
    pub(super) fn origin(&self) -> String {
        let folder = self.paths.values().next().and_then(|path| path.parent());
        folder.map_or_else(|| "tokenizer".to_owned(), |folder| folder.display().to_string())
    }
}
