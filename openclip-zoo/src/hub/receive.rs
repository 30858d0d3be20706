//! Takes in a file: goes on where an earlier try stopped, goes on again when the connection breaks, hashes on the way, and
//! leaves a complete file only if its size and digest are right.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;

use sha2::{Digest as _, Sha256};

use super::http::{OpenError, Transfer, pause};
use super::lock::{digest_of, hash_into};
use super::{HubConfig, HubError, Progress, ProgressEvent, Sha256Digest};

/// What to do about a download that isn't what it should be.
const HINT: &str = "What came was thrown away. Try again; if it stays so, the source or something on the way changes the \
                    file, and it should not be used";

/// A file that is to arrive, and where.
pub(crate) struct Receipt<'a> {
    /// The file, as a person knows it.
    pub name: &'a str,
    /// Where it comes from.
    pub address: &'a str,
    /// Where the bytes are kept until the file is complete.
    pub incomplete: &'a Path,
    /// The size that it must have.
    pub size: Option<u64>,
    /// The digest that it must have.
    pub expected: Option<&'a Sha256Digest>,
    /// How hard to try.
    pub config: &'a HubConfig,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

/// The bytes that have arrived.
struct Arrived {
    file: File,
    hasher: Sha256,
    position: u64,
}

impl Receipt<'_> {
    /// Receives the file; `open` begins a transfer at a byte. Returns its digest when the incomplete file is whole and
    /// right; otherwise a broken transfer's bytes stay for the next try, and wrong ones are removed.
    pub fn receive(
        &self,
        open: impl Fn(u64) -> Result<Transfer, OpenError>,
    ) -> Result<Sha256Digest, HubError> {
        let mut arrived = self.take_up()?;
        let mut from_before = arrived.position > 0;
        loop {
            self.transfer(&mut arrived, &open)?;
            match self.check(&arrived) {
                Ok(digest) => {
                    arrived.file.sync_data().map_err(HubError::io(self.incomplete))?;
                    return Ok(digest);
                }
                // The bytes of an earlier process may be what is wrong; a whole new transfer decides.
                Err(error) if from_before => {
                    tracing::warn!(%error, "what an earlier download left can't be used; starting over");
                    self.start_over(&mut arrived)?;
                    from_before = false;
                }
                Err(error) => {
                    fs::remove_file(self.incomplete).map_err(HubError::io(self.incomplete))?;
                    return Err(error);
                }
            }
        }
    }

    /// Opens what an earlier try left, and hashes it.
    fn take_up(&self) -> Result<Arrived, HubError> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.incomplete)
            .map_err(HubError::io(self.incomplete))?;
        let mut hasher = Sha256::new();
        let position = hash_into(&mut hasher, &mut file).map_err(HubError::io(self.incomplete))?;
        let mut arrived = Arrived { file, hasher, position };
        if self.size.is_some_and(|size| position > size) {
            self.start_over(&mut arrived)?;
        }
        Ok(arrived)
    }

    fn start_over(&self, arrived: &mut Arrived) -> Result<(), HubError> {
        arrived.file.set_len(0).map_err(HubError::io(self.incomplete))?;
        arrived.file.seek(SeekFrom::Start(0)).map_err(HubError::io(self.incomplete))?;
        arrived.hasher = Sha256::new();
        arrived.position = 0;
        Ok(())
    }

    /// Transfers until the file is complete, going on after each break.
    fn transfer(
        &self,
        arrived: &mut Arrived,
        open: &impl Fn(u64) -> Result<Transfer, OpenError>,
    ) -> Result<(), HubError> {
        let mut failures = 0;
        let resumed_at = arrived.position;
        self.progress.event(ProgressEvent::Started { name: self.name, size: self.size, resumed_at });
        while self.size.is_none_or(|size| arrived.position < size) {
            let before = arrived.position;
            let broken = match open(before) {
                Ok(transfer) => match self.copy(arrived, transfer)? {
                    None => return Ok(()),
                    Some(message) => message,
                },
                Err(OpenError::RangeRefused) => {
                    self.start_over(arrived)?;
                    "the server doesn't continue at the byte that was asked for".to_owned()
                }
                Err(OpenError::Hub(error)) => return Err(error),
            };
            failures = if arrived.position > before { 1 } else { failures + 1 };
            if failures > self.config.retries {
                return Err(HubError::Interrupted {
                    address: self.address.to_owned(),
                    received: arrived.position,
                    expected: self.size,
                    message: broken,
                });
            }
            self.progress.event(ProgressEvent::Retrying { name: self.name, reason: &broken });
            sleep(pause(self.config, failures));
        }
        Ok(())
    }

    /// Copies one transfer to the file. Returns why it ended early, or nothing when it is complete.
    fn copy(&self, arrived: &mut Arrived, mut transfer: Transfer) -> Result<Option<String>, HubError> {
        if transfer.start != arrived.position {
            self.start_over(arrived)?;
        }
        let size = self.size.or(transfer.size);
        let mut buffer = vec![0_u8; 1 << 17];
        loop {
            let count = match transfer.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            arrived.file.write_all(bytes).map_err(HubError::io(self.incomplete))?;
            arrived.hasher.update(bytes);
            arrived.position += count as u64;
            self.progress.event(ProgressEvent::Advanced { name: self.name, position: arrived.position });
            // More than the file has: the size check names it, and a server can't fill the disk.
            if size.is_some_and(|size| arrived.position > size) {
                break;
            }
        }
        let short = size.is_some_and(|size| arrived.position < size);
        Ok(short.then(|| "the connection was closed early".to_owned()))
    }

    fn check(&self, arrived: &Arrived) -> Result<Sha256Digest, HubError> {
        if let Some(size) = self.size
            && arrived.position != size
        {
            return Err(HubError::Size {
                address: self.address.to_owned(),
                expected: size,
                found: arrived.position,
            });
        }
        let found = digest_of(arrived.hasher.clone());
        match self.expected {
            Some(expected) if !expected.matches(&found) => Err(HubError::Digest {
                path: self.address.into(),
                expected: expected.clone(),
                found,
                hint: HINT,
            }),
            _ => Ok(found),
        }
    }
}
