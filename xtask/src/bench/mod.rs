//! `cargo xtask bench`: our speed as a ratio to live peers, measured side by side.
//!
//! Absolute figures drift with the machine and its load; a ratio whose two sides took turns holds.

mod comparisons;
mod competitor;
mod machine;
mod measure;
mod protocol;
mod report;
mod statistics;
mod table;
pub mod worker;
mod workload;

use std::env;

use anyhow::{Result, bail, ensure};
use comparisons::{Comparison, Entrant, GROWTH, Tower, selected};
use machine::Machine;
use measure::Field;
use openclip_zoo::Registry;
use workload::Model;

use crate::{
    every_backend,
    native::{self, Native},
};

/// What to measure, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = comparisons::help())]
pub struct Options {
    /// Only comparisons whose name contains this, such as `image/`, `/tch` or `text/export`
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// The architecture
    #[arg(long, default_value = "ViT-B-32")]
    model: String,
    /// Images or texts in a call
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Threads that share the work of a call; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Turns of every competitor, after two to warm up
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

/// Batch sizes of the table of growth.
const BATCH_SIZES: [usize; 3] = [1, 8, 32];

/// Runs the command.
///
/// # Errors
/// When something can't be installed, a competitor fails, or competitors compute different things.
#[allow(clippy::print_stdout, reason = "a command-line program")]
pub fn run(options: &Options) -> Result<()> {
    let names: Vec<String> = comparisons::all().into_iter().map(|comparison| comparison.name).collect();
    let any = |tower| {
        names.iter().any(|name| is_selected(tower, name, options)) || is_selected(tower, GROWTH, options)
    };
    let towers: Vec<Tower> = Tower::ALL.into_iter().filter(|&tower| any(tower)).collect();
    if towers.is_empty() {
        bail!("no comparison matches; `cargo xtask bench --help` lists them");
    }
    Registry::bundled().architecture(&options.model)?;
    // What isn't release code says nothing about speed.
    if cfg!(debug_assertions) || !every_backend::BUILT_IN {
        let native = Native::fetch(native::Options::default())?;
        let status = every_backend::run_release(&native, env::args_os().skip(1))?;
        ensure!(status.success(), "stopped ({status}) for the reason above");
        return Ok(());
    }
    let machine = Machine::look();
    println!("{machine}");
    let model = Model::prepare(&options.model)?;
    towers.into_iter().try_for_each(|tower| measure(&model, tower, &machine, options))
}

fn is_selected(tower: Tower, name: &str, options: &Options) -> bool {
    selected(tower, name, options.filter.as_deref())
}

/// Measures what is selected of one tower and prints it.
#[allow(clippy::print_stdout, reason = "a command-line program")]
fn measure(model: &Model, tower: Tower, machine: &Machine, options: &Options) -> Result<()> {
    let (batch, rounds) = (usize::from(options.batch_size), usize::from(options.rounds));
    let threads = options.threads.map_or_else(machine::cores, usize::from);
    let comparisons: Vec<Comparison> = comparisons::all()
        .into_iter()
        .filter(|comparison| is_selected(tower, &comparison.name, options))
        .collect();
    println!("\n{} {tower}, batch {batch}, {threads} threads, {rounds} rounds\n", options.model);

    let most = BATCH_SIZES.into_iter().fold(batch, usize::max);
    let mut field = Field::new(model, tower, model.inputs(tower, most)?, threads);
    for entrant in comparisons.iter().flat_map(|comparison| [comparison.peer, comparison.subject]) {
        field.enter(entrant)?;
    }
    if !comparisons.is_empty() {
        let [times] = field.measure(|_| true, [batch], rounds)?;
        println!("{}", report::speeds(&times, batch));
        println!("{}", report::ratios(&comparisons, &times, machine));
    }
    if is_selected(tower, GROWTH, options) {
        comparisons::ours().try_for_each(|entrant| field.enter(entrant))?;
        let times = field.measure(|entrant| matches!(entrant, Entrant::Ours(..)), BATCH_SIZES, rounds)?;
        println!("{}", report::growth(&BATCH_SIZES, &times));
    }
    for (entrant, reason) in field.refused() {
        println!("not measured: {entrant}: {reason}");
    }
    Ok(())
}
