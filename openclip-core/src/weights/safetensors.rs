//! Reader of `.safetensors` files. The header is checked as a whole when the file is opened; tensors are slices of
//! the map, so that opening reads nothing but the header and a tower's tensors are read when they are asked for.

use std::{borrow::Cow, collections::HashMap, ops::Range, path::Path, sync::Arc};

use safetensors::tensor::{Dtype, TensorInfo as HeaderEntry};
use serde::Deserialize;

use super::{
    DType, TensorData, TensorInfo, WeightSource, WeightsError,
    bytes::{CheckpointBytes, malformed},
};
use crate::Result;

const FORMAT: &str = "safetensors";

/// Bytes of the header's length, in front of the header.
const LENGTH_BYTES: usize = 8;

/// The largest header that the format's own library accepts.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An opened `.safetensors` file, or one that lies in memory.
pub struct SafetensorsFile {
    bytes: CheckpointBytes,
    metadata: HashMap<String, String>,
    /// Names in the order of their data.
    names: Vec<String>,
    tensors: HashMap<String, Stored>,
}

struct Stored {
    /// `None` for element types that no model here uses.
    info: Option<TensorInfo>,
    dtype: Dtype,
    range: Range<usize>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: HashMap<String, String>,
    #[serde(flatten)]
    tensors: HashMap<String, HeaderEntry>,
}

impl SafetensorsFile {
    /// Maps the file at `path` and checks its header.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the file can't be opened, [`WeightsError::Malformed`] when the header
    /// isn't one or describes other data than the file has.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::parse(CheckpointBytes::map(path.as_ref())?)
    }

    /// A file that is part of the executable. `origin` is what error messages call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(origin: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::parse(CheckpointBytes::from_static(origin, bytes))
    }

    /// A file's content in memory. `origin` is what error messages call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(origin: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::parse(CheckpointBytes::from_shared(origin, bytes.into()))
    }

    /// The free-form strings of the header's `__metadata__`.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    pub(super) fn parse(bytes: CheckpointBytes) -> Result<Self> {
        let fail = |message: String| malformed(bytes.origin(), FORMAT, message);
        let file = bytes.as_ref();
        let (header, data_start) = header(file).map_err(fail)?;
        let Header { metadata, tensors } = serde_json::from_slice(header)
            .map_err(|error| fail(format!("the header is not what the format prescribes: {error}")))?;
        let mut entries: Vec<(String, HeaderEntry)> = tensors.into_iter().collect();
        entries.sort_by(|(a_name, a), (b_name, b)| (a.data_offsets, a_name).cmp(&(b.data_offsets, b_name)));
        check(&entries, file.len() - data_start).map_err(fail)?;
        let names = entries.iter().map(|(name, _)| name.clone()).collect();
        let stored = |entry: HeaderEntry| Stored {
            info: dtype(entry.dtype).map(|dtype| TensorInfo { dtype, dims: entry.shape }),
            dtype: entry.dtype,
            range: data_start + entry.data_offsets.0..data_start + entry.data_offsets.1,
        };
        let tensors = entries.into_iter().map(|(name, entry)| (name, stored(entry))).collect();
        Ok(Self { bytes, metadata, names, tensors })
    }
}

