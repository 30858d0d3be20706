//! How a download tells what it is doing. The crate prints nothing; an application draws a bar, or not.

/// Something that a download did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgressEvent<'a> {
    /// Bytes of a file are about to be transferred.
    Started {
        /// The file, as a person knows it.
        name: &'a str,
        /// Its size, where the server says it.
        size: Option<u64>,
        /// Bytes that are there already, from a download that was cut off.
        resumed_at: u64,
    },
    /// The file has `position` bytes now. It can be fewer than before when a server makes the download start over.
    Advanced {
        /// The file.
        name: &'a str,
        /// Bytes that have arrived.
        position: u64,
    },
    /// The transfer broke off, and is tried again after a pause.
    Retrying {
        /// The file.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A file that is there already is being hashed.
    Verifying {
        /// The file.
        name: &'a str,
        /// Its size.
        size: u64,
    },
    /// The file is in the cache and verified.
    Finished {
        /// The file.
        name: &'a str,
    },
}

/// Receives [`ProgressEvent`]s; any closure does.
pub trait Progress: Send + Sync {
    /// Called from the thread that downloads, about once per 128 KiB.
    fn event(&self, event: ProgressEvent<'_>);
}

impl<F: Fn(ProgressEvent<'_>) + Send + Sync> Progress for F {
    fn event(&self, event: ProgressEvent<'_>) {
        self(event);
    }
}
