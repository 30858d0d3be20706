//! The bytes of a checkpoint: a memory-mapped file, or bytes that are already in memory. What the readers have in
//! common (how a path is opened, what an error says of it) is here.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use super::WeightsError;
use crate::{Error, Result};

/// The content of a checkpoint, and what error messages call it.
pub(super) struct CheckpointBytes {
    origin: PathBuf,
    storage: Storage,
}

enum Storage {
    Mapped(Mmap),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl CheckpointBytes {
    /// Maps the file at `path` without reading it.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be opened, [`WeightsError::Malformed`] when it is empty or not a file.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        let refuse = |message: &str| Err(malformed(path, "checkpoint", message).into());
        if metadata.is_dir() {
            return refuse("it is a folder; name the checkpoint file in it");
        }
        if !metadata.is_file() {
            return refuse("it is not a regular file, so it can't be memory-mapped; copy it to one");
        }
        if metadata.len() == 0 {
            return refuse("it is empty; get it again");
        }
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        // SAFETY: the map is read-only and private to this value. Rust can't rule out that another process changes
        // or truncates the file meanwhile; no memory-mapping reader can. Checkpoints land by an atomic rename and are
        // not written in place, and every offset is checked against the length at the time of mapping.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, error))?;
        Ok(Self { origin: path.to_owned(), storage: Storage::Mapped(map) })
    }

    /// Bytes that are part of the executable.
    pub(super) fn from_static(origin: &str, bytes: &'static [u8]) -> Self {
        Self { origin: origin.into(), storage: Storage::Static(bytes) }
    }

    /// Bytes in memory.
    pub(super) fn from_shared(origin: &str, bytes: Arc<[u8]>) -> Self {
        Self { origin: origin.into(), storage: Storage::Shared(bytes) }
    }

    /// Lets go of the memory of `part`, which won't be needed soon; it is read from the file again if it is.
    pub(super) fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &self.storage
            && let Some(start) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize)
            && start + part.len() <= map.len()
        {
            // SAFETY: the map is backed by the file and nothing is ever written to it, so dropped pages come back as they
            // were. That it fails costs nothing but memory.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len()) };
        }
    }

    /// The file's path, or what stands for it.
    pub(super) fn origin(&self) -> &Path {
        &self.origin
    }
}

impl AsRef<[u8]> for CheckpointBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.storage {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Shared(bytes) => bytes,
        }
    }
}

/// A [`WeightsError::Malformed`].
pub(super) fn malformed(path: &Path, format: &'static str, message: impl Into<String>) -> WeightsError {
    WeightsError::Malformed { path: path.to_owned(), format, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_mapped_is_said_plainly() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| CheckpointBytes::map(path).err().unwrap().to_string();
        assert!(message(folder.path()).contains("it is a folder"));
        let empty = folder.path().join("empty.safetensors");
        std::fs::write(&empty, b"").unwrap();
        assert!(message(&empty).contains("it is empty"));
        let absent = message(&folder.path().join("absent.bin"));
        assert!(absent.contains("absent.bin") && absent.contains("No such file"), "{absent}");
        #[cfg(unix)]
        assert!(message(Path::new("/dev/zero")).contains("not a regular file"));
    }
}
