//! Webdataset tars, in CLIP_benchmark's layout or by themselves.
//!
//! A folder for each split holds `nshards.txt` and `0.tar`, `1.tar`, ...; beside the splits stand `classnames.txt`,
//! `zeroshot_classification_templates.txt` and `dataset_type.txt` (`classification`, `multilabel` or `retrieval`). Files of a
//! tar whose names are equal up to the first dot are one sample: an image, and `.cls` (the class as a number), `.npy` (a label
//! for each class) or `.txt` (a caption a line). A tar that stands alone may say the caption in `.json`, too (`caption`,
//! `text` or `label`).

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
};

use serde_json::Value;

use super::{
    Dataset, DatasetInfo, ImageSource, Sample, Samples, Target, ahead::read_ahead, has_image_extension,
    open::Wanted, python_lines, read_labels, read_lines,
};
use crate::error::{Error, Result};

/// A dataset of tar files.
#[derive(Debug)]
pub struct WebDataset {
    info: DatasetInfo,
    shards: Vec<PathBuf>,
    wanted: Wanted,
    labels: bool,
}

impl WebDataset {
    /// Opens a folder in CLIP_benchmark's layout, or one tar file.
    ///
    /// # Errors
    /// [`Error::Dataset`] when `nshards.txt` or a tar is missing, or the dataset is of another type; [`Error::Io`].
    pub fn open(path: &Path, split: &str, wanted: Wanted) -> Result<Self> {
        if path.is_file() {
            let shards = vec![path.to_owned()];
            return Ok(Self { info: DatasetInfo::new(), shards, wanted, labels: false });
        }
        let shards = shards(path, split)?;
        let kind = optional(&path.join("dataset_type.txt"), |path| {
            fs::read_to_string(path).map_err(Error::io(path))
        })?;
        let kind = kind.map_or_else(|| "classification".to_owned(), |kind| kind.trim().to_lowercase());
        let is_retrieval = kind == "retrieval";
        if is_retrieval && wanted == Wanted::Classes {
            let message =
                "dataset_type.txt says `retrieval`: there are no classes; use `openclip eval retrieval`";
            return Err(Error::dataset(path, message));
        }
        let mut info = DatasetInfo::new();
        if wanted == Wanted::Classes {
            info.classes = optional(&path.join("classnames.txt"), read_lines)?;
            info.templates = optional(&path.join("zeroshot_classification_templates.txt"), read_lines)?;
        }
        Ok(Self { info, shards, wanted, labels: kind == "multilabel" })
    }
}

/// The tars of a split, all of which must be there.
fn shards(path: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let folder = path.join(split);
    if !folder.is_dir() {
        return Err(Error::dataset(
            path,
            format!("there is no folder `{split}` in it: choose a split that there is"),
        ));
    }
    let list = folder.join("nshards.txt");
    if !list.is_file() {
        return Err(Error::dataset(&folder, "nshards.txt is missing: it must hold the number of tar files"));
    }
    let text = fs::read_to_string(&list).map_err(Error::io(&list))?;
    let count: usize = match text.trim().parse() {
        Ok(count) if count > 0 => count,
        _ => return Err(Error::dataset(list, format!("`{}` is not a number of tar files", text.trim()))),
    };
    let mut shards = Vec::new();
    for number in 0..count {
        let shard = folder.join(format!("{number}.tar"));
        if !shard.is_file() {
            return Err(Error::dataset(
                shard,
                format!("it is missing: nshards.txt says that there are {count}"),
            ));
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// What `read` makes of a file, if there is one.
fn optional<T>(path: &Path, read: impl Fn(&Path) -> Result<T>) -> Result<Option<T>> {
    if path.is_file() { read(path).map(Some) } else { Ok(None) }
}

impl Dataset for WebDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        let targets = Targets { wanted: self.wanted, labels: self.labels };
        Ok(read_ahead(self.shards.clone(), move |shard, sender| read_tar(shard, targets, sender)))
    }
}

/// How a sample's target is told from its files.
#[derive(Clone, Copy, Debug)]
struct Targets {
    wanted: Wanted,
    labels: bool,
}

/// Sends the samples of a tar, until it ends or nobody listens.
fn read_tar(path: &Path, targets: Targets, sender: &SyncSender<Result<Sample>>) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    let fault = |error: std::io::Error| Error::dataset(path, format!("not a readable tar file: {error}"));
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    let mut group: Option<Group> = None;
    for entry in archive.entries().map_err(fault)? {
        let mut entry = entry.map_err(fault)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(fault)?.to_string_lossy().into_owned();
        let Some((key, extension)) = split_name(&name) else { continue };
        let size = entry.size();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(fault)?;
        if bytes.len() as u64 != size {
            let message = format!("the tar file ends within {name}: {} of {size} bytes", bytes.len());
            return Err(Error::dataset(path, message));
        }
        if group.as_ref().is_some_and(|group| group.key != key)
            && let Some(group) = group.take()
            && sender.send(Ok(group.sample(path, targets)?)).is_err()
        {
            return Ok(());
        }
        let group = group.get_or_insert_with(|| Group { key: key.to_owned(), files: Vec::new() });
        group.files.push((extension.to_lowercase(), bytes));
    }
    if let Some(group) = group {
        let _ = sender.send(Ok(group.sample(path, targets)?));
    }
    Ok(())
}

