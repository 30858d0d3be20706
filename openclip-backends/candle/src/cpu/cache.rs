//! Packed weights that are kept on disk between runs, so that a start maps them instead of packing them again.
//!
//! A file holds one tower in one precision for one kind of processor. It is a safetensors file whose tensors start on
//! cache lines; its metadata have the version of the packing, a key that tells the checkpoint's content and the processor
//! from others, and a checksum of every tensor. A file that doesn't fit, isn't whole or isn't what it was is packed anew and
//! replaced, so that there is never more than one per checkpoint, tower, precision and kind of processor. Writers replace
//! files by renaming, so that processes that have one mapped, or write one at the same time, don't disturb each other.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytemuck::Pod;
use memmap2::Mmap;
use openclip_core::{Error, Precision, Weights, files::AtomicFile};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};

use super::{
    aligned::LINE,
    gemm::{int8, panel_width},
    packed::{PackedBytes, PackedValues},
};

/// To be raised whenever weights are packed in another way.
const VERSION: &str = "1";
/// Fields of a file's metadata.
const VERSION_FIELD: &str = "openclip.packed";
const KEY_FIELD: &str = "key";
const CHECKSUM_PREFIX: &str = "crc32.";
/// Names of what only moves the next tensor to a cache line.
const PADDING_PREFIX: &str = "padding.";

/// What packed weights consist of.
pub trait Element: Pod + Send + Sync {
    /// Its name in files.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

/// Halves as bits.
impl Element for u16 {
    const DTYPE: Dtype = Dtype::U16;
}

/// Pairs of halves as bits.
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}

impl Element for i8 {
    const DTYPE: Dtype = Dtype::I8;
}

impl Element for i32 {
    const DTYPE: Dtype = Dtype::I32;
}

/// The packed weights of one tower, as far as they are known.
#[derive(Debug)]
pub struct PackedCache {
    path: PathBuf,
    key: String,
    /// What an earlier process has kept.
    kept: BTreeMap<String, Entry>,
    /// What wasn't there.
    added: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: PackedBytes,
}

impl PackedCache {
    /// What is kept in `folder` of the weights below the scope of `w`. `None` for a source whose content can't be told from
    /// another's.
    pub fn open(folder: &Path, w: &Weights, precision: Precision) -> Option<Self> {
        let checkpoint = w.fingerprint()?;
        let origin = PathBuf::from(w.origin());
        let origin = origin.canonicalize().unwrap_or(origin);
        let tiles = int8::tile_layout();
        let processor = format!("panels of {}, integer tiles of {}x{}", panel_width(), tiles[0], tiles[1]);
        let place = format!("{}|{}|{precision}|{processor}", origin.display(), w.scope_name());
        let name: String =
            origin.file_stem().unwrap_or_default().to_string_lossy().chars().take(48).collect();
        let file =
            format!("{name}-{}-{precision}-{:08x}.packed", w.scope_name(), crc32fast::hash(place.as_bytes()));
        let mut cache = Self {
            path: folder.join(file),
            key: format!("{place}|{checkpoint}"),
            kept: BTreeMap::new(),
            added: Mutex::default(),
        };
        match read(&cache.path, &cache.key) {
            Ok(kept) => cache.kept = kept,
            Err(Unusable::Absent) => {}
            Err(Unusable::Foreign) => tracing::debug!("{}: of another checkpoint", cache.path.display()),
            Err(Unusable::Damaged(reason)) => {
                tracing::warn!("{}: {reason}; packing the weights again", cache.path.display());
            }
        }
        Some(cache)
    }

    /// What is kept as `name`, if it is of these dimensions.
    pub fn get<T: Element>(&self, name: &str, dims: &[usize]) -> Option<PackedValues<T>> {
        let entry = self.kept.get(name).filter(|entry| entry.dtype == T::DTYPE && entry.dims == dims)?;
        PackedValues::from_bytes(entry.bytes.clone())
    }

    /// Keeps `values` as `name`. They are written by [`finish`](Self::finish).
    pub fn put<T: Element>(&self, name: &str, dims: &[usize], values: &PackedValues<T>) {
        let entry = Entry { dtype: T::DTYPE, dims: dims.to_vec(), bytes: values.bytes().clone() };
        self.added.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), entry);
    }

    /// Writes what has been added, beside what was there. That it fails costs no more than the time that is lost at the
    /// next start, so it is only warned of.
    pub fn finish(&self) {
        let added = std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner));
        if added.is_empty() {
            return;
        }
        let mut entries = self.kept.clone();
        entries.extend(added);
        if let Err(error) = write(&self.path, &self.key, &entries) {
            tracing::warn!("packed weights can't be kept: {error}");
        }
    }
}

/// Why there is nothing in a file.
#[derive(Debug)]
enum Unusable {
    Absent,
    /// Another checkpoint's, another version's.
    Foreign,
    Damaged(String),
}

