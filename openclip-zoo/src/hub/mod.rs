//! Files of the Hugging Face hub in the cache that Python's `huggingface_hub` shares: found there, or downloaded and
//! verified.
//!
//! A file is verified against the digest in the registry, else against the hub's own digest of a large file, and the digest
//! is remembered in a lock file, so that every later load verifies it too. What doesn't verify is never handed out.
//!
//! # Why the transfer is our own
//!
//! The crate `hf-hub` 1.0.0 was weighed for this. Its download into the cache
//!
//! - starts over after a cut (it truncates the `.incomplete` file and asks for no byte range),
//! - links the file into `snapshots` without comparing its digest or its size, and so that nobody can in between,
//! - writes the body of an error answer into the cache when the retries are used up,
//! - makes paths of the `ETag` and the commit that the server sends, whatever they contain,
//! - doesn't know `HF_HUB_OFFLINE`,
//! - gives up on another process's download after ten seconds,
//!
//! and it brings an asynchronous runtime and some 280 crates. So this module makes its requests with `ureq`, and keeps to
//! the same layout and the same variables, which the tests check. What it has and this hasn't is the Xet protocol; the hub
//! serves the same files over plain HTTP.
//!
//! ```no_run
//! use openclip_zoo::hub::{Hub, HubConfig, HubFile};
//!
//! let hub = Hub::new(HubConfig::from_env());
//! let file = HubFile::new("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_config.json")?;
//! println!("{}", hub.fetch(&file)?.display());
//! # Ok::<(), openclip_zoo::hub::HubError>(())
//! ```

mod cache;
mod config;
mod error;
mod http;
mod lock;
mod names;
mod progress;
mod receive;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use cache::RepositoryCache;
use http::{Http, OpenError, Transfer};
use lock::{DigestLock, Stamp, digest_of, hash_file};
use receive::Receipt;

pub use config::{HubConfig, Token};
pub use error::HubError;
pub use names::{FileName, HubFile, RepositoryId, Revision, Sha256Digest};
pub use progress::{Progress, ProgressEvent};

