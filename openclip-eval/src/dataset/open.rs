//! Datasets by name: `FORMAT:PATH`, as the command line takes them.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::UNIX_EPOCH,
};

use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::{Cifar, CifarKind, CsvDataset, Dataset, ImageFolder, Mnist, ParquetDataset, WebDataset};
use crate::error::{Error, Result};

/// The formats that are known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Tar files in CLIP_benchmark's layout, or one tar file.
    Wds,
    /// A folder for each class.
    ImageFolder,
    /// A table with the paths of images.
    Csv,
    /// Tables with images in them, as the hub keeps them.
    Parquet,
    /// CIFAR-10's binary version.
    Cifar10,
    /// CIFAR-100's binary version.
    Cifar100,
    /// `idx` files.
    Mnist,
}

impl Format {
    const ALL: [(&str, Self); 7] = [
        ("wds", Self::Wds),
        ("imagefolder", Self::ImageFolder),
        ("csv", Self::Csv),
        ("parquet", Self::Parquet),
        ("cifar10", Self::Cifar10),
        ("cifar100", Self::Cifar100),
        ("mnist", Self::Mnist),
    ];

    /// The name in front of the colon.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

/// What a sample's target is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A class or several.
    Classes,
    /// Texts that describe the image.
    Captions,
    /// Images and texts to choose from.
    Choices,
}

impl Wanted {
    /// What it is called in messages.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::Captions => "captions",
            Self::Choices => "captions to choose from",
        }
    }
}

/// A dataset as a user says it: `wds:DIR`.
///
/// ```
/// use openclip_eval::dataset::{DatasetName, Format};
///
/// let name: DatasetName = "wds:data/flowers".parse()?;
/// assert_eq!(name.format, Format::Wds);
/// assert_eq!(name.label(), "wds/flowers");
/// assert!("flowers".parse::<DatasetName>().is_err());
/// # Ok::<(), openclip_eval::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetName {
    /// How it is laid out.
    pub format: Format,
    /// Where it is.
    pub path: PathBuf,
}

impl DatasetName {
    /// What the dataset is called in results: the last part of its path, behind `wds/` for tar files, as in CLIP_benchmark.
    pub fn label(&self) -> String {
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let part = match absolute.is_dir() {
            true => absolute.file_name(),
            false => absolute.file_stem(),
        };
        let part = part.map_or_else(|| "dataset".into(), |part| part.to_string_lossy());
        // A revision of the hub is no part of the name.
        let part = part.split('@').next().unwrap_or_default();
        match self.format {
            Format::Wds => format!("wds/{part}"),
            _ => part.to_owned(),
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.name(), self.path.display())
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let formats: Vec<String> = Format::ALL.iter().map(|(name, _)| format!("{name}:PATH")).collect();
        let fail = |message: String| Err(Error::Name { name: name.to_owned(), message });
        let Some((format, path)) = name.split_once(':') else {
            return fail(format!("say how it is laid out and where it is: {}", formats.join(", ")));
        };
        let Some((_, format)) = Format::ALL.iter().find(|(known, _)| *known == format) else {
            return fail(format!("there is no format `{format}`; there are {}", formats.join(", ")));
        };
        match path.is_empty() {
            true => fail("no path follows the colon".to_owned()),
            false => Ok(Self { format: *format, path: path.into() }),
        }
    }
}

/// Opens a split of a dataset, to get from it what is wanted.
///
/// # Errors
/// [`Error::Dataset`] when it isn't laid out as its format wants it or hasn't what is wanted, [`Error::Io`].
pub fn open(name: &DatasetName, split: &str, wanted: Wanted) -> Result<Box<dyn Dataset>> {
    let path = name.path.as_path();
    check_exists(path)?;
    Ok(match name.format {
        Format::Wds => Box::new(WebDataset::open(path, split, wanted)?),
        Format::ImageFolder => Box::new(ImageFolder::open(path, split, wanted)?),
        Format::Csv => Box::new(CsvDataset::open(path, split, wanted)?),
        Format::Parquet => Box::new(ParquetDataset::open(path, split, wanted)?),
        Format::Cifar10 => Box::new(Cifar::open(path, CifarKind::Cifar10, split, wanted)?),
        Format::Cifar100 => Box::new(Cifar::open(path, CifarKind::Cifar100, split, wanted)?),
        Format::Mnist => Box::new(Mnist::open(path, split, wanted)?),
    })
}

/// What tells a split of a dataset from others, and from itself after a change: its name, and the sizes and times of its files.
///
/// # Errors
/// [`Error::Dataset`] when its files can't be listed.
pub fn fingerprint(name: &DatasetName, split: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    for entry in WalkDir::new(&name.path).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::dataset(&name.path, error.to_string()))?;
        let metadata = entry.metadata().map_err(|error| Error::dataset(entry.path(), error.to_string()))?;
        if !metadata.is_file() {
            continue;
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let path = entry.path().strip_prefix(&name.path).unwrap_or(entry.path());
        hasher.update(format!("{}\n{} {modified:?}\n", path.display(), metadata.len()));
    }
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{name} {split} {digest}"))
}

fn check_exists(path: &Path) -> Result<()> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::dataset(path, "there is no such file or folder")),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// The error of a format that can't have what is wanted.
pub(super) fn has_no(path: &Path, wanted: Wanted, format: &str) -> Error {
    Error::dataset(path, format!("{format} has no {}: use another format for this task", wanted.what()))
}
