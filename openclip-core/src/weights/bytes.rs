//! The bytes of a checkpoint: a memory-mapped file, or bytes that are already in memory. What the readers have in
//! common (how a path is opened, what an error says of it) is here.

use std::{
    fs::{File, Metadata},
    hash::{DefaultHasher, Hash, Hasher},
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
    Mapped {
        map: Mmap,
        /// Of the file that is mapped, whatever is at its path by now.
        metadata: Metadata,
    },
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
        let metadata = file.metadata().map_err(|error| Error::io(path, error))?;
        Ok(Self { origin: path.to_owned(), storage: Storage::Mapped { map, metadata } })
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
        if let Storage::Mapped { map, .. } = &self.storage
            && let Some(start) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize)
            && start + part.len() <= map.len()
        {
            // SAFETY: the map is backed by the file and nothing is ever written to it, so dropped pages come back as they
            // were. That it fails costs nothing but memory.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len()) };
        }
    }

    /// What tells the file from any other and from itself before and after a change: what the system knows of it, and a
    /// digest of both ends, where the formats keep their directories. A change that restores the time of modification still
    /// shows in the inode's own time.
    pub(super) fn fingerprint(&self) -> Option<String> {
        let Storage::Mapped { map, metadata } = &self.storage else { return None };
        let mut digest = DefaultHasher::new();
        map.get(..END).unwrap_or(map).hash(&mut digest);
        map.get(map.len().saturating_sub(END)..).hash(&mut digest);
        Some(format!("{} bytes, ends {:016x}, {}", map.len(), digest.finish(), state(metadata)?))
    }

    /// The file's path, or what stands for it.
    pub(super) fn origin(&self) -> &Path {
        &self.origin
    }
}

/// Bytes at either end of a file that tell it from others.
const END: usize = 1 << 16;

#[cfg(unix)]
fn state(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let (modified, changed) = (metadata.mtime_nsec(), metadata.ctime_nsec());
    let (inode, modified_at, changed_at) = (metadata.ino(), metadata.mtime(), metadata.ctime());
    Some(format!("inode {inode}, modified {modified_at}.{modified:09}, changed {changed_at}.{changed:09}"))
}

#[cfg(not(unix))]
fn state(metadata: &Metadata) -> Option<String> {
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let created = metadata.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Some(format!("modified {}, created {}", modified.as_nanos(), created.map_or(0, |time| time.as_nanos())))
}

impl AsRef<[u8]> for CheckpointBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.storage {
            Storage::Mapped { map, .. } => map,
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

    #[test]
    fn a_fingerprint_tells_states_of_a_file_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let write = |path: &Path, byte: u8| std::fs::write(path, vec![byte; 3 * END]).unwrap();
        let fingerprint = || CheckpointBytes::map(&path).unwrap().fingerprint().unwrap();
        write(&path, 1);
        let first = fingerprint();
        assert_eq!(fingerprint(), first);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, 2);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let rewritten = fingerprint();
        assert_ne!(rewritten, first);
        // Put in its place, as downloads are.
        let other = folder.path().join("b");
        write(&other, 2);
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(fingerprint(), rewritten);
        assert_eq!(CheckpointBytes::from_static("bundled", b"abc").fingerprint(), None);
        assert_eq!(CheckpointBytes::from_shared("bundled", Arc::new([1])).fingerprint(), None);
    }
}
