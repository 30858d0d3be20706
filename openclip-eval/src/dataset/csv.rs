//! CSV and TSV files with the paths of images, and their captions or classes.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{BufRead, BufReader, Seek},
    path::{Path, PathBuf},
};

use super::{Dataset, DatasetInfo, ImageSource, Sample, Samples, Target, columns::Columns, open::Wanted};
use crate::error::{Error, Result};

/// A table with a row for each image, or for each caption of an image. Paths are relative to the table's folder. Columns are
/// separated by tabs where the header has one, by commas otherwise, and found by their names; a column `split` chooses rows.
#[derive(Debug)]
pub struct CsvDataset {
    info: DatasetInfo,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    images: Vec<PathBuf>,
    target: Target,
}

/// A row as it stands in the table.
struct Record {
    line: u64,
    images: Vec<PathBuf>,
    captions: Vec<String>,
    label: Option<String>,
}

impl CsvDataset {
    /// Reads the table. Rows of the same image are one sample with several captions.
    ///
    /// # Errors
    /// [`Error::Dataset`] when columns are missing, a row is damaged, or no row is left; [`Error::Io`].
    pub fn open(path: &Path, split: &str, wanted: Wanted) -> Result<Self> {
        let records = read(path, split, wanted)?;
        let (classes, rows) = match wanted {
            Wanted::Classes => {
                let (classes, rows) = classified(path, records)?;
                (classes, rows)
            }
            Wanted::Captions => (None, captioned(path, records)),
            Wanted::Choices => (None, records.into_iter().map(|record| choice(path, record)).collect()),
        };
        let info = DatasetInfo { classes, templates: None, len: Some(rows.len()) };
        Ok(Self { info, rows })
    }
}

fn read(path: &Path, split: &str, wanted: Wanted) -> Result<Vec<Record>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut header = Vec::new();
    file.read_until(b'\n', &mut header).map_err(Error::io(path))?;
    let delimiter = if header.contains(&b'\t') { b'\t' } else { b',' };
    file.rewind().map_err(Error::io(path))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file);
    let fault = |error: csv::Error| Error::dataset(path, error.to_string());
    let names: Vec<String> = reader.headers().map_err(fault)?.iter().map(str::to_owned).collect();
    let columns = Columns::find(&names, wanted).map_err(|message| Error::dataset(path, message))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut records = Vec::new();
    let mut splits = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(fault)?;
        // The reader makes sure that every record has as many fields as the header.
        let field = |place: usize| record.get(place).unwrap_or_default();
        if let Some(found) = columns.split.map(field)
            && found != split
        {
            splits.insert(found.to_owned());
            continue;
        }
        records.push(Record {
            line: record.position().map_or(0, csv::Position::line),
            images: columns.images.iter().map(|&place| folder.join(field(place))).collect(),
            captions: columns.captions.iter().map(|&place| field(place).to_owned()).collect(),
            label: columns.label.map(|place| field(place).to_owned()),
        });
    }
    if records.is_empty() {
        let splits: Vec<String> = splits.into_iter().collect();
        let message = match splits.is_empty() {
            true => "the table has no rows".to_owned(),
            false => format!("no row is of the split `{split}`; there are {}", splits.join(", ")),
        };
        return Err(Error::dataset(path, message));
    }
    Ok(records)
}

