//! The zip archive around a pickle: finding the pickle, and the bytes of a storage within the mapped file.

use std::{collections::HashMap, path::Path};

use rawzip::{
    CompressionMethod, ErrorKind, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive, ZipSliceEntry,
};

use super::super::{
    WeightsError,
    bytes::{CheckpointBytes, malformed},
};

const FORMAT: &str = "PyTorch checkpoint";

/// Where a zip archive's end record can lie: its fixed part and the longest comment.
const END_RECORD_SPAN: u64 = 22 + 0xffff;

/// The largest pickle that is read. Those of the largest published models with optimizer state have a few MB.
const MAX_PICKLE_BYTES: usize = 64 << 20;

/// An opened archive.
pub(super) struct Archive {
    zip: ZipSliceArchive<CheckpointBytes>,
    entries: HashMap<String, Entry>,
    /// The folder within the archive that everything lies in, with its slash.
    folder: String,
}

/// An entry of the archive, as the central directory describes it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    position: ZipArchiveEntryWayfinder,
    stored: bool,
}

impl Entry {
    /// Bytes of the entry's content.
    pub(super) fn bytes(&self) -> u64 {
        self.position.uncompressed_size_hint()
    }
}

impl Archive {
    /// Reads the directory of an archive.
    pub(super) fn open(bytes: CheckpointBytes) -> Result<Self, WeightsError> {
        let zip = ZipArchive::with_max_search_space(END_RECORD_SPAN)
            .locate_in_slice(bytes)
            .map_err(|(bytes, error)| malformed(bytes.origin(), FORMAT, no_directory(error.kind())))?;
        let mut archive = Self { zip, entries: HashMap::new(), folder: String::new() };
        archive.entries = archive.directory()?;
        archive.folder = archive.pickle_folder()?;
        archive.check_byte_order()?;
        Ok(archive)
    }

    fn directory(&self) -> Result<HashMap<String, Entry>, WeightsError> {
        let mut entries = HashMap::new();
        for entry in self.zip.entries() {
            let entry = entry.map_err(|error| {
                self.malformed(format!("the archive's directory is damaged ({error}); get the file again"))
            })?;
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            let stored = entry.compression_method() == CompressionMethod::STORE
                && entry.compressed_size_hint() == entry.uncompressed_size_hint();
            entries.insert(name, Entry { position: entry.wayfinder(), stored });
        }
        Ok(entries)
    }

    /// The folder that holds the pickle. PyTorch names it after the file that was written.
    fn pickle_folder(&self) -> Result<String, WeightsError> {
        let mut folders = self
            .entries
            .keys()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .filter(|folder| folder.ends_with('/') && folder.matches('/').count() == 1);
        match (folders.next(), folders.next()) {
            (Some(folder), None) => Ok(folder.to_owned()),
            (Some(_), Some(_)) => {
                Err(self.malformed("it holds more than one `data.pkl`; PyTorch writes one, so it is not a checkpoint"))
            }
            (None, _) if self.entries.keys().any(|name| name.ends_with(".npy")) => Err(malformed(
                self.origin(),
                "checkpoint",
                "it is a NumPy `.npz` archive (big_vision weights), which is not supported yet; use the model's safetensors file",
            )),
            (None, _) => Err(self.malformed(
                "it is a zip archive without a `data.pkl`; PyTorch did not write it, or wrote it before version 1.0",
            )),
        }
    }

    /// Tensors are read as little-endian; PyTorch says so in the archive since version 2.1.
    fn check_byte_order(&self) -> Result<(), WeightsError> {
        let Some(entry) = self.entries.get(&format!("{}byteorder", self.folder)) else {
            return Ok(());
        };
        match self.data(entry)? {
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
        self.zip.get_ref().origin()
    }

    /// An error that names the file.
    pub(super) fn malformed(&self, message: impl Into<String>) -> WeightsError {
        malformed(self.origin(), FORMAT, message)
    }

    /// The pickle.
    pub(super) fn pickle(&self) -> Result<&[u8], WeightsError> {
        let name = format!("{}data.pkl", self.folder);
        let entry = self.entries.get(&name).ok_or_else(|| self.malformed(format!("`{name}` is missing")))?;
        let pickle = self.data(entry)?;
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
        let entry = self.entries.get(&name).ok_or_else(|| {
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
        Ok(*entry)
    }

    /// The content of an entry, as it lies in the file.
    pub(super) fn data(&self, entry: &Entry) -> Result<&[u8], WeightsError> {
        if !entry.stored {
            return Err(self.malformed(
                "its entries are compressed, which PyTorch doesn't do and which rules out memory-mapping; save it again with torch.save",
            ));
        }
        let content = self.zip.get_entry(entry.position).map(|entry: ZipSliceEntry<'_>| entry.data());
        content.map_err(|error| {
            self.malformed(format!(
                "an entry lies outside of the file or is damaged ({error}); get the file again"
            ))
        })
    }
}

impl Archive {
    /// Lets go of the memory of an entry's content.
    pub(super) fn release(&self, entry: &Entry) {
        if let Ok(content) = self.data(entry) {
            self.zip.get_ref().release(content);
        }
    }

    /// What tells the file from any other.
    pub(super) fn fingerprint(&self) -> Option<String> {
        self.zip.get_ref().fingerprint()
    }
}

fn no_directory(error: &ErrorKind) -> String {
    match error {
        ErrorKind::MissingEndOfCentralDirectory => {
            "the archive's directory at the end is missing, so the file is cut off; get it again".to_owned()
        }
        error => format!("the archive's directory is damaged ({error}); get the file again"),
    }
}
