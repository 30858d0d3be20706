//! Parquet files, as the Hugging Face hub keeps datasets of images: a column with images (`bytes` and `path`), and others with
//! captions or classes. The names of classes stand in the file's metadata.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::SyncSender},
};

use parquet::{
    basic::Type as PhysicalType,
    file::{
        reader::{FileReader, SerializedFileReader},
        serialized_reader::SerializedFileReader as Reader,
    },
    record::{Field, Row},
    schema::types::Type as SchemaType,
};
use serde_json::Value;

use super::{
    Dataset, DatasetInfo, ImageSource, Sample, Samples, Target,
    ahead::{guarded, read_ahead},
    columns::Columns,
    open::Wanted,
};
use crate::error::{Error, Result};

/// Parquet files of one split.
#[derive(Debug)]
pub struct ParquetDataset {
    info: DatasetInfo,
    files: Vec<PathBuf>,
    wanted: Wanted,
}

impl ParquetDataset {
    /// Opens one file, or the files of a split in a folder: `SPLIT-*.parquet` or `SPLIT.parquet`, there or in its subfolder
    /// `data`, or all in the subfolder `SPLIT`.
    ///
    /// # Errors
    /// [`Error::Dataset`] when there are no files, one can't be read, or columns are missing.
    pub fn open(path: &Path, split: &str, wanted: Wanted) -> Result<Self> {
        let files = if path.is_file() { vec![path.to_owned()] } else { files(path, split)? };
        let mut info = DatasetInfo { len: Some(0), ..DatasetInfo::new() };
        let (mut described, mut found) = (None, BTreeSet::new());
        for file in &files {
            let part = guarded(file, || Part::read(file, wanted, described.is_none()))?;
            info.len = info.len.map(|len| len.saturating_add(part.rows));
            described = described.or(part.described);
            found.extend(part.found);
        }
        info.classes = described.or_else(|| (!found.is_empty()).then(|| found.into_iter().collect()));
        Ok(Self { info, files, wanted })
    }
}

/// What is known of one file before its samples are read.
struct Part {
    rows: usize,
    /// Names of the classes, as the file's metadata lists them.
    described: Option<Vec<String>>,
    /// Names of classes that occur, where they aren't listed.
    found: BTreeSet<String>,
}

impl Part {
    /// Reads the layout of `file`, and where the classes are names and `wants_names`, all of these.
    fn read(file: &Path, wanted: Wanted, wants_names: bool) -> Result<Self> {
        let reader = open(file)?;
        let (names, columns) = columns(file, &reader, wanted)?;
        let metadata = reader.metadata().file_metadata();
        let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
        let mut part = Self { rows, described: None, found: BTreeSet::new() };
        if let Some(label) = columns.label.and_then(|place| names.get(place)) {
            let description = metadata.key_value_metadata().into_iter().flatten();
            let mut description = description.filter(|pair| pair.key == "huggingface");
            let description = description.find_map(|pair| pair.value.as_deref());
            part.described = description.and_then(|text| class_names(text, label));
            if part.described.is_none() && wants_names {
                part.found = names_in(file, &reader, label)?;
            }
        }
        Ok(part)
    }
}

fn files(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let is_of_split = |file: &Path| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        name == split || name.strip_prefix(split).is_some_and(|rest| rest.starts_with('-'))
    };
    for (inner, all) in [("", false), ("data", false), (split, true)] {
        let Ok(entries) = folder.join(inner).read_dir() else { continue };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
        files.retain(|file| all || is_of_split(file));
        files.sort();
        if !files.is_empty() {
            return Ok(files);
        }
    }
    let message = format!("there are no {split}-*.parquet in it, nor in its folders data and {split}");
    Err(Error::dataset(folder, message))
}

fn open(path: &Path) -> Result<Reader<File>> {
    let file = File::open(path).map_err(Error::io(path))?;
    SerializedFileReader::new(file).map_err(|error| fault(path, &error))
}

fn fault(path: &Path, error: &parquet::errors::ParquetError) -> Error {
    let message = error.to_string();
    // The library's own words name the compression.
    let hint = match message.contains("Disabled feature") && message.contains("zstd") {
        true => "; build with the cargo feature `zstd`",
        false => "",
    };
    Error::dataset(path, format!("not a readable parquet file: {message}{hint}"))
}

fn columns(path: &Path, reader: &Reader<File>, wanted: Wanted) -> Result<(Vec<String>, Columns)> {
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let columns = Columns::find(&names, wanted).map_err(|message| Error::dataset(path, message))?;
    Ok((names, columns))
}