/// Rows with classes: numbers, or names, which then are the dataset's classes in their order.
fn classified(path: &Path, records: Vec<Record>) -> Result<(Option<Vec<String>>, Vec<Row>)> {
    let labels: Vec<&str> =
        records.iter().map(|record| record.label.as_deref().unwrap_or_default()).collect();
    if let Some(record) =
        records.iter().zip(&labels).find(|(_, label)| label.is_empty()).map(|(record, _)| record)
    {
        return Err(Error::dataset(path, format!("line {}: the row has no class", record.line)));
    }
    let numbers: Option<Vec<usize>> = labels.iter().map(|label| label.trim().parse().ok()).collect();
    let (classes, numbers) = match numbers {
        Some(numbers) => (None, numbers),
        None => {
            let classes: Vec<&str> = labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            let numbers =
                labels.iter().map(|label| classes.binary_search(label).unwrap_or_default()).collect();
            (Some(classes.into_iter().map(str::to_owned).collect()), numbers)
        }
    };
    let rows = records.into_iter().zip(numbers).map(|(record, class)| Row {
        name: name(path, &record),
        images: record.images,
        target: Target::Class(class),
    });
    Ok((classes, rows.collect()))
}

/// A sample for each image, with the captions of all of its rows.
fn captioned(path: &Path, records: Vec<Record>) -> Vec<Row> {
    let mut places: HashMap<Vec<PathBuf>, usize> = HashMap::new();
    let mut rows: Vec<(String, Vec<PathBuf>, Vec<String>)> = Vec::new();
    for record in records {
        let place = *places.entry(record.images.clone()).or_insert(rows.len());
        match rows.get_mut(place) {
            Some((_, _, captions)) => captions.extend(record.captions),
            None => rows.push((name(path, &record), record.images, record.captions)),
        }
    }
    let row = |(name, images, captions)| Row { name, images, target: Target::Captions(captions) };
    rows.into_iter().map(row).collect()
}

fn choice(path: &Path, record: Record) -> Row {
    Row { name: name(path, &record), images: record.images, target: Target::Captions(record.captions) }
}

fn name(path: &Path, record: &Record) -> String {
    format!("{}, line {}", path.display(), record.line)
}

impl Dataset for CsvDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn samples(&self) -> Result<Samples> {
        Ok(Box::new(self.rows.clone().into_iter().map(|Row { name, images, target }| {
            Ok(Sample { name, images: images.into_iter().map(ImageSource::Path).collect(), target })
        })))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(text: &str, split: &str, wanted: Wanted) -> Result<CsvDataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        fs::write(&path, text).unwrap();
        CsvDataset::open(&path, split, wanted)
    }

    fn targets(dataset: &CsvDataset) -> Vec<Target> {
        dataset.samples().unwrap().map(|sample| sample.unwrap().target).collect()
    }

    #[test]
    fn captions_of_an_image_belong_together() {
        let text = "filepath\ttitle\na.png\tone\nb.png\ttwo, \"2\"\na.png\tthree\n";
        let captions = |list: &[&str]| Target::Captions(list.iter().map(|text| (*text).to_owned()).collect());
        let dataset = open(text, "test", Wanted::Captions).unwrap();
        assert_eq!(targets(&dataset), [captions(&["one", "three"]), captions(&["two, \"2\""])]);
        let dataset = open(text, "test", Wanted::Choices).unwrap();
        assert_eq!(targets(&dataset).len(), 3, "a row is a choice");
    }

    #[test]
    fn classes_are_numbers_or_names() {
        let dataset = open("image,label,split\na,1,test\nb,0,train\n", "test", Wanted::Classes).unwrap();
        assert_eq!((targets(&dataset), &dataset.info.classes), (vec![Target::Class(1)], &None));
        let dataset = open("image,label\na,cat\nb,ant\nc,cat\n", "test", Wanted::Classes).unwrap();
        assert_eq!(targets(&dataset), [1, 0, 1].map(Target::Class));
        assert_eq!(dataset.info.classes.unwrap(), ["ant", "cat"]);
    }

    #[test]
    fn damaged_tables_are_refused() {
        for (text, part) in [
            ("", "no column"),
            ("image,label\n", "no rows"),
            ("image,label\na\n", "found record with 1 field"),
            ("image,label\na,\n", "line 2: the row has no class"),
            ("image,label,split\na,1,train\n", "no row is of the split `test`; there are train"),
        ] {
            let error = open(text, "test", Wanted::Classes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
