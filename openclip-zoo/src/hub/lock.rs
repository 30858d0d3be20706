//! The lock file of a repository in the cache, `models--org--name/openclip.lock.json`: the digest of each file that was
//! verified, so that the next load can tell whether it is still the same file.
//!
//! Hashing gigabytes at every start would be slow, so an entry also has the file's size and times; only when they differ
//! is the file hashed again.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cache::{RepositoryCache, linked_tag, write_atomically};
use super::{FileName, HubError, Progress, ProgressEvent, Sha256Digest};

/// The name of the lock file in the repository's folder.
const FILE_NAME: &str = "openclip.lock.json";
const VERSION: u32 = 1;

/// What to do about a cached file that isn't what it was.
const HINT: &str = "It was changed after it was downloaded; delete it and run `openclip pull` again";

#[derive(Debug, Serialize, Deserialize)]
struct LockFile {
    version: u32,
    /// By `COMMIT/FILE`.
    files: BTreeMap<String, Entry>,
}

impl Default for LockFile {
    fn default() -> Self {
        Self { version: VERSION, files: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    sha256: Sha256Digest,
    #[serde(flatten)]
    stamp: Stamp,
}

/// What changes when a file is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size: u64,
    /// Nanoseconds since 1970, as text: JSON readers round big numbers.
    modified: String,
    /// The time of the last change of contents or attributes, which can't be set by hand, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            size: metadata.len(),
            modified: modified.map_or_else(String::new, |time| time.as_nanos().to_string()),
            changed: changed(metadata),
        }
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    Some(format!("{}.{:09}", metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> Option<String> {
    None
}

/// The digests of the files of one repository.
pub(crate) struct DigestLock<'a> {
    cache: &'a RepositoryCache,
}

impl<'a> DigestLock<'a> {
    pub fn new(cache: &'a RepositoryCache) -> Self {
        Self { cache }
    }

    fn path(&self) -> PathBuf {
        self.cache.folder.join(FILE_NAME)
    }

    fn read(&self) -> Result<LockFile, HubError> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LockFile::default()),
            Err(error) => return Err(HubError::io(&path)(error)),
        };
        let damaged = |message: String| HubError::LockFile { path: path.clone(), message };
        let lock: LockFile = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if lock.version != VERSION {
            return Err(damaged(format!("version {} is not known", lock.version)));
        }
        Ok(lock)
    }

    /// Remembers the digest of a file that was just verified. `stamp` was taken before its contents were hashed, so that a
    /// change since then shows.
    pub fn record(
        &self,
        commit: &str,
        file: &FileName,
        sha256: Sha256Digest,
        stamp: Stamp,
    ) -> Result<(), HubError> {
        let _guard = self.cache.lock(FILE_NAME)?;
        let mut lock = self.read()?;
        let key = format!("{commit}/{file}");
        let entry = Entry { sha256, stamp };
        if lock.files.get(&key) == Some(&entry) {
            return Ok(());
        }
        lock.files.insert(key, entry);
        let text = serde_json::to_string_pretty(&lock)
            .map_err(|error| HubError::LockFile { path: self.path(), message: error.to_string() })?;
        write_atomically(&self.path(), text.as_bytes())
    }

    /// Verifies a cached file: against `expected` (the registry's digest), else against the digest that it had when it was
    /// downloaded, else against its name among the blobs, which is the hub's digest of a large file. A file of which
    /// nothing is known, such as a small one that Python downloaded, is remembered as it is.
    ///
    /// # Errors
    /// [`HubError::Digest`] when the file isn't what it should be, [`HubError::LockFile`] when the lock file is damaged.
    pub fn verify(
        &self,
        commit: &str,
        file: &FileName,
        expected: Option<&Sha256Digest>,
        progress: &dyn Progress,
    ) -> Result<(), HubError> {
        let pointer = self.cache.pointer(commit, file);
        let metadata = fs::metadata(&pointer).map_err(HubError::io(&pointer))?;
        let stamp = Stamp::of(&metadata);
        let entry = self.read()?.files.remove(&format!("{commit}/{file}"));
        let fails = |expected: &Sha256Digest, found: &Sha256Digest| {
            Err(HubError::Digest {
                path: pointer.clone(),
                expected: expected.clone(),
                found: found.clone(),
                hint: HINT,
            })
        };
        if let Some(entry) = &entry
            && entry.stamp == stamp
        {
            return match expected {
                Some(expected) if !expected.matches(&entry.sha256) => fails(expected, &entry.sha256),
                _ => Ok(()),
            };
        }
        progress.event(ProgressEvent::Verifying { name: file.as_str(), size: metadata.len() });
        let found = hash_file(&pointer)?;
        let known = entry.map(|entry| entry.sha256);
        let hub = || linked_tag(&pointer).as_deref().and_then(Sha256Digest::whole);
        for expected in [expected.cloned(), known.or_else(hub)].into_iter().flatten() {
            if !expected.matches(&found) {
                return fails(&expected, &found);
            }
        }
        if let Err(error) = self.record(commit, file, found, stamp) {
            tracing::debug!(%error, "the digest can't be remembered; the file will be hashed again next time");
        }
        Ok(())
    }
}

/// The SHA-256 digest of a file.
pub(crate) fn hash_file(path: &Path) -> Result<Sha256Digest, HubError> {
    let mut file = fs::File::open(path).map_err(HubError::io(path))?;
    let mut hasher = Sha256::new();
    hash_into(&mut hasher, &mut file).map_err(HubError::io(path))?;
    Ok(digest_of(hasher))
}

/// Feeds everything that `reader` has to `hasher`, and says how much that was.
pub(crate) fn hash_into(hasher: &mut Sha256, reader: &mut impl Read) -> std::io::Result<u64> {
    let mut buffer = vec![0_u8; 1 << 18];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(buffer.get(..count).unwrap_or_default());
        total += count as u64;
    }
}

/// The digest of what `hasher` has seen.
pub(crate) fn digest_of(hasher: Sha256) -> Sha256Digest {
    Sha256Digest::from_bytes(&hasher.finalize())
}
