//! Reader of NumPy archives (`.npz`), in which the weights of big_vision are published: zip archives with one `.npy`
//! array per entry. Arrays that are stored as they are (`numpy.savez`) are read from the map; those of a compressed
//! archive (`numpy.savez_compressed`) are unpacked when they are first asked for, and kept.

mod array;
mod header;

pub use array::read_npy;

use std::{
    borrow::Cow,
    collections::HashMap,
    io::Read,
    path::Path,
    sync::{Arc, OnceLock},
};

use flate2::read::DeflateDecoder;

use self::header::{Header, MAX_HEADER_BYTES};
use super::{
    TensorData, TensorInfo, WeightSource, WeightsError,
    bytes::{CheckpointBytes, malformed},
    zip::{Entry, ZipFile},
};
use crate::Result;

const FORMAT: &str = "NumPy archive";

/// What follows an array's name in that of its entry.
const SUFFIX: &str = ".npy";

/// No deflated data becomes more than this many times its own size. What claims to is an attempt to exhaust memory.
const LARGEST_DEFLATE_RATIO: u64 = 1032;

/// An opened `.npz` archive, or one that lies in memory.
pub struct NpzFile {
    zip: ZipFile,
    /// Names in the order of the archive.
    names: Vec<String>,
    arrays: HashMap<String, Array>,
}

/// An array, and the entry that holds it.
struct Array {
    header: Header,
    entry: Entry,
    /// The content of a compressed entry, once it was needed. It stays, since layers that are stacked in one array ask for
    /// it one after the other.
    unpacked: OnceLock<Vec<u8>>,
}

impl NpzFile {
    /// Maps the file at `path` and reads the arrays' headers, but no array.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the file can't be opened, [`WeightsError::Malformed`] when the archive or one
    /// of its arrays is damaged or of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(ZipFile::open(CheckpointBytes::map(path.as_ref())?)?)
    }

    /// A file's content in memory. `origin` is what error messages call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(origin: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::new(ZipFile::open(CheckpointBytes::from_shared(origin, bytes.into()))?)
    }

    /// Whether an archive holds arrays.
    pub(super) fn recognises(zip: &ZipFile) -> bool {
        zip.names().iter().any(|name| name.ends_with(SUFFIX))
    }

    /// The arrays of an archive. Entries that aren't arrays are passed over.
    pub(super) fn new(zip: ZipFile) -> Result<Self> {
        let mut names = Vec::new();
        let mut arrays = HashMap::new();
        for entry_name in zip.names() {
            let (Some(name), Some(entry)) = (entry_name.strip_suffix(SUFFIX), zip.entry(entry_name)) else {
                continue;
            };
            let header = header(&zip, &entry).map_err(|message| fault(&zip, name, &message))?;
            names.push(name.to_owned());
            arrays.insert(name.to_owned(), Array { header, entry, unpacked: OnceLock::new() });
        }
        Ok(Self { zip, names, arrays })
    }

    /// The elements of `name`, as they lie behind its header.
    fn elements<'a>(&'a self, name: &str, array: &'a Array) -> Result<&'a [u8], WeightsError> {
        let fault = |message: &str| fault(&self.zip, name, message);
        let content = match (array.entry.is_stored(), array.unpacked.get()) {
            (true, _) => self.zip.content(&array.entry).map_err(|message| fault(&message))?,
            (false, Some(unpacked)) => unpacked,
            (false, None) => {
                let unpacked = unpack(&self.zip, &array.entry).map_err(|message| fault(&message))?;
                array.unpacked.get_or_init(|| unpacked)
            }
        };
        content
            .get(array.header.bytes..)
            .ok_or_else(|| fault("it is cut off within its header; the file is damaged, get it again"))
    }
}

/// An error that names the file and an array of it.
fn fault(zip: &ZipFile, name: &str, message: &str) -> WeightsError {
    malformed(zip.origin(), FORMAT, format!("array `{name}`: {message}"))
}

/// Reads an array's header and checks that the entry has as many bytes as it and the elements take.
fn header(zip: &ZipFile, entry: &Entry) -> Result<Header, String> {
    let content = zip.content(entry)?;
    let header = if entry.is_stored() {
        Header::read(content)?
    } else if entry.is_deflated() {
        let packed = u64::try_from(content.len()).unwrap_or(u64::MAX);
        if entry.bytes() / LARGEST_DEFLATE_RATIO > packed {
            return Err(format!(
                "{} bytes can't become the {} that the archive announces; the file is damaged",
                packed,
                entry.bytes()
            ));
        }
        let mut start = Vec::new();
        let mut decoder = DeflateDecoder::new(content).take(MAX_HEADER_BYTES as u64);
        // Damage further on is found when the array is read.
        let _ = decoder.read_to_end(&mut start);
        Header::read(&start)?
    } else {
        return Err(
            "it is compressed in a way that NumPy doesn't use; save it again with numpy.savez".to_owned()
        );
    };
    let announced = header.element_bytes().and_then(|bytes| bytes.checked_add(header.bytes));
    match announced.and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) if bytes != entry.bytes() => Err(format!(
            "its header describes {:?} of type {}, which take {bytes} bytes with the header, and the archive has {} for it; \
             the file is damaged, get it again",
            header.strided.dims,
            header.descr,
            entry.bytes()
        )),
        None if header.dtype.is_some() => {
            Err(format!("{:?} are more elements than can be addressed", header.strided.dims))
        }
        _ => Ok(header),
    }
}

/// The content of a compressed entry.
fn unpack(zip: &ZipFile, entry: &Entry) -> Result<Vec<u8>, String> {
    let damaged = || "its compressed data is damaged; get the file again".to_owned();
    let bytes = usize::try_from(entry.bytes()).map_err(|_| damaged())?;
    let mut unpacked = Vec::new();
    unpacked.try_reserve_exact(bytes).map_err(|_| format!("{bytes} bytes don't fit into memory"))?;
    let mut decoder = DeflateDecoder::new(zip.content(entry)?).take(entry.bytes());
    decoder.read_to_end(&mut unpacked).map_err(|_| damaged())?;
    if unpacked.len() == bytes { Ok(unpacked) } else { Err(damaged()) }
}

impl WeightSource for NpzFile {
    fn origin(&self) -> String {
        self.zip.origin().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let header = &self.arrays.get(name)?.header;
        Some(TensorInfo { dtype: header.dtype?, dims: header.strided.dims.clone() })
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        let array = self.arrays.get(name).ok_or_else(|| WeightsError::missing(self.origin(), name, dims))?;
        let info = self.info(name).ok_or_else(|| WeightsError::UnsupportedDType {
            origin: self.origin(),
            name: name.to_owned(),
            dtype: array.header.descr.clone(),
        })?;
        let bytes: Cow<'_, [u8]> = array
            .header
            .strided
            .elements(self.elements(name, array)?)
            .map_err(|message| fault(&self.zip, name, &message))?;
        Ok(TensorData { info, bytes })
    }

    fn release(&self, name: &str) {
        if let Some(array) = self.arrays.get(name) {
            self.zip.release(&array.entry);
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.zip.fingerprint()
    }
}
