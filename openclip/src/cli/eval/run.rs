//! What all tasks have in common: the model, the dataset, and what becomes of the result.

use std::{
    env,
    io::{Write, stdout},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result};

use super::{arguments::TaskArguments, observer::Bars};
use crate::{
    BackendKind, Clip, Precision,
    cli::{Program, arguments::ModelArguments, outcome::Outcome, progress, table::table},
    eval::{
        Details, Model, Record,
        dataset::{self, Dataset, DatasetName, Wanted},
        features::{ExtractionOptions, FeatureStore},
        task::{Evaluation, Task},
    },
    vision::preprocess::{DecodeOptions, LoaderOptions},
    zoo::hub::{Hub, HubConfig},
};

/// A model and a dataset, ready to be evaluated.
pub struct Run<'a> {
    arguments: &'a TaskArguments,
    /// The dataset on this machine.
    local: DatasetName,
    pub clip: Clip,
    pub dataset: Box<dyn Dataset>,
    pub bars: Bars,
    record: Record,
}

impl<'a> Run<'a> {
    /// Opens the dataset, then the model: what is wrong with a dataset shows before anything is downloaded.
    pub fn open(arguments: &'a TaskArguments, program: &Program, wanted: Wanted) -> Result<Self> {
        let ModelArguments { backend, precision, .. } = arguments.model;
        Self::open_on(arguments, program, wanted, backend, precision)
    }

    /// The same on another backend, in another precision.
    pub fn open_on(
        arguments: &'a TaskArguments,
        program: &Program,
        wanted: Wanted,
        backend: BackendKind,
        precision: Precision,
    ) -> Result<Self> {
        let local = local(&arguments.dataset, &arguments.split, program)?;
        let dataset = dataset::open(&local, &arguments.split, wanted)?;
        let choice = &arguments.model.choice;
        let clip = arguments.model.builder(program)?.backend(backend).precision(precision).lazy().build()?;
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
                backend: backend.to_string(),
                precision: precision.to_string(),
                split: arguments.split.clone(),
                ..Details::default()
            }),
        };
        Ok(Self { arguments, local, clip, dataset, bars: Bars::new(program.quiet), record })
    }

    /// How images of the dataset's split become features.
    pub fn extraction(&self) -> Result<ExtractionOptions> {
        self.extraction_of(&self.local, &self.arguments.split)
    }

    fn extraction_of(&self, local: &DatasetName, split: &str) -> Result<ExtractionOptions> {
        let TaskArguments { model, features, no_features, fast_decode, .. } = self.arguments;
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
        Ok(ExtractionOptions { loader, store, label, dataset: dataset::fingerprint(local, split)? })
    }

    /// Another split of the dataset.
    pub fn split(
        &self,
        split: &str,
        wanted: Wanted,
        program: &Program,
    ) -> Result<(Box<dyn Dataset>, ExtractionOptions)> {
        let local = local(&self.arguments.dataset, split, program)?;
        Ok((dataset::open(&local, split, wanted)?, self.extraction_of(&local, split)?))
    }

    /// Runs the task, writes the result and prints it.
    pub fn evaluate(self, task: &dyn Task) -> Result<(Evaluation, Outcome)> {
        let start = Instant::now();
        let evaluation = task.run(self.dataset.as_ref(), &self.clip, &self.bars)?;
        let outcome = self.finish(task.name(), &evaluation, start)?;
        Ok((evaluation, outcome))
    }

    /// The same with what `model` makes of the model.
    pub fn evaluate_with(
        self,
        task: &dyn Task,
        model: impl FnOnce(&Clip) -> Box<dyn Model + '_>,
    ) -> Result<(Evaluation, Outcome)> {
        let start = Instant::now();
        let evaluation = task.run(self.dataset.as_ref(), model(&self.clip).as_ref(), &self.bars)?;
        let outcome = self.finish(task.name(), &evaluation, start)?;
        Ok((evaluation, outcome))
    }

    /// Runs the task, and says how many images a second were computed, where all of them were.
    pub fn measure(self, task: &dyn Task) -> Result<(Evaluation, Option<f64>)> {
        let start = Instant::now();
        let evaluation = task.run(self.dataset.as_ref(), &self.clip, &self.bars)?;
        let speed = speed(&evaluation, start);
        Ok((evaluation, speed))
    }

    fn finish(mut self, task: &str, evaluation: &Evaluation, start: Instant) -> Result<Outcome> {
        task.clone_into(&mut self.record.task);
        let mut record = self.record.with(evaluation);
        let counts = &evaluation.counts;
        if let Some(details) = &mut record.openclip {
            details.images_per_second = speed(evaluation, start);
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

/// The dataset on this machine, fetched if it is the hub's.
fn local(name: &DatasetName, split: &str, program: &Program) -> Result<DatasetName> {
    let hub = Hub::new(HubConfig::from_env()).with_progress(progress::download(program.quiet));
    Ok(name.fetched(split, &hub)?)
}

/// Images a second since `start`, where all of them were computed.
fn speed(evaluation: &Evaluation, start: Instant) -> Option<f64> {
    let counts = &evaluation.counts;
    let all = counts.computed > 0 && counts.computed >= counts.total;
    all.then(|| counts.computed as f64 / start.elapsed().as_secs_f64())
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
