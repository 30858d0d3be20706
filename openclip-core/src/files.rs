//! Files that appear whole or not at all.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use crate::{Error, Result};

/// Writes a file under a temporary name beside `path`, then renames it to `path`.
///
/// # Errors
/// [`Error::Io`] when the file can't be made or put in its place, and whatever `write` returns.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    // The parent of a bare file name is the empty path.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".part");
    // Temporary files are private by default; this one becomes an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(|error| Error::io(path, error))?;
    let mut file = BufWriter::new(&temporary);
    write(&mut file)?;
    file.flush().map_err(|error| Error::io(path, error))?;
    drop(file);
    temporary.as_file().sync_all().map_err(|error| Error::io(path, error))?;
    temporary.persist(path).map_err(|error| Error::io(path, error.error))?;
    Ok(())
}
