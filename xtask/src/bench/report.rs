//! Measurements as tables.

use super::{
    comparisons::{Aim, Comparison, Entrant},
    machine::Machine,
    measure::{Footprint, Measured},
    record::pair,
    statistics::{Summary, speedups},
    table::render,
};

/// Who takes how long for a call, gets through how many inputs and operations a second, and needs how much memory.
pub fn figures(measured: &Measured, machine: &Machine, memory: &[(Entrant, Footprint)]) -> String {
    let Measured { case, size, operations, times, .. } = measured;
    let is_time = case.unit() != "MiB";
    let mebibytes = |bytes: Option<u64>| {
        bytes.map(|bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20))).unwrap_or_default()
    };
    let rows: Vec<Vec<String>> = times
        .iter()
        .filter_map(|(entrant, values)| {
            let Summary { lower, median, upper } = Summary::of(values)?;
            let [lower, middle, upper] = [lower, median, upper].map(|value| case.in_unit(value, *size));
            let rate = operations.map(|operations| operations * *size as f64 / median);
            let share = rate.zip(machine.peak()).map(|(rate, peak)| 100.0 * rate / peak);
            let footprint =
                memory.iter().find(|(found, _)| found == entrant).map(|&(_, footprint)| footprint);
            let Footprint { peak, weights } = footprint.unwrap_or_default();
            Some(vec![
                entrant.to_string(),
                significant(middle),
                if values.len() > 1 {
                    format!("{}-{}", significant(lower), significant(upper))
                } else {
                    String::new()
                },
                if is_time { significant(*size as f64 / median) } else { String::new() },
                rate.map(|rate| format!("{:.0}", rate / 1e9)).unwrap_or_default(),
                share.map(|share| format!("{share:.0}%")).unwrap_or_default(),
                if is_time { mebibytes(peak) } else { String::new() },
                mebibytes(weights),
            ])
        })
        .collect();
    let heading = [
        "competitor",
        case.unit(),
        "quartiles",
        "items/s",
        "GFLOP/s",
        "of peak",
        "memory, MiB",
        "weights, MiB",
    ];
    filled(&heading, &[], rows)
}

/// Who is how many times as fast as whom.
pub fn ratios(comparisons: &[&Comparison], measured: &Measured, machine: &Machine) -> String {
    let Measured { case, size, times, .. } = measured;
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .filter_map(|comparison| {
            let (subject, peer) = pair(comparison, times)?;
            let Summary { lower, median, upper } = Summary::of(&speedups(subject, peer))?;
            // Half of the rounds lie between the quartiles: an aim among them is neither kept nor missed.
            let verdict = |worst: bool, best: bool| match (worst, best) {
                (true, _) => "kept",
                (_, false) => "missed",
                _ => "about",
            };
            let aim = match comparison.aim_at(*size) {
                Some(_) if comparison.needs_bf16() && !machine.has_bf16() => {
                    "no bf16 instructions here".to_owned()
                }
                Some(Aim::Ratio(bar)) => {
                    format!("{}, {}", Aim::Ratio(bar), verdict(lower >= bar, upper >= bar))
                }
                Some(Aim::AtMost(bar)) => {
                    let Summary { lower: best, upper: worst, .. } = Summary::of(subject)?;
                    let [best, worst] = [best, worst].map(|value| case.in_unit(value, *size));
                    format!("{}, {}", Aim::AtMost(bar), verdict(worst <= bar, best <= bar))
                }
                None => String::new(),
            };
            Some(vec![
                comparison.full_name(),
                format!("{median:.2}"),
                if subject.len() > 1 { format!("{lower:.2}-{upper:.2}") } else { String::new() },
                aim,
                format!("{} / {}", comparison.subject, comparison.peer),
            ])
        })
        .collect();
    filled(&["comparison", "ratio", "quartiles", "aim", "of"], &[3, 4], rows)
}

/// How the time of a call grows with its size: in milliseconds, and as a multiple of the smallest, which is the median over
/// the rounds. Of those who took part in all sizes.
pub fn growth(measured: &[Measured]) -> String {
    let Some(first) = measured.first() else { return String::new() };
    let heading: Vec<String> =
        measured.iter().map(|measured| format!("batch {}: ms", measured.size)).collect();
    let heading: Vec<&str> = ["competitor"]
        .into_iter()
        .chain(heading.iter().flat_map(|title| [title.as_str(), "growth"]))
        .collect();
    let row = |(entrant, base): &(Entrant, Vec<f64>)| {
        let cells = measured.iter().map(|measured| {
            let (_, seconds) = measured.times.iter().find(|(found, _)| found == entrant)?;
            let growth = Summary::of(&speedups(base, seconds))?.median;
            Some([significant(Summary::of(seconds)?.median * 1e3), format!("x{growth:.2}")])
        });
        let cells: Vec<[String; 2]> = cells.collect::<Option<_>>()?;
        Some([entrant.to_string()].into_iter().chain(cells.into_iter().flatten()).collect())
    };
    let rows: Vec<Vec<String>> = first.times.iter().filter_map(row).collect();
    render(&heading, &[], &rows)
}

