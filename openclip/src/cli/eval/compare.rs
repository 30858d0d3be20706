//! `openclip eval compare`: what a backend or a precision costs, on one dataset.

use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{arguments::Compare, classes, run::Run};
use crate::{
    BackendKind, Precision,
    cli::{Program, outcome::Outcome, table::table},
    eval::{dataset::Wanted, task},
};

/// What a backend did in a precision.
#[derive(Serialize)]
struct Compared {
    backend: String,
    precision: String,
    #[serde(flatten)]
    figures: serde_json::Map<String, serde_json::Value>,
    /// Accuracy less that of the first, in points of percent.
    difference: f64,
    /// Share of images that are given the class that the first gives them.
    agreement: f64,
    images: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    images_per_second: Option<f64>,
}

pub fn run(arguments: &Compare, program: &Program) -> Result<Outcome> {
    let all = || {
        let precisions = [Precision::F32, Precision::Bf16, Precision::Int8];
        BackendKind::ALL.iter().flat_map(move |&kind| precisions.map(|precision| (kind, precision))).collect()
    };
    let runs: Vec<(BackendKind, Precision)> = match arguments.run.is_empty() {
        true => all(),
        false => arguments.run.clone(),
    };
    let mut first: Option<(f64, Vec<usize>)> = None;
    let mut compared: Vec<Compared> = Vec::new();
    let mut broken = 0;
    for (backend, precision) in runs {
        let found = match measure(arguments, program, backend, precision) {
            Ok(found) => found,
            // What a backend can't do is a line of its own, unless it was asked for.
            Err(error) if arguments.run.is_empty() && is_unsupported(&error) => {
                eprintln!("not run: {backend} {precision}: {error:#}");
                continue;
            }
            Err(error) => return Err(error.context(format!("{backend} {precision}"))),
        };
        let (evaluation, images_per_second) = found;
        let accuracy = evaluation.figures.first().map_or(f64::NAN, |(_, value)| *value);
        if evaluation.predictions.is_empty() {
            bail!("compare needs a dataset whose images have one class each");
        }
        let (base, predictions) = first.get_or_insert_with(|| (accuracy, evaluation.predictions.clone()));
        let same = predictions.iter().zip(&evaluation.predictions).filter(|(a, b)| a == b).count();
        broken = evaluation.counts.total - evaluation.counts.evaluated;
        compared.push(Compared {
            backend: backend.to_string(),
            precision: precision.to_string(),
            figures: evaluation.figures.iter().map(|(name, value)| (name.clone(), (*value).into())).collect(),
            difference: 100.0 * (accuracy - *base),
            agreement: same as f64 / predictions.len() as f64,
            images: evaluation.counts.evaluated,
            images_per_second,
        });
    }
    print(arguments, &compared)?;
    Ok(if broken > 0 { Outcome::SomeFailed } else { Outcome::Done })
}

/// Evaluates one backend in one precision.
fn measure(
    arguments: &Compare,
    program: &Program,
    backend: BackendKind,
    precision: Precision,
) -> Result<(task::Evaluation, Option<f64>)> {
    let run = Run::open_on(&arguments.task, program, Wanted::Classes, backend, precision)?;
    let batch_size = arguments.task.model.batch_size;
    let (classifier, _) =
        classes::classifier(&arguments.classes, run.dataset.info(), &run.clip, batch_size, &run.bars)?;
    let task = task::ZeroShot { classifier, extraction: run.extraction()? };
    run.measure(&task)
}

/// Whether an error says that a backend can't do a precision.
fn is_unsupported(error: &anyhow::Error) -> bool {
    let is = |error: &crate::core::Error| matches!(error, crate::core::Error::Unsupported { .. });
    error.chain().any(|cause| {
        cause.downcast_ref::<crate::core::Error>().is_some_and(is)
            || matches!(cause.downcast_ref::<crate::Error>(), Some(crate::Error::Core(error)) if is(error))
            || matches!(cause.downcast_ref::<crate::eval::Error>(), Some(crate::eval::Error::Model(error))
                if matches!(error.downcast_ref::<crate::Error>(), Some(crate::Error::Core(error)) if is(error)))
    })
}

fn print(arguments: &Compare, compared: &[Compared]) -> Result<()> {
    if let Some(path) = &arguments.task.output {
        let text = serde_json::to_string_pretty(compared)?;
        crate::core::files::write_atomically(path, |file| {
            file.write_all(text.as_bytes()).map_err(|error| crate::core::Error::io(path, error))
        })?;
    }
    let mut text = String::new();
    if arguments.task.json {
        for compared in compared {
            text.push_str(&serde_json::to_string(compared)?);
            text.push('\n');
        }
    } else {
        let rows = compared.iter().map(|compared| {
            let figure = |name: &str| match compared.figures.get(name).and_then(serde_json::Value::as_f64) {
                Some(value) => format!("{:.2}", 100.0 * value),
                None => "-".to_owned(),
            };
            vec![
                compared.backend.clone(),
                compared.precision.clone(),
                figure("acc1"),
                figure("acc5"),
                format!("{:+.2}", compared.difference),
                format!("{:.2}", 100.0 * compared.agreement),
                compared.images.to_string(),
                compared.images_per_second.map_or_else(|| "-".to_owned(), |speed| format!("{speed:.0}")),
            ]
        });
        let header =
            ["backend", "precision", "acc1 %", "acc5 %", "difference", "agreement %", "images", "images/s"];
        text = table(&header, &rows.collect::<Vec<_>>());
    }
    stdout().write_all(text.as_bytes()).context("stdout")
}
