//! Measurements as tables.

use super::{
    comparisons::{Comparison, Entrant},
    machine::Machine,
    measure::Times,
    statistics::{Summary, speedups},
    table::render,
};

/// Who takes how long for a call, and gets through how many inputs a second.
pub fn speeds(times: &Times, batch: usize) -> String {
    let rows: Vec<Vec<String>> = times
        .iter()
        .filter_map(|(entrant, seconds)| {
            let Summary { lower, median, upper } = Summary::of(seconds)?;
            let spread = format!("{:.1}-{:.1}", lower * 1e3, upper * 1e3);
            let items = format!("{:.1}", batch as f64 / median);
            Some(vec![entrant.to_string(), format!("{:.1}", median * 1e3), spread, items])
        })
        .collect();
    render(&["competitor", "ms/call", "quartiles", "items/s"], &[], &rows)
}

/// Who is how many times as fast as whom.
pub fn ratios(comparisons: &[Comparison], times: &Times, machine: &Machine) -> String {
    let seconds =
        |entrant: Entrant| times.iter().find(|(found, _)| *found == entrant).map(|(_, seconds)| seconds);
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .filter_map(|comparison| {
            let ratios = speedups(seconds(comparison.subject)?, seconds(comparison.peer)?);
            let Summary { lower, median, upper } = Summary::of(&ratios)?;
            let aim = match comparison.bar {
                Some(_) if comparison.needs_bf16() && !machine.has_bf16() => {
                    "no bf16 instructions here".to_owned()
                }
                // Half of the rounds lie between the quartiles: an aim among them is neither kept nor missed.
                Some(bar) if upper < bar => format!(">= {bar}, missed"),
                Some(bar) if lower < bar => format!(">= {bar}, about"),
                Some(bar) => format!(">= {bar}, kept"),
                None => String::new(),
            };
            Some(vec![
                comparison.name.clone(),
                format!("{median:.2}"),
                format!("{lower:.2}-{upper:.2}"),
                aim,
                format!("{} / {}", comparison.subject, comparison.peer),
            ])
        })
        .collect();
    render(&["comparison", "ratio", "quartiles", "aim", "speed of"], &[3, 4], &rows)
}

/// How the time of a call grows with the batch: in milliseconds, and as a multiple of the first batch's, which is the
/// median over the rounds.
pub fn growth(batches: &[usize], times: &[Times]) -> String {
    let Some(first) = times.first() else { return String::new() };
    let heading: Vec<String> = batches.iter().map(|batch| format!("batch {batch}: ms/call")).collect();
    let heading: Vec<&str> = ["competitor"]
        .into_iter()
        .chain(heading.iter().flat_map(|title| [title.as_str(), "growth"]))
        .collect();
    let rows: Vec<Vec<String>> = first
        .iter()
        .map(|(entrant, base)| {
            let cells = times.iter().filter_map(|times| {
                let (_, seconds) = times.iter().find(|(found, _)| found == entrant)?;
                let growth = Summary::of(&speedups(base, seconds))?.median;
                Some([format!("{:.1}", Summary::of(seconds)?.median * 1e3), format!("x{growth:.2}")])
            });
            [entrant.to_string()].into_iter().chain(cells.flatten()).collect()
        })
        .collect();
    render(&heading, &[], &rows)
}

#[cfg(test)]
mod tests {
    use openclip_core::Precision;

    use super::*;

    const OURS: Entrant = Entrant::Ours("candle", Precision::F32);

    fn times(ours: f64) -> Times {
        vec![(Entrant::PyTorch, vec![3.0, 3.0, 3.5]), (OURS, vec![ours; 3])]
    }

    #[test]
    fn ratios_are_beside_their_aim() {
        let comparison =
            |name: &str, peer| Comparison { name: name.into(), subject: OURS, peer, bar: Some(1.5) };
        let list = [comparison("a", Entrant::PyTorch), comparison("b", Entrant::TorchExport)];
        for (ours, expected) in [
            (2.0, "a 1.50 1.50-1.62 >= 1.5, kept"),
            (2.125, "a 1.41 1.41-1.53 >= 1.5, about"),
            (2.5, "a 1.20 1.20-1.30 >= 1.5, missed"),
        ] {
            let table = ratios(&list, &times(ours), &Machine::look());
            let lines: Vec<&str> = table.lines().collect();
            assert_eq!(lines.len(), 2, "who didn't take part isn't compared:\n{table}");
            let found = lines[1].split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(found, format!("{expected} openclip candle f32 / PyTorch open_clip f32"));
        }
    }

    #[test]
    fn bf16_is_not_judged_without_its_instructions() {
        let bf16 = Entrant::Ours("tch", Precision::Bf16);
        let list = [Comparison { name: "a".into(), subject: bf16, peer: OURS, bar: Some(3.0) }];
        let times = vec![(bf16, vec![1.0]), (OURS, vec![1.0])];
        let machine = Machine::look();
        let table = ratios(&list, &times, &machine);
        assert_eq!(table.contains("no bf16 instructions here"), !machine.has_bf16(), "{table}");
        assert_eq!(table.contains("missed"), machine.has_bf16(), "{table}");
    }

    #[test]
    fn growth_is_a_multiple_of_the_smallest_batch() {
        let table = growth(&[1, 8], &[times(0.1), times(0.4)]);
        let words: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words, ["openclip", "candle", "f32", "100.0", "x1.00", "400.0", "x4.00"]);
    }
}
