//! Datasets: streams of samples, in the formats that people have them in.
//!
//! A [`Dataset`] says what it consists of and gives its [`Sample`]s one by one, in the same order each time. Images are
//! handed on as they lie in the files; they are decoded where they are needed, on all cores. To add a format, implement the
//! trait in a file of its own, and name it in [`open`](mod@open) if it is to be had on the command line.
//!
//! ```
//! use openclip_eval::dataset::{Dataset, DatasetInfo, ImageSource, Samples, Sample, Target};
//!
//! /// Two pictures and what they show.
//! struct Pair;
//!
//! impl Dataset for Pair {
//!     fn info(&self) -> &DatasetInfo {
//!         static INFO: DatasetInfo = DatasetInfo::new();
//!         &INFO
//!     }
//!     fn samples(&self) -> openclip_eval::Result<Samples> {
//!         let sample = |name: &str, caption: &str| {
//!             let (images, captions) = (vec![ImageSource::Path(name.into())], vec![caption.to_owned()]);
//!             Ok(Sample { name: name.to_owned(), images, target: Target::Captions(captions) })
//!         };
//!         Ok(Box::new([sample("cat.png", "a cat"), sample("dog.png", "a dog")].into_iter()))
//!     }
//! }
//! assert_eq!(Pair.samples()?.count(), 2);
//! # Ok::<(), openclip_eval::Error>(())
//! ```

mod ahead;
mod cifar;
mod columns;
mod csv;
mod folder;
mod hub;
mod labels;
mod lines;
mod mnist;
pub mod open;
mod parquet;
mod webdataset;

use std::path::Path;

pub use self::parquet::ParquetDataset;
pub use cifar::{Cifar, CifarKind};
pub use csv::CsvDataset;
pub use folder::ImageFolder;
pub use labels::read_labels;
pub use lines::{python_lines, read_lines};
pub use mnist::Mnist;
pub use open::{DatasetName, Format, Wanted, fingerprint, open};
pub use openclip_vision::preprocess::ImageSource;
pub use webdataset::WebDataset;

use crate::error::Result;

/// What a sample's images are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The class, counted from 0.
    Class(usize),
    /// For each class whether the image shows it.
    Labels(Vec<bool>),
    /// Texts that describe the image. For the selection of captions: as many as there are to choose from, the first being
    /// the first image's.
    Captions(Vec<String>),
}

/// One entry of a dataset: an image, or several for the selection of captions, and its target.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is called in messages.
    pub name: String,
    /// The images, not yet read or decoded.
    pub images: Vec<ImageSource>,
    /// What they are compared with.
    pub target: Target,
}

/// What a dataset says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetInfo {
    /// The names of the classes in their order, where the dataset brings them.
    pub classes: Option<Vec<String>>,
    /// Prompt templates, where the dataset brings them.
    pub templates: Option<Vec<String>>,
    /// The number of samples, where it is known before they are read.
    pub len: Option<usize>,
}

impl DatasetInfo {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { classes: None, templates: None, len: None }
    }
}

/// Samples in order. An error means that the rest can't be told from it, and ends the evaluation; what is wrong with a single
/// image shows when it is decoded.
pub type Samples = Box<dyn Iterator<Item = Result<Sample>> + Send>;

/// A stream of samples that can be read again, in the same order.
pub trait Dataset: Send + Sync {
    /// What is known of it before its samples are read.
    fn info(&self) -> &DatasetInfo;

    /// All samples in their order.
    ///
    /// # Errors
    /// [`Error::Dataset`](crate::Error::Dataset), [`Error::Io`](crate::Error::Io).
    fn samples(&self) -> Result<Samples>;
}

/// Endings of files that are taken for images.
const IMAGE_EXTENSIONS: &[&str] = &[
    "bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff",
    "webp",
];

/// Whether a file's name says that it is an image.
fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    IMAGE_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str())
}