/// The entries of a file, all of them checked.
fn read(path: &Path, key: &str) -> Result<BTreeMap<String, Entry>, Unusable> {
    let damaged = |reason: String| Unusable::Damaged(reason);
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent,
        _ => Unusable::Damaged(error.to_string()),
    })?;
    // SAFETY: the map is read-only. Files of this kind are replaced by renaming and never written in place, so that what is
    // mapped stays as it is; that some other program writes into it is what no reader of mapped files can rule out.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| damaged(error.to_string()))?;
    let (header, metadata) =
        SafeTensors::read_metadata(&map).map_err(|error| damaged(format!("it is damaged ({error})")))?;
    let fields = metadata.metadata().clone().unwrap_or_default();
    let is = |field: &str, value: &str| fields.get(field).is_some_and(|found| found == value);
    if !is(VERSION_FIELD, VERSION) || !is(KEY_FIELD, key) {
        return Err(Unusable::Foreign);
    }
    let (map, data) = (Arc::new(map), header + size_of::<u64>());
    let tensors: Vec<(String, &TensorInfo)> =
        metadata.tensors().into_iter().filter(|(name, _)| !name.starts_with(PADDING_PREFIX)).collect();
    let entry = |(name, info): (String, &TensorInfo)| {
        let (start, end) = info.data_offsets;
        let bytes = PackedBytes::mapped(&map, data + start..data + end)
            .ok_or_else(|| damaged(format!("it is damaged (`{name}` isn't aligned)")))?;
        let checksum = fields.get(&format!("{CHECKSUM_PREFIX}{name}"));
        if checksum.is_none_or(|expected| *expected != checksum_of(&bytes)) {
            return Err(damaged(format!("it is damaged (`{name}` isn't what it was)")));
        }
        Ok((name, Entry { dtype: info.dtype, dims: info.shape.clone(), bytes }))
    };
    tensors.into_par_iter().map(entry).collect()
}

