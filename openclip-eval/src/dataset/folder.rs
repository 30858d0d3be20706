//! Image folders: a folder for each class, as torchvision reads them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

use super::{
    Dataset, DatasetInfo, ImageSource, Sample, Samples, Target, has_image_extension,
    open::{Wanted, has_no},
};
use crate::error::{Error, Result};

/// A folder with a folder for each class; the classes are in the order of their names. A folder for each split may stand
/// between.
#[derive(Debug)]
pub struct ImageFolder {
    info: DatasetInfo,
    images: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// Lists the images of `split`, or of the folder itself where there is no folder of that name.
    ///
    /// # Errors
    /// [`Error::Dataset`] when there are no classes or a class has no images; [`Error::Io`].
    pub fn open(path: &Path, split: &str, wanted: Wanted) -> Result<Self> {
        if wanted != Wanted::Classes {
            return Err(has_no(path, wanted, "a folder for each class"));
        }
        let root = Some(path.join(split)).filter(|folder| folder.is_dir()).unwrap_or_else(|| path.to_owned());
        let mut folders = Vec::new();
        for entry in fs::read_dir(&root).map_err(Error::io(&root))? {
            let entry = entry.map_err(Error::io(&root))?.path();
            if entry.is_dir() {
                folders.push(entry);
            }
        }
        folders.sort();
        if folders.is_empty() {
            return Err(Error::dataset(root, "there are no folders in it: it must have one for each class"));
        }
        let (mut classes, mut images) = (Vec::new(), Vec::new());
        for folder in folders {
            let class = classes.len();
            let before = images.len();
            for entry in WalkDir::new(&folder).follow_links(true).sort_by_file_name() {
                let entry = entry.map_err(|error| Error::dataset(&folder, error.to_string()))?;
                if entry.file_type().is_file() && has_image_extension(entry.path()) {
                    images.push((entry.into_path(), class));
                }
            }
            if images.len() == before {
                return Err(Error::dataset(folder, "the class has no images"));
            }
            classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        let info = DatasetInfo { classes: Some(classes), templates: None, len: Some(images.len()) };
        Ok(Self { info, images })
    }
}

impl Dataset for ImageFolder {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        Ok(Box::new(self.images.clone().into_iter().map(|(path, class)| {
            let name = path.to_string_lossy().into_owned();
            Ok(Sample { name, images: vec![ImageSource::Path(path)], target: Target::Class(class) })
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_folders() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["test/b/1.png", "test/a/x/2.JPG", "test/a/notes.txt", "test/b/0.png"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let dataset = ImageFolder::open(folder.path(), "test", Wanted::Classes).unwrap();
        assert_eq!(dataset.info.classes.as_deref().unwrap(), ["a", "b"]);
        let samples: Vec<Sample> = dataset.samples().unwrap().map(Result::unwrap).collect();
        let classes: Vec<&Target> = samples.iter().map(|sample| &sample.target).collect();
        assert_eq!(classes, [&Target::Class(0), &Target::Class(1), &Target::Class(1)]);
        assert!(samples[1].name.ends_with("0.png"));
        // Without a folder of the split's name, the folder itself.
        assert_eq!(ImageFolder::open(folder.path(), "train", Wanted::Classes).unwrap().images.len(), 3);
        let error = ImageFolder::open(&folder.path().join("test/b"), "test", Wanted::Classes).unwrap_err();
        assert!(error.to_string().contains("one for each class"), "{error}");
        fs::create_dir(folder.path().join("test/empty")).unwrap();
        let error = ImageFolder::open(folder.path(), "test", Wanted::Classes).unwrap_err();
        assert!(error.to_string().ends_with("empty: the class has no images"), "{error}");
    }
}
