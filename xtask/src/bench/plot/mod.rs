//! Measurements as pictures: time against batch size, and against model size.

mod chart;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use chart::{Chart, Line};

use super::{case::Case, comparisons::Entrant, measure::Measured, statistics::Summary};

/// Writes a picture for each case and model that has several batch sizes, and one for each case and batch size that has
/// several models, into `folder`. Returns their files.
///
/// # Errors
/// When a file can't be written.
pub fn write(folder: &Path, measured: &[Measured]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let write = |(name, chart): (String, Chart)| {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, chart.svg()).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    against_batch(measured).into_iter().chain(against_model(measured)).map(write).collect()
}

fn input(case: Case) -> &'static str {
    if case == Case::Image { "image" } else { "text" }
}

fn kind(case: Case) -> &'static str {
    match case {
        Case::Image => "images",
        Case::TextCaptions => "captions",
        _ => "texts that fill the context",
    }
}

/// Measurements of towers, by these keys.
fn groups<K: Ord>(measured: &[Measured], key: impl Fn(&Measured) -> K) -> BTreeMap<K, Vec<&Measured>> {
    let mut groups: BTreeMap<K, Vec<&Measured>> = BTreeMap::new();
    for measured in measured.iter().filter(|measured| measured.case.fixed_size().is_none()) {
        groups.entry(key(measured)).or_default().push(measured);
    }
    groups
}

fn against_batch(measured: &[Measured]) -> Vec<(String, Chart)> {
    let groups = groups(measured, |measured| (measured.model.clone(), measured.case.name()));
    let charts = groups.into_values().filter_map(|group| {
        let first = group.first()?;
        let chart = Chart {
            title: format!("{}, {}: time of a call", first.model, kind(first.case)),
            x: "batch size".to_owned(),
            y: "time of a call, ms".to_owned(),
            ticks: group.iter().map(|measured| (measured.size as f64, measured.size.to_string())).collect(),
            lines: lines(&group, |measured| Some(measured.size as f64)),
        };
        Some((format!("{}-{}-batch", first.case, first.model), chart))
    });
    charts.filter(|(_, chart)| !chart.lines.is_empty()).collect()
}

fn against_model(measured: &[Measured]) -> Vec<(String, Chart)> {
    let groups = groups(measured, |measured| (measured.case.name(), measured.size));
    let size = |measured: &Measured| measured.operations.map(|operations| operations / 1e9);
    let charts = groups.into_values().filter_map(|group| {
        let first = group.first()?;
        let ticks = group.iter().filter_map(|measured| {
            let size = size(measured)?;
            Some((size, format!("{}: {size:.1}", measured.model)))
        });
        let chart = Chart {
            title: format!("{} in batches of {}: time of a call", kind(first.case), first.size),
            x: format!("model size, GFLOP for one {}", input(first.case)),
            y: "time of a call, ms".to_owned(),
            ticks: ticks.collect(),
            lines: lines(&group, size),
        };
        Some((format!("{}-batch-{}-models", first.case, first.size), chart))
    });
    charts.filter(|(_, chart)| !chart.lines.is_empty()).collect()
}

/// A line for each competitor that was measured at several places.
fn lines(group: &[&Measured], x: impl Fn(&Measured) -> Option<f64>) -> Vec<Line> {
    let mut entrants: Vec<Entrant> = Vec::new();
    for (entrant, _) in group.iter().flat_map(|measured| &measured.times) {
        if !entrants.contains(entrant) {
            entrants.push(*entrant);
        }
    }
    let line = |entrant: Entrant| {
        let points = group.iter().filter_map(|measured| {
            let (_, seconds) = measured.times.iter().find(|(found, _)| *found == entrant)?;
            Some((x(measured)?, Summary::of(seconds)?.median * 1e3))
        });
        let mut points: Vec<(f64, f64)> = points.collect();
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let several = points.first().zip(points.last()).is_some_and(|((first, _), (last, _))| first < last);
        several.then(|| Line { name: entrant.to_string(), points, dashed: !entrant.is_ours() })
    };
    entrants.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use openclip_core::Precision;

    use super::*;

    fn measured(model: &str, case: Case, size: usize, operations: f64) -> Measured {
        let times = vec![
            (Entrant::Ours("candle", Precision::F32), vec![0.1]),
            (Entrant::Pillow, vec![0.2 * size as f64]),
        ];
        Measured { model: model.into(), case, size, operations: Some(operations), times }
    }

    #[test]
    fn there_is_a_picture_for_each_thing_that_varies() {
        let all = [
            measured("small", Case::Image, 1, 1e9),
            measured("small", Case::Image, 8, 1e9),
            measured("large", Case::Image, 8, 9e9),
            measured("small", Case::TextFull, 8, 1e9),
            measured("small", Case::Jpeg, 128, 1e9),
        ];
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), &all).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["image-small-batch.svg", "image-batch-8-models.svg"]);
        let text = fs::read_to_string(&files[1]).unwrap();
        for part in ["small: 1.0", "large: 9.0", "GFLOP for one image", "openclip candle f32", "Pillow"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