/// The class names of a column, as the crate `datasets` describes it: of a class, or of lists of them (in its older releases
/// an array with one description).
fn class_names(description: &str, label: &str) -> Option<Vec<String>> {
    let description: Value = serde_json::from_str(description).ok()?;
    let feature = description.get("info")?.get("features")?.get(label)?;
    let feature = feature.get("feature").or_else(|| feature.get(0)).unwrap_or(feature);
    let names = feature.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The values of a column of names; columns of numbers have none.
fn names_in(path: &Path, reader: &Reader<File>, label: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let schema = reader.metadata().file_metadata().schema();
    let Some(column) = schema.get_fields().iter().find(|field| field.name() == label) else {
        return Ok(found);
    };
    if !column.is_primitive() || column.get_physical_type() != PhysicalType::BYTE_ARRAY {
        return Ok(found);
    }
    let fault = |error| fault(path, &error);
    let fields = vec![Arc::clone(column)];
    let projection =
        SchemaType::group_type_builder(schema.name()).with_fields(fields).build().map_err(fault)?;
    for row in reader.get_row_iter(Some(projection)).map_err(fault)? {
        let row = row.map_err(fault)?;
        if let Some((_, Field::Str(name))) = row.get_column_iter().next() {
            found.insert(name.clone());
        }
    }
    Ok(found)
}

impl Dataset for ParquetDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        let (wanted, classes) = (self.wanted, self.info.classes.clone());
        Ok(read_ahead(self.files.clone(), move |file, sender| read(file, wanted, classes.as_deref(), sender)))
    }
}

fn read(
    path: &Path,
    wanted: Wanted,
    classes: Option<&[String]>,
    sender: &SyncSender<Result<Sample>>,
) -> Result<()> {
    let reader = open(path)?;
    let (_, columns) = columns(path, &reader, wanted)?;
    let folder: Arc<Path> = path.parent().unwrap_or(Path::new("")).into();
    for (number, row) in reader.into_iter().enumerate() {
        let row = row.map_err(|error| fault(path, &error))?;
        let name = format!("{}, row {number}", path.display());
        let sample = sample(&name, &folder, &row, &columns, classes)
            .map_err(|message| Error::sample(name, message))?;
        if sender.send(Ok(sample)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A row as a sample, or what is wrong with it.
fn sample(
    name: &str,
    folder: &Path,
    row: &Row,
    columns: &Columns,
    classes: Option<&[String]>,
) -> std::result::Result<Sample, String> {
    let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
    let field = |place: &usize| fields.get(*place).copied().unwrap_or(&Field::Null);
    let images = columns.images.iter().map(|place| image(name, folder, field(place)));
    let images = images.collect::<std::result::Result<_, _>>()?;
    let target = match &columns.label {
        Some(place) => match field(place) {
            Field::ListInternal(list) => Target::Labels(labels(list.elements(), classes)?),
            one => Target::Class(class(one, classes)?),
        },
        None => {
            let mut captions = Vec::new();
            for place in &columns.captions {
                add_captions(field(place), &mut captions)?;
            }
            Target::Captions(captions)
        }
    };
    Ok(Sample { name: name.to_owned(), images, target })
}

fn image(name: &str, folder: &Path, field: &Field) -> std::result::Result<ImageSource, String> {
    let in_memory = |bytes: &[u8]| ImageSource::Bytes { name: name.to_owned(), bytes: bytes.to_vec() };
    match field {
        Field::Bytes(bytes) => Ok(in_memory(bytes.data())),
        Field::Str(path) => Ok(ImageSource::Path(folder.join(path))),
        Field::Group(group) => {
            let part = |wanted: &str| {
                group.get_column_iter().find(|(name, _)| *name == wanted).map(|(_, field)| field)
            };
            match (part("bytes"), part("path")) {
                (Some(Field::Bytes(bytes)), _) => Ok(in_memory(bytes.data())),
                (_, Some(Field::Str(path))) => Ok(ImageSource::Path(folder.join(path))),
                _ => Err("it has no image: its `bytes` and `path` are empty".to_owned()),
            }
        }
        _ => Err("it has no image".to_owned()),
    }
}

/// For each class whether it is among `elements`.
fn labels(elements: &[Field], classes: Option<&[String]>) -> std::result::Result<Vec<bool>, String> {
    let count =
        classes.map(<[String]>::len).ok_or("it has a list of classes, and the file doesn't name them")?;
    let mut labels = vec![false; count];
    for element in elements {
        let class = class(element, classes)?;
        let label =
            labels.get_mut(class).ok_or_else(|| format!("its class is {class}, of {count} from 0"))?;
        *label = true;
    }
    Ok(labels)
}

/// The number of a class, which may be given by name.
fn class(field: &Field, classes: Option<&[String]>) -> std::result::Result<usize, String> {
    if let Field::Str(name) = field {
        let place = classes.and_then(|classes| classes.iter().position(|class| class == name));
        return place.ok_or_else(|| format!("its class is `{name}`, which isn't among the dataset's"));
    }
    let number = match field {
        Field::Byte(value) => i64::from(*value),
        Field::Short(value) => i64::from(*value),
        Field::Int(value) => i64::from(*value),
        Field::Long(value) => *value,
        Field::UByte(value) => i64::from(*value),
        Field::UShort(value) => i64::from(*value),
        Field::UInt(value) => i64::from(*value),
        other => return Err(format!("its class is {other}, which is no number and no name")),
    };
    usize::try_from(number).map_err(|_| format!("its class is {number}: it has none"))
}

fn add_captions(field: &Field, captions: &mut Vec<String>) -> std::result::Result<(), String> {
    match field {
        Field::Str(caption) => captions.push(caption.clone()),
        Field::ListInternal(list) => {
            for element in list.elements() {
                add_captions(element, captions)?;
            }
        }
        other => return Err(format!("its caption is {other}, which is no text")),
    }
    Ok(())
}
