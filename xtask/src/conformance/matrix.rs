//! The matrix: a row per tower, a column per backend and precision, and a reason for every hole.

use openclip_core::Precision;
use openclip_zoo::build::{BackendKind, BackendOptions};

use super::Line;

/// A backend with a precision that it computes in.
#[derive(Clone, Debug)]
pub struct Column {
    /// What towers run on.
    pub options: BackendOptions,
}

/// A backend with a precision that it doesn't compute in, and why.
#[derive(Clone, Debug)]
pub struct Hole {
    /// Backend and precision.
    pub name: String,
    /// Why there is no column for it.
    pub reason: String,
}

impl Column {
    /// Backend and precision.
    pub fn name(&self) -> String {
        format!("{} {}", self.options.kind, self.options.precision)
    }

    /// Width of the printed column.
    fn width(&self) -> usize {
        self.name().len().max("DIFFERENT".len())
    }
}

/// All backends in all precisions that `wanted` selects: those that run, and those that don't.
pub fn columns(wanted: impl Fn(&str, Precision) -> bool) -> (Vec<Column>, Vec<Hole>) {
    let (mut columns, mut holes) = (Vec::new(), Vec::new());
    for name in BackendKind::NAMES {
        for precision in Precision::ALL.into_iter().filter(|&precision| wanted(name, precision)) {
            let mut hole = |reason: String| holes.push(Hole { name: format!("{name} {precision}"), reason });
            let Ok(kind) = name.parse::<BackendKind>() else {
                hole("not compiled in: `cargo xtask native` fetches what it needs".to_owned());
                continue;
            };
            let options = BackendOptions { kind, precision, ..BackendOptions::default() };
            match options.check() {
                Ok(()) => columns.push(Column { options }),
                Err(error) => hole(error.to_string()),
            }
        }
    }
    (columns, holes)
}

/// The matrix's first lines.
pub fn head(columns: &[Column], width: usize) -> String {
    let names = columns.iter().map(|column| format!("  {:>1$}", column.name(), column.width()));
    format!("{:width$}  tower  {}", "architecture", names.collect::<String>())
}

/// A tower's row: how far embeddings are from the reference's, as the largest difference of a component in `f32` and as
/// 1 - cosine in other precisions. What went wrong follows in lines of its own.
pub fn row(case: &str, tower: &str, lines: &[Line], columns: &[Column], width: usize) -> String {
    let mut text = format!("{case:width$}  {tower:7}");
    let mut details = String::new();
    for (line, column) in lines.iter().zip(columns) {
        let cell = match &line.outcome {
            Ok(outcome) if !line.passes() => {
                let place = outcome.first_difference.as_deref().unwrap_or("unknown");
                details += &format!(
                    "\n    {}: largest difference {:.1e}, 1 - cosine {:.1e}; first: {place}",
                    column.name(),
                    outcome.difference,
                    1.0 - outcome.cosine
                );
                "DIFFERENT".to_owned()
            }
            Ok(outcome) if column.options.precision == Precision::F32 => {
                format!("{:.1e}", outcome.difference)
            }
            Ok(outcome) => format!("{:.1e}", 1.0 - outcome.cosine),
            Err(error) => {
                details += &format!("\n    {}: {error}", column.name());
                if line.is_skipped() { "-" } else { "FAILED" }.to_owned()
            }
        };
        text += &format!("  {cell:>0$}", column.width());
    }
    text + &details
}