/// The hub and its cache.
#[derive(Clone)]
pub struct Hub {
    config: HubConfig,
    progress: Arc<dyn Progress>,
    /// Made when the network is first needed: a start from the cache pays nothing for it.
    http: OnceLock<Arc<Http>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub as `config` says.
    pub fn new(config: HubConfig) -> Self {
        Self { config, progress: Arc::new(|_: ProgressEvent<'_>| {}), http: OnceLock::new() }
    }

    /// With someone who is told how downloads go on.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Progress + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    /// Where the hub and its cache are.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    fn http(&self) -> &Http {
        self.http.get_or_init(|| Arc::new(Http::new(&self.config)))
    }

    /// The path of a file in the cache, verified; nothing when it isn't there. Never uses the network.
    ///
    /// # Errors
    /// [`HubError::Digest`] when the file is there and isn't what it should be, and errors of reading the cache.
    pub fn cached(&self, file: &HubFile) -> Result<Option<PathBuf>, HubError> {
        let cache = RepositoryCache::new(&self.config.cache_dir, &file.repository);
        let Some((commit, pointer)) = cache.find(file)? else { return Ok(None) };
        DigestLock::new(&cache).verify(&commit, &file.file, file.sha256.as_ref(), &*self.progress)?;
        Ok(Some(pointer))
    }

    /// The path of a file in the cache as it lies there, not verified: to tell what is cached. Never uses the network.
    ///
    /// # Errors
    /// Errors of reading the cache.
    pub fn lookup(&self, file: &HubFile) -> Result<Option<PathBuf>, HubError> {
        let cache = RepositoryCache::new(&self.config.cache_dir, &file.repository);
        Ok(cache.find(file)?.map(|(_, pointer)| pointer))
    }

    /// The path of a file, verified: from the cache if it is there, else downloaded. With
    /// [`refresh`](HubConfig::refresh) the hub is asked first whether the revision has moved.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::Offline`] when it isn't cached and downloads are off.
    pub fn fetch(&self, file: &HubFile) -> Result<PathBuf, HubError> {
        if !self.config.refresh || self.config.offline {
            if let Some(path) = self.cached(file)? {
                return Ok(path);
            }
            if self.config.offline {
                let cache = self.config.cache_dir.clone();
                return Err(HubError::Offline { file: Box::new(file.clone()), cache });
            }
        }
        match self.download(file) {
            Err(error @ HubError::Connection { .. }) if self.config.refresh => match self.cached(file)? {
                Some(path) => {
                    tracing::warn!(%file, %error, "using the cached file without asking whether it is the newest");
                    Ok(path)
                }
                None => Err(error),
            },
            result => result,
        }
    }

    /// The first of several files that the cache has, else the first that the hub has.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); [`HubError::NotFound`] naming all of them when the hub has none.
    pub fn fetch_first(&self, files: &[HubFile]) -> Result<PathBuf, HubError> {
        if !self.config.refresh || self.config.offline {
            for file in files {
                if let Some(path) = self.cached(file)? {
                    return Ok(path);
                }
            }
        }
        let mut absent = Vec::new();
        for file in files {
            match self.fetch(file) {
                Err(HubError::NotFound { .. }) => absent.push(file.to_string()),
                result => return result,
            }
        }
        Err(HubError::NotFound { endpoint: self.config.endpoint.clone(), files: absent })
    }

    /// As [`fetch`](Self::fetch), for a file that a repository may do without: nothing when it has none. That is
    /// remembered, as Python's client remembers it, so that it isn't asked again.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); [`HubError::Offline`] when it isn't known whether the repository has the file.
    pub fn fetch_optional(&self, file: &HubFile) -> Result<Option<PathBuf>, HubError> {
        let cache = RepositoryCache::new(&self.config.cache_dir, &file.repository);
        let known = self.config.offline || !self.config.refresh;
        if known && self.cached(file)?.is_none() && cache.is_absent(file)? {
            return Ok(None);
        }
        match self.fetch(file) {
            Ok(path) => Ok(Some(path)),
            Err(HubError::NotFound { .. }) => cache.set_absent(file).map(|()| None),
            Err(HubError::Connection { .. }) if cache.is_absent(file)? => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn download(&self, file: &HubFile) -> Result<PathBuf, HubError> {
        let metadata = self.http().metadata(file)?;
        let cache = RepositoryCache::new(&self.config.cache_dir, &file.repository);
        let hub_digest = Sha256Digest::whole(&metadata.etag);
        if let (Some(expected), Some(found)) = (&file.sha256, &hub_digest)
            && !expected.matches(found)
        {
            return Err(HubError::Digest {
                path: file.address(&self.config.endpoint).into(),
                expected: expected.clone(),
                found: found.clone(),
                hint: "The hub has another file than the registry names, and it was not downloaded",
            });
        }
        let arrival = Arrival {
            name: &format!("{}/{}", file.repository, file.file),
            address: &file.address(&self.config.endpoint),
            file: &file.file,
            commit: &metadata.commit,
            tag: &metadata.etag,
            size: metadata.size,
            expected: file.sha256.as_ref().or(hub_digest.as_ref()),
        };
        let path =
            self.land(&cache, &arrival, |start| self.http().open(file, start, metadata.if_range.as_deref()))?;
        cache.set_commit(&file.revision, &metadata.commit)?;
        Ok(path)
    }

    /// The path of a file at a direct address, verified: from the cache if it is there, else downloaded. It is kept beside
    /// the hub's files, in a folder of its own for each address.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::OfflineAddress`] when it isn't cached and downloads are off.
    pub fn fetch_address(&self, address: &str, sha256: Option<&Sha256Digest>) -> Result<PathBuf, HubError> {
        let name =
            address.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let file = FileName::parse(name)?;
        let tag = address_tag(address);
        let cache = RepositoryCache::for_address(&self.config.cache_dir, tag.as_str());
        // An address has no commits; what is there is the one version that there is.
        let commit = "current";
        let pointer = cache.pointer(commit, &file);
        if pointer.is_file() && (!self.config.refresh || self.config.offline) {
            DigestLock::new(&cache).verify(commit, &file, sha256, &*self.progress)?;
            return Ok(pointer);
        }
        if self.config.offline {
            let cache = self.config.cache_dir.clone();
            return Err(HubError::OfflineAddress { address: address.to_owned(), cache });
        }
        let arrival =
            Arrival { name, address, file: &file, commit, tag: "contents", size: None, expected: sha256 };
        self.land(&cache, &arrival, |start| self.http().open_address(address, None, start, None))
    }

    /// Brings a file into the cache: receives it unless it is there, links it, and remembers its digest.
    fn land(
        &self,
        cache: &RepositoryCache,
        arrival: &Arrival<'_>,
        open: impl Fn(u64) -> Result<Transfer, OpenError>,
    ) -> Result<PathBuf, HubError> {
        let blob = cache.blob(arrival.tag);
        let folder = cache.folder.join("blobs");
        fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
        // Another process may be downloading the same file: it is then there when the lock is free.
        let guard = cache.lock(arrival.tag)?;
        let digest = match self.reuse(&blob, arrival)? {
            Some(digest) => digest,
            None => {
                let incomplete = folder.join(format!("{}.incomplete", arrival.tag));
                let receipt = Receipt {
                    name: arrival.name,
                    address: arrival.address,
                    incomplete: &incomplete,
                    size: arrival.size,
                    expected: arrival.expected,
                    config: &self.config,
                    progress: &*self.progress,
                };
                let digest = receipt.receive(open)?;
                fs::rename(&incomplete, &blob).map_err(HubError::io(&blob))?;
                digest
            }
        };
        let pointer = cache.link(arrival.tag, arrival.commit, arrival.file)?;
        drop(guard);
        let stamp = Stamp::of(&fs::metadata(&pointer).map_err(HubError::io(&pointer))?);
        DigestLock::new(cache).record(arrival.commit, arrival.file, digest, stamp)?;
        self.progress.event(ProgressEvent::Finished { name: arrival.name });
        Ok(pointer)
    }

    /// The digest of a blob that is there already and is what it should be. Without a digest to go by nobody knows whether
    /// it is, and small files are the ones without; they are downloaded again.
    fn reuse(&self, blob: &Path, arrival: &Arrival<'_>) -> Result<Option<Sha256Digest>, HubError> {
        let (Some(expected), Ok(metadata)) = (arrival.expected, fs::metadata(blob)) else { return Ok(None) };
        if arrival.size.is_some_and(|size| size != metadata.len()) {
            return Ok(None);
        }
        self.progress.event(ProgressEvent::Verifying { name: arrival.name, size: metadata.len() });
        let found = hash_file(blob)?;
        Ok(expected.matches(&found).then_some(found))
    }
}

/// A file that is to be in the cache.
struct Arrival<'a> {
    name: &'a str,
    address: &'a str,
    file: &'a FileName,
    commit: &'a str,
    tag: &'a str,
    size: Option<u64>,
    expected: Option<&'a Sha256Digest>,
}

/// What a direct address is called in the cache.
fn address_tag(address: &str) -> Sha256Digest {
    let mut hasher = Sha256::new();
    hasher.update(address.as_bytes());
    digest_of(hasher)
}