/// The header's JSON text and the offset of the data after it.
fn header(file: &[u8]) -> Result<(&[u8], usize), String> {
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(format!("it has only {} bytes; get the file again", file.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(format!(
            "it announces a header of {length} bytes, more than the format allows; it is damaged or another kind of file"
        ));
    }
    let cut = || {
        format!(
            "it is cut off within the header ({length} bytes announced, {} present); get the file again",
            rest.len()
        )
    };
    let length = usize::try_from(length).map_err(|_| cut())?;
    let header = rest.get(..length).ok_or_else(cut)?;
    Ok((header, LENGTH_BYTES + length))
}

/// Checks that `entries`, sorted by offset, cover `data_bytes` without gap or overlap, each with as many bytes as its
/// dimensions and element type take.
fn check(entries: &[(String, HeaderEntry)], data_bytes: usize) -> Result<(), String> {
    let mut end_of_last = 0;
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        if start != end_of_last || end < start {
            return Err(format!(
                "tensor `{name}` lies at bytes {start}..{end} of the data, but its predecessor ends at {end_of_last}; the header is damaged, get the file again"
            ));
        }
        let bits = entry.shape.iter().try_fold(entry.dtype.bitsize(), |bits, &dim| bits.checked_mul(dim));
        match bits {
            Some(bits) if bits.is_multiple_of(8) && bits / 8 == end - start => {}
            _ => {
                return Err(format!(
                    "tensor `{name}` has {} bytes, which dimensions {:?} of {} don't take; the header is damaged, get the file again",
                    end - start,
                    entry.shape,
                    entry.dtype
                ));
            }
        }
        end_of_last = end;
    }
    match entries.iter().find(|(_, entry)| entry.data_offsets.1 > data_bytes) {
        Some((name, _)) => Err(format!(
            "it is cut off: the header describes {end_of_last} bytes of tensors, {data_bytes} are present, the first tensor affected is `{name}`; get the file again"
        )),
        None if end_of_last != data_bytes => Err(format!(
            "{} bytes follow the last tensor, which the format doesn't allow; the header or the file is damaged, get the file again",
            data_bytes - end_of_last
        )),
        None => Ok(()),
    }
}

fn dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::Bf16),
        Dtype::F64 => Some(DType::F64),
        Dtype::BOOL | Dtype::U8 => Some(DType::U8),
        Dtype::I8 => Some(DType::I8),
        Dtype::I16 => Some(DType::I16),
        Dtype::I32 => Some(DType::I32),
        Dtype::I64 => Some(DType::I64),
        _ => None,
    }
}

