//! The layout of the shared Hugging Face cache, as Python's `huggingface_hub` reads and writes it:
//! `models--org--name/blobs/ETAG` holds contents, `snapshots/COMMIT/FILE` links to them, `refs/REVISION` holds a commit, and
//! `.locks/models--org--name/ETAG.lock` is locked while a blob is written. `.no_exist/COMMIT/FILE` says that a commit has no
//! such file. Everything lands by a rename.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::names::is_plain_component;
use super::{FileName, HubError, HubFile, RepositoryId, Revision};

/// The folder of one repository in the cache.
#[derive(Clone, Debug)]
pub(crate) struct RepositoryCache {
    /// `CACHE/models--org--name`
    pub folder: PathBuf,
    /// `CACHE/.locks/models--org--name`
    locks: PathBuf,
}

impl RepositoryCache {
    pub fn new(cache_dir: &Path, repository: &RepositoryId) -> Self {
        let name = repository.folder();
        Self { folder: cache_dir.join(&name), locks: cache_dir.join(".locks").join(name) }
    }

    /// A folder of the same layout for a file that has a direct address and no repository.
    pub fn for_address(cache_dir: &Path, tag: &str) -> Self {
        let name = Path::new("openclip-addresses").join(tag);
        Self { folder: cache_dir.join(&name), locks: cache_dir.join(".locks").join(name) }
    }

    /// Where the contents with this tag are.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Where the file of a commit is.
    pub fn pointer(&self, commit: &str, file: &FileName) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(file.path())
    }

    /// The commit that the cache has for a revision.
    pub fn commit(&self, revision: &Revision) -> Result<Option<String>, HubError> {
        if revision.is_commit() {
            return Ok(Some(revision.as_str().to_owned()));
        }
        let path = self.folder.join("refs").join(revision.path());
        match fs::read_to_string(&path) {
            Ok(text) => {
                let commit = text.trim();
                // A damaged reference counts as none. It must not lead out of the folder of snapshots.
                Ok(is_plain_component(commit).then(|| commit.to_owned()))
            }
            Err(error) if is_absent(&error) => {
                // A commit may be named by an abbreviation or by something that only a test server calls a commit.
                let snapshot = self.folder.join("snapshots").join(revision.path());
                Ok(snapshot.is_dir().then(|| revision.as_str().to_owned()))
            }
            Err(error) => Err(HubError::io(&path)(error)),
        }
    }

    /// The cached file, if it is there: its commit and its path below `snapshots`.
    pub fn find(&self, file: &HubFile) -> Result<Option<(String, PathBuf)>, HubError> {
        let Some(commit) = self.commit(&file.revision)? else { return Ok(None) };
        let pointer = self.pointer(&commit, &file.file);
        Ok(pointer.is_file().then_some((commit, pointer)))
    }

    /// Whether it is known that the revision has no such file.
    pub fn is_absent(&self, file: &HubFile) -> Result<bool, HubError> {
        let commit = self.commit(&file.revision)?;
        Ok(commit.is_some_and(|commit| self.absence(&commit, file).is_file()))
    }

    /// Remembers that the revision has no such file, where its commit is known.
    pub fn set_absent(&self, file: &HubFile) -> Result<(), HubError> {
        match self.commit(&file.revision)? {
            Some(commit) => write_atomically(&self.absence(&commit, file), b""),
            None => Ok(()),
        }
    }

    fn absence(&self, commit: &str, file: &HubFile) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file.file.path())
    }

    /// Remembers that a revision is this commit.
    pub fn set_commit(&self, revision: &Revision, commit: &str) -> Result<(), HubError> {
        if revision.as_str() == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision.path());
        if fs::read_to_string(&path).is_ok_and(|text| text == commit) {
            return Ok(());
        }
        write_atomically(&path, commit.as_bytes())
    }

    /// Waits until no other process writes the contents with this tag, and keeps them away until the guard is dropped.
    pub fn lock(&self, etag: &str) -> Result<File, HubError> {
        fs::create_dir_all(&self.locks).map_err(HubError::io(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(HubError::io(&path))?;
        match file.lock() {
            // Some network file systems can't lock. Every write lands by a rename, so the worst is double work.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(path = %path.display(), %error, "this file system can't lock files");
            }
            other => other.map_err(HubError::io(&path))?,
        }
        Ok(file)
    }

    /// Makes the file of a commit point to the contents with this tag.
    pub fn link(&self, etag: &str, commit: &str, file: &FileName) -> Result<PathBuf, HubError> {
        self.link_with(etag, commit, file, symlink)
    }

    fn link_with(
        &self,
        etag: &str,
        commit: &str,
        file: &FileName,
        symlink: impl Fn(&Path, &Path) -> std::io::Result<()>,
    ) -> Result<PathBuf, HubError> {
        let pointer = self.pointer(commit, file);
        let target = "../".repeat(file.depth() + 2) + "blobs/" + etag;
        if fs::read_link(&pointer).is_ok_and(|found| found == Path::new(&target)) {
            return Ok(pointer);
        }
        let folder = parent(&pointer);
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        // Made beside the pointer and renamed over it, so that a reader sees the old file or the new one.
        let temporary = tempfile::Builder::new()
            .prefix(".openclip-")
            .make_in(folder, |path| symlink(Path::new(&target), path))
            .map(tempfile::NamedTempFile::into_temp_path);
        let temporary = match temporary {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!(pointer = %pointer.display(), %error, "no symbolic links here; the file is copied");
                let blob = self.blob(etag);
                let copy = tempfile::Builder::new()
                    .prefix(".openclip-")
                    .tempfile_in(folder)
                    .map_err(HubError::io(folder))?;
                fs::copy(&blob, copy.path()).map_err(HubError::io(&blob))?;
                copy.into_temp_path()
            }
        };
        temporary.persist(&pointer).map_err(|error| HubError::io(&pointer)(error.error))?;
        Ok(pointer)
    }
}

