//! The zip archive that a checkpoint can be: its directory, and the content of an entry within the mapped file.

use std::{collections::HashMap, path::Path};

use rawzip::{
    CompressionMethod, ErrorKind, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive, ZipSliceEntry,
};

use super::{
    WeightsError,
    bytes::{CheckpointBytes, malformed},
};

/// Where a zip archive's end record can lie: its fixed part and the longest comment.
const END_RECORD_SPAN: u64 = 22 + 0xffff;

/// An opened archive.
pub(super) struct ZipFile {
    zip: ZipSliceArchive<CheckpointBytes>,
    /// Names in the order of the directory, once each.
    names: Vec<String>,
    entries: HashMap<String, Entry>,
}

/// An entry of the archive, as the central directory describes it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    position: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    compressed: u64,
}

impl Entry {
    /// Bytes of the entry's content.
    pub(super) fn bytes(&self) -> u64 {
        self.position.uncompressed_size_hint()
    }

    /// Whether the content lies in the file as it is.
    pub(super) fn is_stored(&self) -> bool {
        self.method == CompressionMethod::STORE && self.compressed == self.bytes()
    }

    /// Whether the content is compressed in the usual way.
    pub(super) fn is_deflated(&self) -> bool {
        self.method == CompressionMethod::DEFLATE
    }
}

impl ZipFile {
    /// Reads the directory of an archive.
    pub(super) fn open(bytes: CheckpointBytes) -> Result<Self, WeightsError> {
        let zip = ZipArchive::with_max_search_space(END_RECORD_SPAN)
            .locate_in_slice(bytes)
            .map_err(|(bytes, error)| malformed(bytes.origin(), "checkpoint", no_directory(error.kind())))?;
        let mut this = Self { zip, names: Vec::new(), entries: HashMap::new() };
        (this.names, this.entries) = this.directory()?;
        Ok(this)
    }

    fn directory(&self) -> Result<(Vec<String>, HashMap<String, Entry>), WeightsError> {
        let (mut names, mut entries) = (Vec::new(), HashMap::new());
        for entry in self.zip.entries() {
            let entry = entry.map_err(|error| {
                malformed(
                    self.origin(),
                    "checkpoint",
                    format!("the archive's directory is damaged ({error}); get the file again"),
                )
            })?;
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            let compressed = entry.compressed_size_hint();
            let entry = Entry { position: entry.wayfinder(), method: entry.compression_method(), compressed };
            if entries.insert(name.clone(), entry).is_none() {
                names.push(name);
            }
        }
        Ok((names, entries))
    }

    /// What error messages call the file.
    pub(super) fn origin(&self) -> &Path {
        self.zip.get_ref().origin()
    }

    /// The names of all entries.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The entry `name`.
    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// An entry's content as it lies in the file: as it is, or compressed.
    ///
    /// # Errors
    /// What is wrong, for the reader of a format to report.
    pub(super) fn content(&self, entry: &Entry) -> Result<&[u8], String> {
        let content = self.zip.get_entry(entry.position).map(|entry: ZipSliceEntry<'_>| entry.data());
        content.map_err(|error| {
            format!("an entry lies outside of the file or is damaged ({error}); get the file again")
        })
    }

    /// Lets go of the memory of an entry's content.
    pub(super) fn release(&self, entry: &Entry) {
        if let Ok(content) = self.content(entry) {
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
