//! What can go wrong between the hub, the network and the cache. Every message names the file or the address and says
//! what to do.

use std::path::{Path, PathBuf};

use super::{HubFile, Sha256Digest};

/// A download that failed, or a cached file that may not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name of a repository, revision, file or digest isn't one, or would leave the cache folder.
    #[error("`{}` is not a valid {kind} name: {reason}", name.escape_debug())]
    InvalidName {
        /// What it should have been.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file isn't in the cache and the network may not be used.
    #[error("{file} is not in the cache {}, and downloads are off (HF_HUB_OFFLINE). Download it while online", cache.display())]
    Offline {
        /// What was asked for.
        file: Box<HubFile>,
        /// The cache.
        cache: PathBuf,
    },
    /// A direct address isn't in the cache and the network may not be used.
    #[error("{address} is not in the cache {}, and downloads are off (HF_HUB_OFFLINE). Download it while online", cache.display())]
    OfflineAddress {
        /// What was asked for.
        address: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub has no such repository, revision or file.
    #[error("{endpoint} has no {}. Check the names of the repository, the revision and the file", files.join(", no "))]
    NotFound {
        /// The hub.
        endpoint: String,
        /// Everything that was tried.
        files: Vec<String>,
    },
    /// The hub wants a token, or the token doesn't open this repository.
    #[error("{endpoint} refuses {file} (HTTP {status}): {}", if *had_token {
        "the token doesn't open this repository. Check its name, accept its licence on its page, or set HF_TOKEN to a token that has access"
    } else {
        "the repository doesn't exist, is private, or wants its licence accepted. Check the name, accept the licence on its page and set HF_TOKEN to a token of that account"
    })]
    Denied {
        /// The hub.
        endpoint: String,
        /// What was asked for.
        file: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        had_token: bool,
    },
    /// A server answered with an error, after all retries where it may pass.
    #[error("{address} answers HTTP {status}. Try again later, or check HF_ENDPOINT and the proxy settings")]
    Status {
        /// The address.
        address: String,
        /// The answer.
        status: u16,
    },
    /// A server couldn't be reached, or the connection broke before anything came.
    #[error(
        "can't reach {address}: {source}. Check the network, HF_ENDPOINT and the proxy settings; what is in the cache works with HF_HUB_OFFLINE=1"
    )]
    Connection {
        /// The address.
        address: String,
        /// What the HTTP client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The transfer broke off again and again.
    #[error("the download of {address} broke off after {received} of {} bytes: {message}. What came is kept; run it again to go on from there", expected.map_or_else(|| "unknown".to_owned(), |size| size.to_string()))]
    Interrupted {
        /// The address.
        address: String,
        /// Bytes that have arrived.
        received: u64,
        /// Bytes that the file has.
        expected: Option<u64>,
        /// The last reason.
        message: String,
    },
    /// An answer isn't what a hub sends.
    #[error(
        "{address} doesn't answer like a Hugging Face hub: {message}. Check HF_ENDPOINT and the proxy settings"
    )]
    BadAnswer {
        /// The address.
        address: String,
        /// What is missing or wrong.
        message: String,
    },
    /// A file's contents are not what they should be. It isn't used.
    #[error("{}: the file is not what it should be and will not be loaded: expected sha256 {expected}, found {found}. {}", path.display(), hint)]
    Digest {
        /// The file, or the address of a download that was thrown away.
        path: PathBuf,
        /// The digest that it must have.
        expected: Sha256Digest,
        /// The digest that it has.
        found: Sha256Digest,
        /// What to do.
        hint: &'static str,
    },
    /// A file has another size than the hub or the registry says. It isn't used.
    #[error("{address}: expected {expected} bytes, found {found}. Download it again")]
    Size {
        /// The address.
        address: String,
        /// The size that it must have.
        expected: u64,
        /// The size that it has.
        found: u64,
    },
    /// The lock file with the digests of verified files is damaged.
    #[error("{}: not a readable lock file: {message}. Delete it to have the files of this repository verified again", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The cache can't be read or written.
    #[error("{}: {source}. Check that the cache folder (HF_HUB_CACHE) can be written and has space", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl HubError {
    /// For `map_err`: an I/O error at `path`.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }

    /// Whether the file would have to be downloaded but downloads are off.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Offline { .. } | Self::OfflineAddress { .. })
    }
}
