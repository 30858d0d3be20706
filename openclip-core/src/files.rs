//! Files that appear whole or not at all.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file that is written under a temporary name beside its place, and gets its own name once it is complete. Dropped
/// before that, it leaves nothing behind.
pub struct AtomicFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Starts a file that will become `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder isn't there or can't be written to.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".part");
        // Temporary files are private by default; this one becomes an ordinary file, subject to the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(&path)).map_err(|error| Error::io(&path, error))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file's place.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io(&self.path, error))
    }

    /// Puts the file in its place, once the disk has all of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        self.put(true)
    }

    /// Puts the file in its place without waiting for the disk, so that it may be damaged after a power failure: for what
    /// is checked when it is read and can be made again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish_unsynced(self) -> Result<()> {
        self.put(false)
    }

    fn put(self, sync: bool) -> Result<()> {
        let Self { path, file } = self;
        let finish = || {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            if sync {
                file.as_file().sync_all()?;
            }
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        finish().map_err(|error| Error::io(&path, error))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The folder that `path` lies in; the parent of a bare file name is the empty path, and means the current folder.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `path` whole or not at all; see [`AtomicFile`].
///
/// # Errors
/// [`Error::Io`] when the file can't be made or put in its place, and whatever `write` returns.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    write(&mut file)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write_atomically(&path, |file| file.write_all(b"all").map_err(|error| Error::io(&path, error)))
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = AtomicFile::create("no/such/folder/file").err().unwrap().to_string();
        assert!(error.starts_with("no/such/folder/file: "), "{error}");
    }
}
