//! MNIST and what is kept as it is: `idx` files of grey pictures and of labels, packed with gzip or not.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
};

use flate2::read::GzDecoder;
use openclip_vision::DecodedImage;

use super::{
    Dataset, DatasetInfo, ImageSource, Sample, Samples, Target,
    ahead::read_ahead,
    open::{Wanted, has_no},
};
use crate::error::{Error, Result};

/// Pixels that a picture may have on a side.
const LARGEST_SIDE: u32 = 4096;

/// Grey pictures with a class each; `train-*` and `t10k-*`.
#[derive(Debug)]
pub struct Mnist {
    info: DatasetInfo,
    images: PathBuf,
    labels: PathBuf,
}

impl Mnist {
    /// Opens a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same of `t10k`, or the folder in which
    /// torchvision puts them. A dot may stand before `idx`, and `.gz` at the end.
    ///
    /// # Errors
    /// [`Error::Dataset`] when a file is missing, is of another kind, or there are other numbers of pictures and labels.
    pub fn open(path: &Path, split: &str, wanted: Wanted) -> Result<Self> {
        if wanted != Wanted::Classes {
            return Err(has_no(path, wanted, "MNIST"));
        }
        let prefix = match split {
            "train" => "train",
            "test" => "t10k",
            _ => {
                return Err(Error::dataset(
                    path,
                    format!("there is no split `{split}`: choose train or test"),
                ));
            }
        };
        let images = find(path, &format!("{prefix}-images"), 3)?;
        let labels = find(path, &format!("{prefix}-labels"), 1)?;
        let [pictures, _, _] = Idx::open(&images)?.dims::<3>(&images)?;
        let [classes] = Idx::open(&labels)?.dims::<1>(&labels)?;
        if pictures != classes {
            return Err(Error::dataset(
                images,
                format!("it has {pictures} pictures, and there are {classes} labels"),
            ));
        }
        let classes = (0..10).map(|digit| digit.to_string()).collect();
        let info = DatasetInfo { classes: Some(classes), templates: None, len: Some(pictures as usize) };
        Ok(Self { info, images, labels })
    }
}

fn find(folder: &Path, start: &str, axes: usize) -> Result<PathBuf> {
    for inner in ["", "raw", "MNIST/raw"] {
        for (joint, packed) in [("-", ""), (".", ""), ("-", ".gz"), (".", ".gz")] {
            let path = folder.join(inner).join(format!("{start}{joint}idx{axes}-ubyte{packed}"));
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(Error::dataset(folder, format!("there is no {start}-idx{axes}-ubyte in it")))
}

/// A file of bytes with some axes.
struct Idx(Box<dyn Read>);

impl Idx {
    fn open(path: &Path) -> Result<Self> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        Ok(match path.extension().is_some_and(|extension| extension == "gz") {
            true => Self(Box::new(BufReader::new(GzDecoder::new(file)))),
            false => Self(Box::new(file)),
        })
    }

    /// Reads the header.
    fn dims<const N: usize>(&mut self, path: &Path) -> Result<[u32; N]> {
        let mut magic = [0; 4];
        self.fill(&mut magic, path)?;
        if magic != [0, 0, 8, N as u8] {
            return Err(Error::dataset(path, format!("not an idx file of bytes with {N} axes")));
        }
        let mut dims = [0; N];
        for dim in &mut dims {
            let mut bytes = [0; 4];
            self.fill(&mut bytes, path)?;
            *dim = u32::from_be_bytes(bytes);
        }
        Ok(dims)
    }

    fn fill(&mut self, bytes: &mut [u8], path: &Path) -> Result<()> {
        self.0.read_exact(bytes).map_err(Error::io(path))
    }
}

impl Dataset for Mnist {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        let labels = self.labels.clone();
        Ok(read_ahead(vec![self.images.clone()], move |images, sender| read(images, &labels, sender)))
    }
}

fn read(images: &Path, labels: &Path, sender: &SyncSender<Result<Sample>>) -> Result<()> {
    let (mut pictures, mut classes) = (Idx::open(images)?, Idx::open(labels)?);
    let [count, height, width] = pictures.dims::<3>(images)?;
    classes.dims::<1>(labels)?;
    if height > LARGEST_SIDE || width > LARGEST_SIDE {
        return Err(Error::dataset(images, format!("pictures of {height}x{width} pixels are too large")));
    }
    let (height, width) = (height as usize, width as usize);
    for number in 0..count {
        let name = format!("{}, picture {number}", images.display());
        let mut grey = vec![0; height * width];
        pictures.fill(&mut grey, images)?;
        let mut class = [0];
        classes.fill(&mut class, labels)?;
        let pixels = grey.into_iter().flat_map(|value| [value; 3]).collect();
        let image = DecodedImage::from_rgb8(&name, width, height, pixels)
            .map_err(|error| Error::Model(error.into()))?;
        let target = Target::Class(usize::from(class[0]));
        if sender.send(Ok(Sample { name, images: vec![ImageSource::Image(image)], target })).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
        let dims_bytes = dims.iter().flat_map(|dim| dim.to_be_bytes());
        [0, 0, 8, dims.len() as u8].into_iter().chain(dims_bytes).chain(data.iter().copied()).collect()
    }

    #[test]
    fn pictures_and_labels_go_together() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let open = || Mnist::open(folder.path(), "test", Wanted::Classes);
        write("t10k-images-idx3-ubyte", &idx(&[2, 1, 2], &[0, 9, 8, 7]));
        assert!(open().unwrap_err().to_string().contains("no t10k-labels-idx1-ubyte"));
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&idx(&[2], &[3, 4])).unwrap();
        write("t10k-labels.idx1-ubyte.gz", &packed.finish().unwrap());
        let samples: Vec<Sample> = open().unwrap().samples().unwrap().map(Result::unwrap).collect();
        assert_eq!([&samples[0].target, &samples[1].target], [&Target::Class(3), &Target::Class(4)]);
        assert_eq!(open().unwrap().info.len, Some(2));
        write("t10k-images-idx3-ubyte", &idx(&[2, 1, 2], &[0, 9, 8]));
        assert!(open().unwrap().samples().unwrap().any(|sample| sample.is_err()), "it is cut off");
        write("t10k-images-idx3-ubyte", &idx(&[3, 1, 2], &[0; 6]));
        assert!(open().unwrap_err().to_string().contains("3 pictures, and there are 2 labels"));
        write("t10k-images-idx3-ubyte", b"no idx file");
        assert!(open().unwrap_err().to_string().contains("not an idx file"));
    }
}