fn checksum_of(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// Writes `entries` as `path`, whole or not at all.
fn write(path: &Path, key: &str, entries: &BTreeMap<String, Entry>) -> openclip_core::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    }
    let mut fields = HashMap::from([
        (VERSION_FIELD.to_owned(), VERSION.to_owned()),
        (KEY_FIELD.to_owned(), key.to_owned()),
    ]);
    let checksums: Vec<_> = entries
        .par_iter()
        .map(|(name, entry)| (format!("{CHECKSUM_PREFIX}{name}"), checksum_of(&entry.bytes)))
        .collect();
    fields.extend(checksums);
    let mut tensors = Vec::with_capacity(entries.len());
    let mut end = 0;
    let mut add = |name: String, dtype: Dtype, shape: Vec<usize>, bytes: usize| {
        tensors.push((name, TensorInfo { dtype, shape, data_offsets: (end, end + bytes) }));
        end += bytes;
        end.next_multiple_of(LINE) - end
    };
    for (number, (name, entry)) in entries.iter().enumerate() {
        let padding = add(name.clone(), entry.dtype, entry.dims.clone(), entry.bytes.len());
        if padding > 0 {
            add(format!("{PADDING_PREFIX}{number}"), Dtype::U8, vec![padding], padding);
        }
    }
    let invalid = |error: String| Error::InvalidArgument(format!("{}: {error}", path.display()));
    let metadata = Metadata::new(Some(fields), tensors).map_err(|error| invalid(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| invalid(error.to_string()))?;
    header.resize((size_of::<u64>() + header.len()).next_multiple_of(LINE) - size_of::<u64>(), b' ');
    let mut file = AtomicFile::create(path)?;
    file.append(&(header.len() as u64).to_le_bytes())?;
    file.append(&header)?;
    for entry in entries.values() {
        file.append(&entry.bytes)?;
        file.append(&[0; LINE][..entry.bytes.len().next_multiple_of(LINE) - entry.bytes.len()])?;
    }
    file.finish_unsynced()
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use openclip_core::weights::{SafetensorsFile, TensorData, save_safetensors};

    use super::*;

    /// A checkpoint in `folder`, and the weights below a scope of it.
    fn checkpoint(folder: &Path, value: f32) -> Weights {
        let path = folder.join("model.safetensors");
        let tensor = ("text.w".to_owned(), TensorData::from_f32(&[1], &[value]));
        save_safetensors(&path, [tensor], None).unwrap();
        Weights::new(Arc::new(SafetensorsFile::open(&path).unwrap())).scope("text")
    }

    fn open(folder: &Path, w: &Weights) -> PackedCache {
        PackedCache::open(&folder.join("packed"), w, Precision::F32).unwrap()
    }

    fn floats() -> PackedValues<f32> {
        PackedValues::new(7, |values| values.iter_mut().zip(1..).for_each(|(value, n)| *value = n as f32))
    }

    /// Keeps two tensors, the first of which doesn't end on a cache line.
    fn keep(cache: &PackedCache) {
        cache.put("a", &[7], &floats());
        cache.put("b", &[2, 1], &PackedValues::<i8>::new(2, |values| values.copy_from_slice(&[3, -4])));
        cache.finish();
    }

    fn is_whole(cache: &PackedCache) -> bool {
        let (a, b) = (cache.get::<f32>("a", &[7]), cache.get::<i8>("b", &[2, 1]));
        a.is_some_and(|a| a[..] == floats()[..]) && b.is_some_and(|b| b[..] == [3, -4])
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let w = checkpoint(folder.path(), 1.0);
        let cache = open(folder.path(), &w);
        assert!(!is_whole(&cache));
        keep(&cache);
        let cache = open(folder.path(), &w);
        assert!(is_whole(&cache));
        // Other dimensions, another type, another name.
        assert!(cache.get::<f32>("a", &[1, 7]).is_none());
        assert!(cache.get::<i8>("a", &[7]).is_none());
        assert!(cache.get::<f32>("c", &[7]).is_none());
        // What is added stands beside what was there.
        cache.put("c", &[7], &floats());
        cache.finish();
        let cache = open(folder.path(), &w);
        assert!(is_whole(&cache) && cache.get::<f32>("c", &[7]).is_some());
    }

    #[test]
    fn every_precision_and_tower_has_its_own_file_and_a_changed_checkpoint_replaces_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(folder.path().join("packed")).unwrap().count();
        let w = checkpoint(folder.path(), 1.0);
        keep(&open(folder.path(), &w));
        let half = |w: &Weights| PackedCache::open(&folder.path().join("packed"), w, Precision::F16).unwrap();
        assert!(!is_whole(&half(&w)));
        keep(&half(&w));
        let image =
            Weights::new(Arc::new(SafetensorsFile::open(folder.path().join("model.safetensors")).unwrap()));
        assert!(!is_whole(&open(folder.path(), &image.scope("visual"))));
        assert!(is_whole(&half(&w)) && is_whole(&open(folder.path(), &w)));
        assert_eq!(count(), 2);

        let w = checkpoint(folder.path(), 2.0);
        assert!(!is_whole(&open(folder.path(), &w)) && !is_whole(&half(&w)));
        keep(&open(folder.path(), &w));
        assert!(is_whole(&open(folder.path(), &w)));
        assert_eq!(count(), 2);
    }

    #[test]
    fn no_damage_goes_unnoticed_and_what_is_damaged_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let w = checkpoint(folder.path(), 1.0);
        let cache = open(folder.path(), &w);
        keep(&cache);
        let whole = fs::read(&cache.path).unwrap();
        // Spaces after the header, zeros between tensors and what these are called mean nothing.
        let counts = |place: &usize| {
            !matches!(whole[*place], b' ' | 0) && !whole[..*place].ends_with(PADDING_PREFIX.as_bytes())
        };
        let unnoticed: Vec<_> = (0..whole.len())
            .filter(counts)
            .filter(|&place| {
                let mut bytes = whole.clone();
                bytes[place] ^= 0x55;
                fs::write(&cache.path, &bytes).unwrap();
                is_whole(&open(folder.path(), &w))
            })
            .collect();
        assert_eq!(unnoticed, [0_usize; 0], "bytes of {}", String::from_utf8_lossy(&whole));
        for len in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&cache.path, &whole[..len]).unwrap();
            assert!(!is_whole(&open(folder.path(), &w)), "{len} bytes");
        }
        let longer = [&whole[..], &[0]].concat();
        fs::write(&cache.path, longer).unwrap();
        assert!(!is_whole(&open(folder.path(), &w)));
        let version = format!("\"{VERSION_FIELD}\":\"{VERSION}\"");
        let other = version.replace(VERSION, "0");
        let text = String::from_utf8_lossy(&whole).into_owned();
        assert!(text.contains(&version));
        let place = text.find(&version).unwrap();
        let mut bytes = whole.clone();
        bytes[place..place + other.len()].copy_from_slice(other.as_bytes());
        fs::write(&cache.path, bytes).unwrap();
        let foreign = open(folder.path(), &w);
        assert!(!is_whole(&foreign));
        keep(&foreign);
        assert_eq!(fs::read(&cache.path).unwrap().len(), whole.len());
        assert!(is_whole(&open(folder.path(), &w)));
    }

    #[test]
    fn several_writers_leave_a_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let w = checkpoint(folder.path(), 1.0);
        let caches: Vec<_> = (0..4).map(|_| open(folder.path(), &w)).collect();
        thread::scope(|scope| {
            caches.iter().for_each(|cache| drop(scope.spawn(|| keep(cache))));
        });
        assert!(is_whole(&open(folder.path(), &w)));
        assert_eq!(fs::read_dir(folder.path().join("packed")).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cant_be_written_to_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let w = checkpoint(folder.path(), 1.0);
        fs::write(folder.path().join("packed"), "a file").unwrap();
        let cache = open(folder.path(), &w);
        keep(&cache);
        assert!(!is_whole(&open(folder.path(), &w)));
    }

    #[test]
    fn a_source_without_a_file_is_not_kept() {
        let any = openclip_core::weights::synth::SynthesisedWeights::new();
        let w = Weights::new(Arc::new(any));
        assert!(PackedCache::open(Path::new("nowhere"), &w, Precision::F32).is_none());
    }
}