impl WeightSource for SafetensorsFile {
    fn origin(&self) -> String {
        self.bytes.origin().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name)?.info.clone()
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        let stored =
            self.tensors.get(name).ok_or_else(|| WeightsError::missing(self.origin(), name, dims))?;
        let info = stored.info.clone().ok_or_else(|| WeightsError::UnsupportedDType {
            origin: self.origin(),
            name: name.to_owned(),
            dtype: stored.dtype.to_string(),
        })?;
        let bytes = self.bytes.as_ref().get(stored.range.clone()).ok_or_else(|| {
            malformed(self.bytes.origin(), FORMAT, format!("tensor `{name}` lies outside of the file"))
        })?;
        Ok(TensorData { info, bytes: Cow::Borrowed(bytes) })
    }

    fn release(&self, name: &str) {
        let range = self.tensors.get(name).map(|stored| stored.range.clone());
        if let Some(bytes) = range.and_then(|range| self.bytes.as_ref().get(range)) {
            self.bytes.release(bytes);
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.bytes.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn failure(bytes: &[u8]) -> String {
        SafetensorsFile::from_bytes("x.safetensors", bytes).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn tensors_are_slices_in_the_order_of_their_data() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[2,6]},
            "a":{"dtype":"BOOL","shape":[2,1],"data_offsets":[0,2]},"e":{"dtype":"F16","shape":[0,3],"data_offsets":[6,6]}}"#;
        let bytes = file(header, &[1, 0, 0, 0, 0x80, 0x3f]);
        let source = SafetensorsFile::from_static("bundled", Vec::leak(bytes)).unwrap();
        assert_eq!(source.names(), ["a", "b", "e"]);
        assert_eq!(source.metadata()["format"], "pt");
        let b = source.read("b", &[]).unwrap();
        assert!(matches!(b.bytes, Cow::Borrowed(_)));
        assert_eq!((b.info.dims.clone(), b.to_f32()), (vec![], vec![1.0]));
        assert_eq!(source.read("a", &[2, 1]).unwrap().to_f32(), [1.0, 0.0]);
        assert_eq!(source.read("e", &[0, 3]).unwrap().to_f32(), [0.0_f32; 0]);
        let missing = source.read("c", &[7]).unwrap_err().to_string();
        assert_eq!(missing, "bundled: tensor `c` [7] is missing");
    }

    #[test]
    fn element_types_that_nothing_uses_fail_when_read() {
        let header = r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
        let source = SafetensorsFile::from_bytes("x", file(header, &[0, 0])).unwrap();
        assert_eq!(source.names(), ["a"]);
        assert_eq!(source.info("a"), None);
        let error = source.read("a", &[2]).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("F8_E4M3"), "{error}");
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let entry = |dims: &str, from: u64, to: u64| {
            format!(r#"{{"dtype":"F32","shape":{dims},"data_offsets":[{from},{to}]}}"#)
        };
        let one = |name: &str, dims: &str, from, to| format!(r#"{{"{name}":{}}}"#, entry(dims, from, to));
        let two = |first: String, second: String| format!(r#"{{"a":{first},"b":{second}}}"#);
        let huge = u64::MAX;
        let cases: [(&str, Vec<u8>, &str); 14] = [
            ("short", vec![1, 2, 3], "only 3 bytes"),
            ("header length", [&huge.to_le_bytes()[..], b"{}"].concat(), "more than the format allows"),
            ("cut header", [&99_u64.to_le_bytes()[..], b"{}"].concat(), "cut off within the header"),
            ("not JSON", file("hello", &[]), "not what the format prescribes"),
            (
                "not UTF-8",
                [&2_u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(),
                "not what the format prescribes",
            ),
            (
                "negative",
                file(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, &[]),
                "prescribes",
            ),
            ("dtype", file(r#"{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]), "F33"),
            ("cut data", file(&one("w", "[2]", 0, 8), &[0; 7]), "the first tensor affected is `w`"),
            ("more data", file(&one("w", "[2]", 0, 8), &[0; 9]), "1 bytes follow the last tensor"),
            ("byte count", file(&one("w", "[3]", 0, 8), &[0; 8]), "`w` has 8 bytes"),
            ("overflow", file(&one("w", "[4294967296,4294967296,2]", 0, 8), &[0; 8]), "`w` has 8 bytes"),
            ("gap", file(&two(entry("[1]", 0, 4), entry("[1]", 5, 9)), &[0; 9]), "`b` lies at bytes 5..9"),
            (
                "overlap",
                file(&two(entry("[1]", 0, 4), entry("[1]", 2, 6)), &[0; 6]),
                "`b` lies at bytes 2..6",
            ),
            (
                "reversed",
                file(&one("w", "[0]", 0, 0).replace("[0,0]", "[8,4]"), &[0; 8]),
                "`w` lies at bytes 8..4",
            ),
        ];
        let wrong: Vec<String> = cases
            .iter()
            .map(|(case, bytes, expected)| (case, failure(bytes), expected))
            .filter(|(_, found, expected)| !found.contains(**expected))
            .map(|(case, found, expected)| format!("{case}: `{expected}` not in `{found}`"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The sum of these lengths passes 2^64: a check that adds before it compares would wrap around.
    #[test]
    fn offsets_near_the_end_of_the_address_space_are_refused() {
        let eighth = 1_u64 << 61;
        let mut entries: Vec<String> = (0..7)
            .map(|i| {
                format!(
                    r#""t{i}":{{"dtype":"U8","shape":[{eighth}],"data_offsets":[{},{}]}}"#,
                    i * eighth,
                    (i + 1) * eighth
                )
            })
            .collect();
        let last = eighth - 1;
        entries.push(format!(
            r#""t7":{{"dtype":"U8","shape":[{last}],"data_offsets":[{},{}]}}"#,
            7 * eighth,
            u64::MAX
        ));
        let found = failure(&file(&format!("{{{}}}", entries.join(",")), &[0; 8]));
        assert!(found.contains("`t0`"), "{found}");
    }
}
