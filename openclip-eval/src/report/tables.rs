//! Results as CSV, with CLIP_benchmark's columns and some more, and as Markdown.

use std::fmt::Write;

use super::{Row, distinct, tasks};
use crate::error::{Error, Result};

/// A row for each result, a column for each figure of any.
///
/// # Errors
/// [`Error::Undefined`] when the table can't be written.
pub fn csv(rows: &[Row]) -> Result<String> {
    let figures = distinct(rows.iter().flat_map(|row| row.record.metrics.keys().cloned()));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fault = |error: csv::Error| Error::Undefined(format!("results as CSV: {error}"));
    let first = ["dataset", "model", "pretrained", "model_fullname", "task", "language"];
    let last = ["backend", "precision", "samples", "evaluated", "images_per_second", "gflops", "mparams"];
    let header = first.into_iter().chain(figures.iter().map(String::as_str)).chain(last);
    writer.write_record(header).map_err(fault)?;
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for Row { record, facts } in rows {
        let details = record.openclip.as_ref();
        let mut fields = vec![
            record.dataset.clone(),
            record.model.clone(),
            record.pretrained.clone(),
            format!("{} {}", record.model, record.pretrained),
            record.task.clone(),
            record.language.clone(),
        ];
        fields.extend(
            figures.iter().map(|name| number(record.metrics.get(name).and_then(serde_json::Value::as_f64))),
        );
        fields.extend([
            details.map(|details| details.backend.clone()).unwrap_or_default(),
            details.map(|details| details.precision.clone()).unwrap_or_default(),
            details.map(|details| details.samples.to_string()).unwrap_or_default(),
            details.map(|details| details.evaluated.to_string()).unwrap_or_default(),
            number(details.and_then(|details| details.images_per_second)),
            number(facts.gflops),
            number(facts.mparams),
        ]);
        writer.write_record(fields).map_err(fault)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::Undefined(format!("results as CSV: {error}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A table for each task: a row for each model, a column for each dataset, and the mean.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    for task in tasks(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.record.task == task).collect();
        let figures = distinct(rows.iter().filter_map(|row| Some(row.main_figure()?.0.to_owned())));
        let datasets = distinct(rows.iter().map(|row| row.record.dataset.clone()));
        let heading =
            |names: &[String]| names.iter().map(|name| format!(" {} |", escape(name))).collect::<String>();
        // Writing to a string can't fail.
        let _ =
            write!(text, "## {task} ({})\n\n| model |{} mean |\n", figures.join(", "), heading(&datasets));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(datasets.len() + 1));
        for model in distinct(rows.iter().map(|row| row.model())) {
            let figures: Vec<Option<f64>> =
                datasets.iter().map(|dataset| figure(&rows, &model, dataset)).collect();
            let known: Vec<f64> = figures.iter().copied().flatten().collect();
            let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
            let cells: String =
                figures.into_iter().chain([mean]).map(|figure| format!(" {} |", cell(figure))).collect();
            let _ = writeln!(text, "| {} |{cells}", escape(&model));
        }
        text.push('\n');
    }
    text
}

/// A model's main figure on a dataset; the last of several.
pub(super) fn figure(rows: &[&Row], model: &str, dataset: &str) -> Option<f64> {
    let found = rows.iter().rev().find(|row| row.model() == model && row.record.dataset == dataset);
    Some(found?.main_figure()?.1)
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.4}"))
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
