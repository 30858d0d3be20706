//! PyTorch's use of a zip archive: a folder with one pickle and one entry per storage.

use std::path::Path;

use super::super::{
    WeightsError,
    bytes::malformed,
    zip::{Entry, ZipFile},
};

const FORMAT: &str = "PyTorch checkpoint";

/// The largest pickle that is read. Those of the largest published models with optimizer state have a few MB.
const MAX_PICKLE_BYTES: usize = 64 << 20;

/// An opened archive.
pub(super) struct Archive {
    zip: ZipFile,
    /// The folder within the archive that everything lies in, with its slash.
    folder: String,
}

impl Archive {
    /// Finds the pickle and checks what the archive says of its contents.
    pub(super) fn new(zip: ZipFile) -> Result<Self, WeightsError> {
        let mut archive = Self { zip, folder: String::new() };
        archive.folder = archive.pickle_folder()?;
        archive.check_byte_order()?;
        Ok(archive)
    }

    /// The folder that holds the pickle. PyTorch names it after the file that was written.
    fn pickle_folder(&self) -> Result<String, WeightsError> {
        let names = self.zip.names().iter();
        let mut folders = names
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|folder| folder.ends_with('/') && folder.matches('/').count() == 1);
        match (folders.next(), folders.next()) {
            (Some(folder), None) => Ok(folder.to_owned()),
            (Some(_), Some(_)) => Err(self.malformed(
                "it holds more than one `data.pkl`; PyTorch writes one, so it is not a checkpoint",
            )),
            (None, _) => Err(self.malformed(
                "it is a zip archive without a `data.pkl`; PyTorch did not write it, or wrote it before version 1.0",
            )),
        }
    }

    /// Tensors are read as little-endian; PyTorch says so in the archive since version 2.1.
    fn check_byte_order(&self) -> Result<(), WeightsError> {
        let Some(entry) = self.zip.entry(&format!("{}byteorder", self.folder)) else {
            return Ok(());
        };
        match self.data(&entry)? {
            b"little" => Ok(()),
            b"big" => Err(self.malformed(
                "its tensors are big-endian; load it in PyTorch and save it again on a little-endian machine",
            )),
            other => Err(self.malformed(format!(
                "its byte order is neither `little` nor `big`, but `{}`",
                String::from_utf8_lossy(other.get(..16).unwrap_or(other))
            ))),
        }
    }

    /// What error messages call the file.
    pub(super) fn origin(&self) -> &Path {
        self.zip.origin()
    }

    /// An error that names the file.
    pub(super) fn malformed(&self, message: impl Into<String>) -> WeightsError {
        malformed(self.origin(), FORMAT, message)
    }

    /// The pickle.
    pub(super) fn pickle(&self) -> Result<&[u8], WeightsError> {
        let name = format!("{}data.pkl", self.folder);
        let entry = self.zip.entry(&name).ok_or_else(|| self.malformed(format!("`{name}` is missing")))?;
        let pickle = self.data(&entry)?;
        if pickle.len() > MAX_PICKLE_BYTES {
            return Err(self.malformed(format!(
                "its pickle has {} bytes, far more than any model's; it is not a checkpoint of weights",
                pickle.len()
            )));
        }
        Ok(pickle)
    }

    /// The entry of the storage `key`, which must have `bytes` bytes. `tensor` is the tensor that needs it.
    pub(super) fn storage(&self, key: &str, bytes: u64, tensor: &str) -> Result<Entry, WeightsError> {
        let name = format!("{}data/{key}", self.folder);
        let entry = self.zip.entry(&name).ok_or_else(|| {
            self.malformed(format!(
                "the elements of tensor `{tensor}` should be in `{name}`, which is missing; get the file again"
            ))
        })?;
        if entry.bytes() < bytes {
            return Err(self.malformed(format!(
                "the elements of tensor `{tensor}` are in `{name}`, which has {} bytes instead of {bytes}; get the file again",
                entry.bytes()
            )));
        }
        Ok(entry)
    }

    /// The content of an entry, as it lies in the file.
    pub(super) fn data(&self, entry: &Entry) -> Result<&[u8], WeightsError> {
        if !entry.is_stored() {
            return Err(self.malformed(
                "its entries are compressed, which PyTorch doesn't do and which rules out memory-mapping; save it again with torch.save",
            ));
        }
        self.zip.content(entry).map_err(|message| self.malformed(message))
    }

    /// Lets go of the memory of an entry's content.
    pub(super) fn release(&self, entry: &Entry) {
        self.zip.release(entry);
    }

    /// What tells the file from any other.
    pub(super) fn fingerprint(&self) -> Option<String> {
        self.zip.fingerprint()
    }
}
