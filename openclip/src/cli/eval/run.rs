//! What all tasks have in common: the model, the dataset, and what becomes of the result.

use std::{
    env,
    io::{Write, stdout},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    Clip,
    cli::{Program, eval::arguments::TaskArguments, eval::observer::Bars, outcome::Outcome, table::table},
    eval::{
        Details, Record,
        dataset::{self, Dataset, Wanted},
        features::{ExtractionOptions, FeatureStore},
        task::{Evaluation, Task},
    },
    vision::preprocess::{DecodeOptions, LoaderOptions},
};

/// A model and a dataset, ready to be evaluated.
pub struct Run<'a> {
    arguments: &'a TaskArguments,
    pub clip: Clip,
    pub dataset: Box<dyn Dataset>,
    pub bars: Bars,
    record: Record,
}

impl<'a> Run<'a> {
    /// Opens the dataset, then the model: what is wrong with a dataset shows before anything is downloaded.
    pub fn open(arguments: &'a TaskArguments, program: &Program, wanted: Wanted) -> Result<Self> {
        let dataset = dataset::open(&arguments.dataset, &arguments.split, wanted)?;
        let choice = &arguments.model.choice;
        let clip = arguments.model.builder(program)?.lazy().build()?;
        let only_tag = || match program.registry.architecture(&choice.model).ok()?.pretrained.as_slice() {
            [only] => Some(only.tag.clone()),
            _ => None,
        };
        let record = Record {
            dataset: arguments.dataset.label(),
            model: choice.model.clone(),
            pretrained: choice.pretrained.clone().or_else(only_tag).unwrap_or_default(),
            task: String::new(),
            metrics: serde_json::Map::new(),
            language: choice.language.clone().unwrap_or_else(|| "en".to_owned()),
            openclip: Some(Details {
                backend: arguments.model.backend.to_string(),
                precision: arguments.model.precision.to_string(),
                split: arguments.split.clone(),
                ..Details::default()
            }),
        };
        Ok(Self { arguments, clip, dataset, bars: Bars::new(program.quiet), record })
    }

    /// How images become features.
    pub fn extraction(&self) -> Result<ExtractionOptions> {
        let TaskArguments { model, features, no_features, fast_decode, dataset, split, .. } = self.arguments;
        let loader = LoaderOptions::default()
            .with_batch_size(model.batch_size)
            .with_threads(model.loader_threads())
            .with_decode(DecodeOptions::default().with_fast(*fast_decode));
        let store = match (no_features, features) {
            (true, _) => None,
            (false, Some(folder)) => Some(FeatureStore::new(folder)),
            (false, None) => default_features().map(FeatureStore::new),
        };
        let label = format!("{}-{}", self.record.model, self.record.dataset);
        Ok(ExtractionOptions { loader, store, label, dataset: dataset::fingerprint(dataset, split)? })
    }

    /// Runs the task, writes the result and prints it.
    pub fn evaluate(self, task: &dyn Task) -> Result<(Evaluation, Outcome)> {
        let start = Instant::now();
        let evaluation = task.run(self.dataset.as_ref(), &self.clip, &self.bars)?;
        let seconds = start.elapsed().as_secs_f64();
        let outcome = self.finish(task.name(), &evaluation, seconds)?;
        Ok((evaluation, outcome))
    }

    fn finish(mut self, task: &str, evaluation: &Evaluation, seconds: f64) -> Result<Outcome> {
        task.clone_into(&mut self.record.task);
        let mut record = self.record.with(evaluation);
        let counts = &evaluation.counts;
        if let Some(details) = &mut record.openclip
            && counts.computed >= counts.total
        {
            details.images_per_second = Some(counts.computed as f64 / seconds);
        }
        let path = self.arguments.output.clone().unwrap_or_else(|| PathBuf::from(record.file_name()));
        record.write(&path)?;
        let text = match self.arguments.json {
            true => format!("{}\n", record.to_json()),
            false => summary(evaluation),
        };
        stdout().write_all(text.as_bytes()).context("stdout")?;
        match counts.evaluated == counts.total {
            true => Ok(Outcome::Done),
            false => {
                eprintln!(
                    "error: {} of {} samples can't be read: the figures are of the other {}",
                    counts.total - counts.evaluated,
                    counts.total,
                    counts.evaluated
                );
                Ok(Outcome::SomeFailed)
            }
        }
    }
}

/// The figures for people.
fn summary(evaluation: &Evaluation) -> String {
    let rows: Vec<Vec<String>> = evaluation
        .figures
        .iter()
        .map(|(name, value)| {
            vec![name.clone(), if value.is_nan() { "-".to_owned() } else { format!("{value:.4}") }]
        })
        .collect();
    let counts = &evaluation.counts;
    format!("{}{} of {} samples\n", table(&["metric", "value"], &rows), counts.evaluated, counts.total)
}

/// The folder of features in the user's cache folder.
fn default_features() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || folder("HOME").or_else(|| folder("USERPROFILE"));
    let cache = folder("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))?;
    Some(cache.join("openclip").join("features"))
}
