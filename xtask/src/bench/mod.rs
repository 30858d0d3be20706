//! `cargo xtask bench`: our speed as a ratio to live peers, measured side by side.
//!
//! Absolute figures drift with the machine and its load; a ratio whose two sides took turns holds.

mod case;
mod cold_start;
mod comparisons;
mod competitor;
mod entry;
mod exports;
mod inputs;
mod machine;
mod measure;
mod npy;
mod operations;
mod output;
mod peak;
mod plot;
mod protocol;
mod record;
mod report;
mod statistics;
mod table;
pub mod worker;
mod workload;

use std::{env, path::PathBuf};

use anyhow::{Result, bail, ensure};
use case::{Case, PHOTOGRAPHS};
use comparisons::{Comparison, GROWTH, growth, has_growth, selected};
use entry::Setting;
use machine::Machine;
use measure::{Field, Measured, Plan};
use openclip_zoo::Registry;
use output::Output;
use record::Record;
use workload::Model;

use crate::{
    every_backend,
    native::{self, Native},
};

/// What to measure, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = comparisons::help())]
pub struct Options {
    /// Only comparisons whose name contains this, such as `image/`, `/tch` or `text-full/export`
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Architectures, separated by commas
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "ViT-B-32")]
    model: Vec<String>,
    /// Images or texts in a call; several are separated by commas, and the growth of time is that over all of them
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "32",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    batch_size: Vec<u16>,
    /// Threads that share the work of a call; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Turns of every competitor, after two to warm up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// On stdout an object a line for each comparison: case, model, backend, precision, batch, peer, ours, theirs, unit,
    /// ratio (more than 1: ours is better). Everything else goes to stderr
    #[arg(long)]
    json: bool,
    /// Also draw time against batch size and against model size, as SVG, into this folder (from the project's root)
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
}

/// Batch sizes of the table of growth, where only one is asked for.
const GROWTH_SIZES: [usize; 3] = [1, 8, 32];

impl Options {
    fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.batch_size.iter().copied().map(usize::from).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn growth_sizes(&self) -> Vec<usize> {
        let sizes = self.sizes();
        if sizes.len() > 1 { sizes } else { GROWTH_SIZES.to_vec() }
    }

    fn selects(&self, full_name: &str) -> bool {
        selected(full_name, self.filter.as_deref())
    }

    /// The comparisons of a case that are to be made.
    fn comparisons(&self, case: Case) -> Vec<Comparison> {
        let mut list = comparisons::all();
        list.retain(|comparison| comparison.case == case && self.selects(&comparison.full_name()));
        list
    }

    /// Whether the table of growth is to be made.
    fn growth(&self, case: Case) -> bool {
        has_growth(case) && self.selects(&format!("{case}/{GROWTH}"))
    }

    /// Who is to be measured in calls of which size.
    fn plan(&self, case: Case) -> Plan {
        let mut plan = Plan::new();
        let mut add = |size, entrant| {
            let entrants: &mut Vec<_> = plan.entry(size).or_default();
            if !entrants.contains(&entrant) {
                entrants.push(entrant);
            }
        };
        for comparison in self.comparisons(case) {
            for size in comparison.sizes(&self.sizes()) {
                add(size, comparison.peer);
                add(size, comparison.subject);
            }
        }
        if self.growth(case) {
            for size in self.growth_sizes() {
                growth().for_each(|entrant| add(size, entrant));
            }
        }
        plan
    }
}

/// Runs the command.
///
/// # Errors
/// When something can't be installed, a competitor fails, or competitors compute different things.
pub fn run(options: &Options) -> Result<()> {
    let cases: Vec<Case> = Case::ALL.into_iter().filter(|&case| !options.plan(case).is_empty()).collect();
    if cases.is_empty() {
        bail!("no comparison matches; `cargo xtask bench --help` lists them");
    }
    for name in &options.model {
        Registry::bundled().architecture(name)?;
    }
    // What isn't release code says nothing about speed.
    if cfg!(debug_assertions) || !every_backend::BUILT_IN {
        let native = Native::fetch(native::Options::default())?;
        let status = every_backend::run_release(&native, env::args_os().skip(1))?;
        ensure!(status.success(), "stopped ({status}) for the reason above");
        return Ok(());
    }
    let output = Output::new(options.json);
    if cases.contains(&Case::Start) {
        entry::build_command()?;
    }
    let threads = options.threads.map_or_else(machine::cores, usize::from);
    let machine = Machine::look().with_peak(threads);
    output.text(&machine.to_string());
    let mut measured = Vec::new();
    for (index, name) in options.model.iter().enumerate() {
        let model = Model::prepare(name)?;
        for &case in cases.iter().filter(|case| index == 0 || !case.is_without_model()) {
            if case.is_of_captions() && !model.captions() {
                output.text(&format!("\n{name} {case}: it has no decoder; --model coca_ViT-B-32 has one"));
                continue;
            }
            measured.extend(measure(&model, case, threads, &machine, options, &output)?);
        }
    }
    if let Some(folder) = &options.plot {
        for file in plot::write(folder, &measured)? {
            output.text(&format!("drawn: {}", file.display()));
        }
    }
    Ok(())
}