/// The key and the extension of a file: what stands before and behind the first dot of its last part.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let last = name.get(start..)?;
    let dot = start + last.find('.').filter(|&dot| dot > 0)?;
    Some((name.get(..dot)?, name.get(dot + 1..)?))
}

/// Files of one sample.
struct Group {
    key: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Group {
    fn sample(mut self, tar: &Path, targets: Targets) -> Result<Sample> {
        let name = format!("{}/{}", tar.display(), self.key);
        self.files.sort();
        let target = self.target(&name, targets)?;
        let mut images: Vec<ImageSource> = Vec::new();
        for (extension, bytes) in self.files {
            let file = format!("{}.{extension}", self.key);
            if has_image_extension(Path::new(&file)) {
                images.push(ImageSource::Bytes { name: format!("{}/{file}", tar.display()), bytes });
            }
        }
        match images.len() {
            0 => Err(Error::sample(name, format!("it has {}, and no image", targets.wanted.what()))),
            1 => Ok(Sample { name, images, target }),
            _ if targets.wanted == Wanted::Choices => Ok(Sample { name, images, target }),
            count => Err(Error::sample(name, format!("it has {count} images, where one is expected"))),
        }
    }

    fn target(&self, name: &str, targets: Targets) -> Result<Target> {
        let missing = |message: &str| Err(Error::sample(name, message));
        match targets {
            Targets { wanted: Wanted::Classes, labels: true } => {
                let Some(bytes) = self.file("npy") else { return missing("it has no labels (.npy)") };
                let labels =
                    read_labels(bytes).map_err(|message| Error::sample(name, format!(".npy: {message}")))?;
                Ok(Target::Labels(labels))
            }
            Targets { wanted: Wanted::Classes, .. } => {
                let Some(text) = self.text("cls", name)? else { return missing("it has no class (.cls)") };
                let class = text.trim().parse();
                class.map(Target::Class).map_err(|_| {
                    Error::sample(name, format!(".cls: `{}` is not the number of a class", text.trim()))
                })
            }
            _ => match (self.text("txt", name)?, self.text("json", name)?) {
                (Some(text), _) => {
                    Ok(Target::Captions(python_lines(text).into_iter().map(str::to_owned).collect()))
                }
                (None, Some(json)) => caption_of_json(name, json),
                (None, None) => missing("it has no captions (.txt)"),
            },
        }
    }

    fn file(&self, extension: &str) -> Option<&[u8]> {
        self.files.iter().find(|(known, _)| known == extension).map(|(_, bytes)| bytes.as_slice())
    }

    fn text(&self, extension: &str, name: &str) -> Result<Option<&str>> {
        let text = self.file(extension).map(std::str::from_utf8).transpose();
        text.map_err(|error| Error::sample(name, format!(".{extension} is not UTF-8: {error}")))
    }
}

fn caption_of_json(name: &str, json: &str) -> Result<Target> {
    let value: Value =
        serde_json::from_str(json).map_err(|error| Error::sample(name, format!(".json: {error}")))?;
    let caption = ["caption", "text", "label"].iter().find_map(|field| value.get(field)?.as_str());
    match caption {
        Some(caption) => Ok(Target::Captions(vec![caption.to_owned()])),
        None => Err(Error::sample(name, "its .json has none of the texts `caption`, `text` and `label`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_tar(path: &Path, files: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
    }

    fn folder(files: &[(&str, &[u8])], kind: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let split = folder.path().join("test");
        fs::create_dir(&split).unwrap();
        write_tar(&split.join("0.tar"), files);
        fs::write(split.join("nshards.txt"), "1\n").unwrap();
        if let Some(kind) = kind {
            fs::write(folder.path().join("dataset_type.txt"), kind).unwrap();
        }
        folder
    }

    fn targets(folder: &Path, wanted: Wanted) -> Result<Vec<Target>> {
        let dataset = WebDataset::open(folder, "test", wanted)?;
        dataset.samples()?.map(|sample| sample.map(|sample| sample.target)).collect()
    }

    #[test]
    fn samples_are_grouped_by_key() {
        let files: &[(&str, &[u8])] = &[
            ("a/s0.png", b"image"),
            ("a/s0.cls", b"3\n"),
            ("__readme", b"no sample"),
            ("a/s1.cls", b"0"),
            ("a/s1.jpg", b"image"),
        ];
        let dataset = folder(files, None);
        fs::write(dataset.path().join("classnames.txt"), "a\nb\nc\nd\n").unwrap();
        assert_eq!(targets(dataset.path(), Wanted::Classes).unwrap(), [Target::Class(3), Target::Class(0)]);
        let opened = WebDataset::open(dataset.path(), "test", Wanted::Classes).unwrap();
        assert_eq!(opened.info().classes.as_ref().unwrap().len(), 4);
        let sample = opened.samples().unwrap().next().unwrap().unwrap();
        assert!(sample.name.ends_with("0.tar/a/s0"), "{}", sample.name);
    }

    #[test]
    fn captions_are_lines() {
        let files: &[(&str, &[u8])] =
            &[("0.png", b""), ("0.txt", b"a cat\na pet"), ("1.png", b""), ("1.txt", b"b")];
        let dataset = folder(files, Some("retrieval\n"));
        let captions = |list: &[&str]| Target::Captions(list.iter().map(|text| (*text).to_owned()).collect());
        let expected = [captions(&["a cat", "a pet"]), captions(&["b"])];
        assert_eq!(targets(dataset.path(), Wanted::Captions).unwrap(), expected);
        let error = targets(dataset.path(), Wanted::Classes).unwrap_err().to_string();
        assert!(error.contains("there are no classes"), "{error}");
        let alone = dataset.path().join("alone.tar");
        write_tar(&alone, &[("k.png", b""), ("k.json", br#"{"label": "cat face"}"#)]);
        assert_eq!(targets(&alone, Wanted::Captions).unwrap(), [captions(&["cat face"])]);
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        for (files, wanted, part) in [
            ([("0.png", b"".as_slice()), ("0.txt", b"")], Wanted::Classes, "0.tar/0: it has no class"),
            ([("0.cls", b"1"), ("0.txt", b"")], Wanted::Captions, "captions, and no image"),
            ([("0.png", b""), ("0.cls", b"cat")], Wanted::Classes, "`cat` is not the number of a class"),
            ([("0.png", b""), ("0.txt", b"\xff")], Wanted::Captions, ".txt is not UTF-8"),
            ([("0.png", b""), ("0.jpg", b"")], Wanted::Captions, "it has no captions"),
        ] {
            let dataset = folder(&files, None);
            let error = targets(dataset.path(), wanted).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let dataset = folder(&[("0.png", b"0123456789")], None);
        let tar = dataset.path().join("test/0.tar");
        let bytes = fs::read(&tar).unwrap();
        for (damaged, part) in
            [(&b"no tar at all".repeat(99)[..], "readable tar"), (&bytes[..515], "ends within 0.png")]
        {
            fs::write(&tar, damaged).unwrap();
            let error = targets(dataset.path(), Wanted::Classes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        fs::write(dataset.path().join("test/nshards.txt"), "2").unwrap();
        let error = targets(dataset.path(), Wanted::Classes).unwrap_err().to_string();
        assert!(error.contains("1.tar: it is missing"), "{error}");
        fs::remove_file(dataset.path().join("test/nshards.txt")).unwrap();
        let error = targets(dataset.path(), Wanted::Classes).unwrap_err().to_string();
        assert!(error.contains("nshards.txt is missing"), "{error}");
        let error = WebDataset::open(dataset.path(), "train", Wanted::Classes).unwrap_err().to_string();
        assert!(error.contains("no folder `train`"), "{error}");
    }
}
