//! A file that appears under its name only once it is complete.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// A file that is being written beside its final place.
pub struct WholeFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

/// The folder that `path` lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl WholeFile {
    /// Starts a file that will become `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Temporary files are for their owner alone; an output is like any file that the user makes.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.prefix(".openclip-").tempfile_in(folder_of(path)).with_context(|| named(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| named(&self.path))
    }

    /// Puts the file in its place.
    pub fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(|error| error.into_error());
        let file = file.with_context(|| named(&self.path))?;
        file.as_file().sync_all().with_context(|| named(&self.path))?;
        file.persist(&self.path).with_context(|| named(&self.path))?;
        Ok(())
    }
}

fn named(path: &Path) -> String {
    format!("output {}", path.display())
}