/// Measures what is selected of a case and says what it found.
fn measure(
    model: &Model,
    case: Case,
    threads: usize,
    machine: &Machine,
    options: &Options,
    output: &Output,
) -> Result<Vec<Measured>> {
    let (plan, rounds) = (options.plan(case), usize::from(options.rounds));
    let on = if case.is_preparation() { "one thread".to_owned() } else { format!("{threads} threads") };
    output.text(&format!(
        "\n{} {case}, {on}, {rounds} round{}",
        model.name(),
        if rounds == 1 { "" } else { "s" }
    ));

    let files = matches!(case, Case::Jpeg) || case.is_preparation();
    let most = plan.keys().copied().max().unwrap_or(1);
    let (inputs, photographs, count) = if files {
        (Vec::new(), Some(workload::photographs()?), PHOTOGRAPHS)
    } else if case == Case::Start {
        (Vec::new(), None, 1)
    } else if case == Case::Retrieval {
        (Vec::new(), None, most)
    } else {
        // Texts differ in length: there are more of them than in a batch.
        let count = if case == Case::TextCaptions { most.max(inputs::CAPTION_COUNT) } else { most };
        (model.inputs(case, count)?, None, count)
    };
    let mut field = Field::new(Setting { model, case, inputs, photographs, threads }, count);
    for &entrant in plan.values().flatten() {
        // Minutes of waiting for a figure that nobody would use; whoever asks for it gets it.
        if entrant.needs_bf16() && !machine.has_bf16() && options.filter.is_none() {
            field.leave_out(entrant, "no bf16 instructions here; it is measured with a --filter");
        } else {
            field.enter(entrant)?;
        }
    }
    let measured =
        if case == Case::Memory { field.measure_memory(&plan)? } else { field.measure(&plan, rounds)? };
    let (comparisons, memory) = (options.comparisons(case), field.memory());
    for measured in &measured {
        let list: Vec<&Comparison> = comparisons
            .iter()
            .filter(|comparison| comparison.sizes(&options.sizes()).contains(&measured.size))
            .collect();
        if list.is_empty() {
            continue;
        }
        output.text(&format!("\nbatch {}\n", case.batch(measured.size)));
        output.text(&report::figures(measured, machine, &memory));
        output.text(&report::ratios(&list, measured, machine));
        let mut records: Vec<Record> = Vec::new();
        for record in list.iter().filter_map(|comparison| Record::of(comparison, measured)) {
            // A latency is also the time of a batch of one, where that is asked for.
            if !records.contains(&record) {
                output.record(&record)?;
                records.push(record);
            }
        }
    }
    if options.growth(case) {
        let sizes = options.growth_sizes();
        let grown: Vec<Measured> =
            measured.iter().filter(|measured| sizes.contains(&measured.size)).cloned().collect();
        output.text("");
        output.text(&report::growth(&grown));
    }
    for (entrant, reason) in field.refused() {
        output.text(&format!("not measured: {entrant}: {reason}"));
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use openclip_core::Precision;

    use super::{comparisons::Entrant, *};

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Arguments::parse_from(["bench"].iter().chain(arguments)).options
    }

    #[test]
    fn a_plan_has_the_sizes_that_are_asked_for_and_those_of_its_tables() {
        let sizes = |arguments: &[&str], case| options(arguments).plan(case).into_keys().collect::<Vec<_>>();
        assert_eq!(sizes(&[], Case::Image), [1, 8, 32]);
        assert_eq!(sizes(&["--batch-size", "64"], Case::Image), [1, 8, 32, 64]);
        assert_eq!(sizes(&["--batch-size", "32,8,8", "--filter", "growth"], Case::Image), [8, 32]);
        assert_eq!(sizes(&["--filter", "latency"], Case::Image), [1]);
        assert_eq!(sizes(&["--filter", "latency"], Case::TextFull), [0; 0]);
        assert_eq!(sizes(&["--batch-size", "8,128"], Case::TextCaptions), [8, 128]);
        assert_eq!(sizes(&["--batch-size", "8"], Case::Jpeg), [PHOTOGRAPHS]);
    }

    #[test]
    fn nobody_takes_part_without_need() {
        let plan = options(&["--filter", "image/candle-onnxruntime-latency"]).plan(Case::Image);
        let f32 = Precision::F32;
        assert_eq!(plan[&1], [Entrant::OnnxRuntime(f32), Entrant::Ours("candle", f32)]);
        let plan = options(&[]).plan(Case::Image);
        assert!(plan[&32].contains(&Entrant::OpenclipExport) && !plan[&8].contains(&Entrant::OpenclipExport));
    }
}
