//! Results as CLIP_benchmark writes them: one JSON object, in a file with the same name.

use std::path::Path;

use openclip_core::files::write_atomically;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    task::{Evaluation, Figures},
};

/// A result. Figures that aren't defined, which CLIP_benchmark writes as `NaN`, are `null`: JSON has no other word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the dataset is called.
    pub dataset: String,
    /// The architecture, or where the model was taken from.
    pub model: String,
    /// The weights; empty where the model's name says it all.
    pub pretrained: String,
    /// What CLIP_benchmark calls the task.
    pub task: String,
    /// The figures by name.
    pub metrics: Map<String, Value>,
    /// Language of the texts.
    pub language: String,
    /// What CLIP_benchmark doesn't say. Absent from its own results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openclip: Option<Details>,
}

/// What is known of a run beside its figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What computed.
    pub backend: String,
    /// In which precision.
    pub precision: String,
    /// The split of the dataset.
    pub split: String,
    /// Samples of the dataset.
    pub samples: usize,
    /// Samples that the figures are of.
    pub evaluated: usize,
    /// Why the others aren't among them.
    pub broken: Vec<String>,
    /// Images a second, where all of them were computed in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
}

impl Record {
    /// Puts figures and counts of an evaluation into the record.
    #[must_use]
    pub fn with(mut self, evaluation: &Evaluation) -> Self {
        self.metrics = figures(&evaluation.figures);
        self.metrics.extend(evaluation.options.clone());
        let details = self.openclip.get_or_insert_default();
        details.samples = evaluation.counts.total;
        details.evaluated = evaluation.counts.evaluated;
        details.broken.clone_from(&evaluation.counts.broken);
        self
    }

    /// The file's name where nothing else is asked for: `{dataset}_{pretrained}_{model}_{language}_{task}.json`.
    ///
    /// ```
    /// # use openclip_eval::Record;
    /// let text = r#"{"dataset": "wds/flowers", "model": "ViT-B-32", "pretrained": "openai", "metrics": {},
    ///                "task": "zeroshot_classification", "language": "en"}"#;
    /// let record: Record = serde_json::from_str(text)?;
    /// assert_eq!(record.file_name(), "flowers_openai_ViT-B-32_en_zeroshot_classification.json");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn file_name(&self) -> String {
        let dataset = self.dataset.strip_prefix("wds/").unwrap_or(&self.dataset);
        // Weights may be a file, whose name is enough, and a model a path.
        let pretrained = Path::new(&self.pretrained);
        let pretrained = match pretrained.is_file() {
            true => pretrained.file_name().unwrap_or_default().to_string_lossy(),
            false => self.pretrained.as_str().into(),
        };
        let name = format!("{dataset}_{pretrained}_{}_{}_{}.json", self.model, self.language, self.task);
        name.replace(['/', '\\', ':'], "_")
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`Error::Core`] when the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.to_json();
        Ok(write_atomically(path, |file| {
            file.write_all(text.as_bytes()).map_err(|error| openclip_core::Error::io(path, error))
        })?)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // Nothing of a record can't be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a result, of this crate or of CLIP_benchmark.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Dataset`] when it is no result.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        // Python writes what JSON has no word for.
        let text = text.replace(": NaN", ": null");
        serde_json::from_str(&text)
            .map_err(|error| Error::dataset(path, format!("not a result of an evaluation: {error}")))
    }
}

fn figures(figures: &Figures) -> Map<String, Value> {
    figures.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_clip_benchmark_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let text = r#"{"dataset": "cifar10", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification",
            "metrics": {"acc1": 0.5, "acc5": NaN}, "language": "en"}"#;
        std::fs::write(&path, text).unwrap();
        let record = Record::read(&path).unwrap();
        assert_eq!((record.metrics["acc1"].as_f64(), record.metrics["acc5"].as_f64()), (Some(0.5), None));
        let evaluation = Evaluation { figures: vec![("acc5".into(), f64::NAN)], ..Evaluation::default() };
        let record = record.with(&evaluation);
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        assert!(record.to_json().contains(r#""metrics":{"acc5":null}"#), "{}", record.to_json());
        std::fs::write(&path, "{}").unwrap();
        assert!(Record::read(&path).unwrap_err().to_string().contains("not a result"));
    }
}