/// The tag of the contents that a pointer leads to, if it is a symbolic link into the folder of blobs.
pub(crate) fn linked_tag(pointer: &Path) -> Option<String> {
    let target = fs::read_link(pointer).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Writes a small file so that a reader sees its old contents or its new ones.
pub(crate) fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), HubError> {
    let folder = parent(path);
    fs::create_dir_all(folder).map_err(HubError::io(folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".openclip-")
        .permissions_of_new_files()
        .tempfile_in(folder)
        .map_err(HubError::io(folder))?;
    file.write_all(contents).map_err(HubError::io(path))?;
    file.persist(path).map_err(|error| HubError::io(path)(error.error))?;
    Ok(())
}

/// Temporary files are private to their owner by default; what stays in a shared cache follows the umask instead.
trait PermissionsOfNewFiles {
    fn permissions_of_new_files(&mut self) -> &mut Self;
}

impl PermissionsOfNewFiles for tempfile::Builder<'_, '_> {
    fn permissions_of_new_files(&mut self) -> &mut Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            self.permissions(fs::Permissions::from_mode(0o666));
        }
        self
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn cache() -> (tempfile::TempDir, RepositoryCache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = RepositoryCache::new(folder.path(), &RepositoryId::parse("org/name").unwrap());
        fs::create_dir_all(cache.folder.join("blobs")).unwrap();
        fs::write(cache.blob("tag"), "contents").unwrap();
        (folder, cache)
    }

    #[test]
    fn a_link_leads_to_its_blob_from_any_depth() {
        let (_folder, cache) = cache();
        for name in ["a.bin", "sub/b.bin", "sub/deeper/c.bin"] {
            let file = FileName::parse(name).unwrap();
            for _ in 0..2 {
                let pointer = cache.link("tag", COMMIT, &file).unwrap();
                assert_eq!(fs::read_to_string(&pointer).unwrap(), "contents", "{name}");
                assert_eq!(linked_tag(&pointer).as_deref(), Some("tag"));
            }
        }
    }

    #[test]
    fn without_symbolic_links_the_file_is_copied() {
        let (_folder, cache) = cache();
        let file = FileName::parse("sub/a.bin").unwrap();
        let refuse = |_: &Path, _: &Path| Err(ErrorKind::PermissionDenied.into());
        let pointer = cache.link_with("tag", COMMIT, &file, refuse).unwrap();
        assert!(fs::symlink_metadata(&pointer).unwrap().is_file());
        assert_eq!(fs::read_to_string(&pointer).unwrap(), "contents");
        let left = fs::read_dir(pointer.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file may stay");
    }

    #[test]
    fn a_reference_that_leads_elsewhere_counts_as_none() {
        let (_folder, cache) = cache();
        let main = Revision::default();
        assert_eq!(cache.commit(&main).unwrap(), None);
        cache.set_commit(&main, COMMIT).unwrap();
        assert_eq!(cache.commit(&main).unwrap().as_deref(), Some(COMMIT));
        for hostile in ["../../../etc", "a/b", "", ".."] {
            fs::write(cache.folder.join("refs/main"), hostile).unwrap();
            assert_eq!(cache.commit(&main).unwrap(), None, "{hostile:?}");
        }
    }
}
