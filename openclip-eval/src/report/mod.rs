//! Results of many runs as one table, and as pictures.

mod plot;
mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use plot::{bars, scatter};
pub use tables::{csv, markdown};

use crate::{
    error::{Error, Result},
    record::Record,
};

/// What is known of a model beside its results.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelFacts {
    /// Floating point operations for an image and a text, in billions.
    pub gflops: Option<f64>,
    /// Parameters, in millions.
    pub mparams: Option<f64>,
}

/// A result and what is known of its model.
#[derive(Clone, Debug)]
pub struct Row {
    /// The result.
    pub record: Record,
    /// What is known of the model.
    pub facts: ModelFacts,
}

impl Row {
    /// The model with its weights, and with backend and precision where they aren't the default.
    pub fn model(&self) -> String {
        let Record { model, pretrained, openclip, .. } = &self.record;
        let name = if pretrained.is_empty() { model.clone() } else { format!("{model} {pretrained}") };
        match openclip {
            Some(details) if (details.backend.as_str(), details.precision.as_str()) != ("candle", "f32") => {
                format!("{name} ({} {})", details.backend, details.precision)
            }
            _ => name,
        }
    }

    /// The figure that a task is judged by.
    pub fn main_figure(&self) -> Option<(&str, f64)> {
        const MAIN: &[&str] =
            &["acc1", "lp_acc1", "mean_average_precision", "image_retrieval_recall@5", "acc", "CIDEr"];
        let metrics = &self.record.metrics;
        let figure = MAIN.iter().find_map(|name| Some((*name, metrics.get(*name)?.as_f64()?)));
        let first = || metrics.iter().find_map(|(name, value)| Some((name.as_str(), value.as_f64()?)));
        figure.or_else(first)
    }
}

/// Reads results from files, and from all files in folders whose names end in `.json`.
///
/// # Errors
/// [`Error::Io`], and [`Error::Dataset`] when a file is no result or there are none.
pub fn read(paths: &[PathBuf], facts: impl Fn(&str) -> ModelFacts) -> Result<Vec<Row>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in fs::read_dir(path).map_err(Error::io(path))? {
            let file = entry.map_err(Error::io(path))?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(Error::dataset(path, "there are no results (.json) in it"));
        }
    }
    files.sort();
    let row = |file: &PathBuf| {
        let record = Record::read(file)?;
        Ok(Row { facts: facts(&record.model), record })
    };
    files.iter().map(row).collect()
}

/// Writes `results.csv`, `results.md` and the pictures into `folder`. Returns the files.
///
/// # Errors
/// [`Error::Core`] when a file can't be written.
pub fn write(folder: &Path, rows: &[Row]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut files = vec![("results.csv".to_owned(), csv(rows)?), ("results.md".to_owned(), markdown(rows))];
    for task in tasks(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.record.task == task).collect();
        files.extend(plot::pictures(&task, &rows));
    }
    let write = |(name, text): (String, String)| {
        let path = folder.join(name);
        openclip_core::files::write_atomically(&path, |file| {
            file.write_all(text.as_bytes()).map_err(|error| openclip_core::Error::io(&path, error))
        })?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// The tasks of these results, in order.
fn tasks(rows: &[Row]) -> Vec<String> {
    let mut tasks: Vec<String> = rows.iter().map(|row| row.record.task.clone()).collect();
    tasks.sort();
    tasks.dedup();
    tasks
}

/// Different values in the order in which they first occur.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(dataset: &str, model: &str, acc1: f64) -> Record {
        serde_json::from_value(json!({
            "dataset": dataset, "model": model, "pretrained": "x", "task": "zeroshot_classification", "language": "en",
            "metrics": {"acc1": acc1, "acc5": null},
            "openclip": {"backend": "candle", "precision": "f32", "split": "test", "samples": 2, "evaluated": 2,
                         "broken": [], "images_per_second": 10.0 * acc1},
        }))
        .unwrap()
    }

    #[test]
    fn results_become_tables_and_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let results = [("a", "small", 0.25), ("b", "small", 0.5), ("a", "large & <slow>", 0.75)];
        for (number, (dataset, model, acc1)) in results.into_iter().enumerate() {
            record(dataset, model, acc1).write(&folder.path().join(format!("{number}.json"))).unwrap();
        }
        let facts =
            |model: &str| ModelFacts { gflops: (model == "small").then_some(3.0), mparams: Some(8.0) };
        let rows = read(&[folder.path().to_owned()], facts).unwrap();
        let out = folder.path().join("report");
        let files = write(&out, &rows).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        let task = "zeroshot_classification";
        let pictures = ["gflops", "parameters", "speed", "datasets"].map(|name| format!("{task}-{name}.svg"));
        assert_eq!(names[..2], ["results.csv", "results.md"]);
        assert_eq!(names[2..], pictures);
        let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        let csv = text("results.csv");
        assert!(csv.starts_with("dataset,model,pretrained,model_fullname,task,language,acc1,acc5,"), "{csv}");
        assert!(csv.contains("\na,small,x,small x,zeroshot_classification,en,0.25,,"), "{csv}");
        let markdown = text("results.md");
        assert!(markdown.contains("| small x | 0.2500 | 0.5000 | 0.3750 |"), "{markdown}");
        assert!(markdown.contains("| large & <slow> x | 0.7500 | - | 0.7500 |"), "{markdown}");
        for name in &names[2..] {
            let svg = text(name);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
            assert!(!svg.contains("<slow>"), "names are escaped");
        }
        assert!(read(std::slice::from_ref(&out), facts).unwrap_err().to_string().contains("no results"));
        fs::write(out.join("other.json"), "[]").unwrap();
        assert!(read(&[out], facts).unwrap_err().to_string().contains("other.json: not a result"));
    }
}
