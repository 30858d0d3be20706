//! CIFAR-10 and CIFAR-100 in their binary versions.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
};

use openclip_vision::DecodedImage;

use super::{
    Dataset, DatasetInfo, ImageSource, Sample, Samples, Target,
    ahead::read_ahead,
    open::{Wanted, has_no},
    read_lines,
};
use crate::error::{Error, Result};

/// Pixels on a side.
const SIDE: usize = 32;
/// Bytes of an image: a plane for each channel.
const IMAGE: usize = 3 * SIDE * SIDE;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CifarKind {
    /// Ten classes: `data_batch_1.bin` to `5` and `test_batch.bin`, names in `batches.meta.txt`.
    Cifar10,
    /// A hundred fine classes: `train.bin` and `test.bin`, names in `fine_label_names.txt`.
    Cifar100,
}

impl CifarKind {
    /// Bytes of labels before an image. The last one counts.
    fn labels(self) -> usize {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    fn files(self, split: &str) -> Option<Vec<String>> {
        match (self, split) {
            (Self::Cifar10, "train") => {
                Some((1..=5).map(|batch| format!("data_batch_{batch}.bin")).collect())
            }
            (Self::Cifar10, "test") => Some(vec!["test_batch.bin".to_owned()]),
            (Self::Cifar100, "train" | "test") => Some(vec![format!("{split}.bin")]),
            _ => None,
        }
    }

    /// The folder in which the archive unpacks, and the file of class names.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cifar10 => ("cifar-10-batches-bin", "batches.meta.txt"),
            Self::Cifar100 => ("cifar-100-binary", "fine_label_names.txt"),
        }
    }
}

/// Records of labels and an image of 32x32 pixels.
#[derive(Debug)]
pub struct Cifar {
    info: DatasetInfo,
    kind: CifarKind,
    files: Vec<PathBuf>,
}

impl Cifar {
    /// Opens the folder with the files, or the one that it lies in.
    ///
    /// # Errors
    /// [`Error::Dataset`] when a file is missing or has another size than whole records; [`Error::Io`].
    pub fn open(path: &Path, kind: CifarKind, split: &str, wanted: Wanted) -> Result<Self> {
        if wanted != Wanted::Classes {
            return Err(has_no(path, wanted, "CIFAR"));
        }
        let (inner, names) = kind.names();
        let folder = Some(path.join(inner)).filter(|inner| inner.is_dir()).unwrap_or_else(|| path.to_owned());
        let Some(files) = kind.files(split) else {
            return Err(Error::dataset(path, format!("there is no split `{split}`: choose train or test")));
        };
        let record = (kind.labels() + IMAGE) as u64;
        let mut count = 0;
        let files: Vec<PathBuf> = files.into_iter().map(|file| folder.join(file)).collect();
        for file in &files {
            let size = file.metadata().map_err(Error::io(file))?.len();
            if size == 0 || size % record != 0 {
                let message = format!("it has {size} bytes, no whole number of records of {record}");
                return Err(Error::dataset(file, message));
            }
            count += size / record;
        }
        let names = folder.join(names);
        let classes = names.is_file().then(|| read_lines(&names)).transpose()?;
        let classes = classes.map(|names| names.into_iter().filter(|name| !name.is_empty()).collect());
        let info = DatasetInfo { classes, templates: None, len: usize::try_from(count).ok() };
        Ok(Self { info, kind, files })
    }
}

impl Dataset for Cifar {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        let kind = self.kind;
        Ok(read_ahead(self.files.clone(), move |file, sender| read(file, kind, sender)))
    }
}

fn read(path: &Path, kind: CifarKind, sender: &SyncSender<Result<Sample>>) -> Result<()> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let count = path.metadata().map_err(Error::io(path))?.len() / (kind.labels() + IMAGE) as u64;
    for number in 0..count {
        let name = format!("{}, record {number}", path.display());
        let mut labels = [0; 2];
        let mut planes = [0; IMAGE];
        let labels = labels.get_mut(..kind.labels()).unwrap_or_default();
        file.read_exact(labels).and_then(|()| file.read_exact(&mut planes)).map_err(Error::io(path))?;
        let (red, rest) = planes.split_at(SIDE * SIDE);
        let (green, blue) = rest.split_at(SIDE * SIDE);
        let pixels =
            red.iter().zip(green).zip(blue).flat_map(|((&red, &green), &blue)| [red, green, blue]).collect();
        let image =
            DecodedImage::from_rgb8(&name, SIDE, SIDE, pixels).map_err(|error| Error::Model(error.into()))?;
        let target = Target::Class(labels.last().copied().map_or(0, usize::from));
        if sender.send(Ok(Sample { name, images: vec![ImageSource::Image(image)], target })).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn records_are_labels_and_planes() {
        let folder = tempfile::tempdir().unwrap();
        let record = |labels: &[u8]| [labels, &[1; 1024], &[2; 1024], &[3; 1024]].concat();
        let binary = folder.path().join("cifar-100-binary");
        fs::create_dir(&binary).unwrap();
        fs::write(binary.join("test.bin"), [record(&[9, 1]), record(&[8, 0])].concat()).unwrap();
        fs::write(binary.join("fine_label_names.txt"), "apple\nbear\n\n").unwrap();
        let open = |split| Cifar::open(folder.path(), CifarKind::Cifar100, split, Wanted::Classes);
        let dataset = open("test").unwrap();
        assert_eq!((dataset.info.len, dataset.info.classes.as_ref().unwrap().len()), (Some(2), 2));
        let samples: Vec<Sample> = dataset.samples().unwrap().map(Result::unwrap).collect();
        assert_eq!([&samples[0].target, &samples[1].target], [&Target::Class(1), &Target::Class(0)]);
        let ImageSource::Image(image) = &samples[0].images[0] else { panic!("{samples:?}") };
        assert_eq!((image.width(), image.height()), (32, 32));
        assert!(open("val").unwrap_err().to_string().contains("choose train or test"));
        assert!(open("train").unwrap_err().to_string().contains("train.bin"));
        fs::write(folder.path().join("test_batch.bin"), [0; 100]).unwrap();
        let error = Cifar::open(folder.path(), CifarKind::Cifar10, "test", Wanted::Classes).unwrap_err();
        assert!(error.to_string().contains("100 bytes, no whole number of records of 3073"), "{error}");
    }
}