/// A number with about three digits that say something.
fn significant(value: f64) -> String {
    let decimals = match value {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A table without the columns that nothing is known of. The first and those in `left` are text.
fn filled(heading: &[&str], left: &[usize], rows: Vec<Vec<String>>) -> String {
    let kept: Vec<usize> = (0..heading.len())
        .filter(|&column| rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty())))
        .collect();
    let pick = |row: &[String]| kept.iter().filter_map(|&column| row.get(column).cloned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| pick(row)).collect();
    let heading: Vec<&str> = kept.iter().filter_map(|&column| heading.get(column).copied()).collect();
    let left: Vec<usize> =
        left.iter().filter_map(|column| kept.iter().position(|found| found == column)).collect();
    render(&heading, &left, &rows)
}

#[cfg(test)]
mod tests {
    use openclip_core::Precision;

    use super::{
        super::{
            case::Case,
            comparisons::{self, AIMED_BATCH},
            measure::Times,
        },
        *,
    };

    const OURS: Entrant = Entrant::Ours("candle", Precision::F32);
    const THEIRS: Entrant = Entrant::PyTorch(Precision::F32);

    fn measured(case: Case, size: usize, times: Times) -> Measured {
        Measured { model: "ViT".to_owned(), case, size, operations: Some(1e9), times }
    }

    fn comparison(name: &str) -> Comparison {
        comparisons::all().into_iter().find(|comparison| comparison.full_name() == name).unwrap()
    }

    fn words(table: &str, line: usize) -> String {
        table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn figures_say_what_is_known() {
        let times = vec![(OURS, vec![0.5, 0.5]), (THEIRS, vec![1.0, 1.0])];
        let footprint = Footprint { peak: Some(3 << 20), weights: Some(1 << 20) };
        let image = measured(Case::Image, 32, times.clone());
        let table = figures(&image, &Machine::look(), &[(OURS, footprint)]);
        assert_eq!(words(&table, 0), "competitor ms quartiles items/s GFLOP/s memory, MiB weights, MiB");
        assert_eq!(words(&table, 1), "openclip candle f32 500.0 500.0-500.0 64.0 64 3 1");
        assert_eq!(words(&table, 2), "PyTorch open_clip f32 1000 1000-1000 32.0 32");
        let decode = Measured { operations: None, ..measured(Case::Decode, 32, times) };
        let table = figures(&decode, &Machine::look(), &[]);
        assert_eq!(words(&table, 0), "competitor ms/image quartiles items/s");
    }

    #[test]
    fn ratios_are_beside_their_aim() {
        let list =
            [comparison("text-captions/candle-pytorch"), comparison("text-captions/candle-onnxruntime")];
        let list: Vec<&Comparison> = list.iter().collect();
        for (ours, expected) in [
            (1.0, "8.00 8.00-8.50 >= 8.00, kept"),
            (1.0625, "7.53 7.53-8.00 >= 8.00, about"),
            (2.0, "4.00 4.00-4.25 >= 8.00, missed"),
        ] {
            let times = vec![(THEIRS, vec![8.0, 8.0, 9.0]), (OURS, vec![ours; 3])];
            let table =
                ratios(&list, &measured(Case::TextCaptions, AIMED_BATCH, times.clone()), &Machine::look());
            assert_eq!(table.lines().count(), 2, "who didn't take part isn't compared:\n{table}");
            let end = "openclip candle f32 / PyTorch open_clip f32";
            assert_eq!(words(&table, 1), format!("text-captions/candle-pytorch {expected} {end}"));
            let table = ratios(&list, &measured(Case::TextCaptions, 8, times), &Machine::look());
            assert!(!table.contains(">="), "the aim is for another size:\n{table}");
        }
    }

    #[test]
    fn an_aim_may_be_for_the_subject_alone() {
        let start = comparison("start/candle-pytorch");
        for (ours, verdict) in [(0.4, "kept"), (0.6, "missed")] {
            let times = vec![(THEIRS, vec![6.0; 3]), (OURS, vec![ours; 3])];
            let table = ratios(&[&start], &measured(Case::Start, 1, times), &Machine::look());
            assert!(table.contains(&format!("<= 0.5 itself, {verdict}")), "{table}");
        }
    }

    #[test]
    fn bf16_is_not_judged_without_its_instructions() {
        let (machine, bf16) = (Machine::look(), Entrant::Ours("tch", Precision::Bf16));
        let f32 = Entrant::Ours("tch", Precision::F32);
        let times = vec![(bf16, vec![1.0]), (f32, vec![1.0])];
        let table =
            ratios(&[&comparison("image/tch-bf16")], &measured(Case::Image, AIMED_BATCH, times), &machine);
        assert_eq!(table.contains("no bf16 instructions here"), !machine.has_bf16(), "{table}");
        assert_eq!(table.contains("missed"), machine.has_bf16(), "{table}");
    }

    #[test]
    fn growth_is_a_multiple_of_the_smallest_batch() {
        let one = measured(Case::Image, 1, vec![(OURS, vec![0.1; 3]), (THEIRS, vec![0.1; 3])]);
        let eight = measured(Case::Image, 8, vec![(OURS, vec![0.4; 3])]);
        let table = growth(&[one, eight]);
        assert_eq!(table.lines().count(), 2, "who didn't take part in all isn't listed:\n{table}");
        assert_eq!(words(&table, 1), "openclip candle f32 100.0 x1.00 400.0 x4.00");
    }
}
