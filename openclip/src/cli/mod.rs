//! The `openclip` command: classify, embed, caption and compare images and texts with OpenCLIP models.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 some inputs failed
//! and the rest are done.
//!
//! A program with architectures of its own is the same command with another registry and other families.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod commands;
mod eval;
mod images;
mod outcome;
mod output;
mod progress;
mod table;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use arguments::{Arguments, Command};
use openclip_core::panics::report_only_uncaught;
use openclip_zoo::{Registry, build::Families};
use outcome::Outcome;

use crate::{Clip, ClipBuilder};

/// What commands know beside their arguments.
struct Program {
    /// Whether only errors are printed.
    quiet: bool,
    registry: Registry,
    families: Families,
}

impl Program {
    /// A builder of a model.
    fn clip(&self, model: &str) -> ClipBuilder {
        Clip::builder(model).registry(self.registry.clone()).families(self.families.clone())
    }
}

/// Runs the command on this process's arguments, with the models of `registry` and the towers of `families`.
pub fn run(registry: Registry, families: Families) -> ExitCode {
    report_only_uncaught();
    let arguments = Arguments::parse();
    log_to_stderr(arguments.quiet);
    let program = Program { quiet: arguments.quiet, registry, families };
    let outcome = match arguments.command {
        Command::Models(models) => commands::models::run(&models, &program),
        Command::Pull(pull) => commands::pull::run(&pull, &program),
        Command::Classify(classify) => commands::classify::run(&classify, &program),
        Command::Caption(caption) => commands::caption::run(&caption, &program),
        Command::Embed(embed) => commands::embed::run(&embed, &program),
        Command::Inspect(inspect) => commands::inspect::run(&inspect, &program),
        Command::Eval(eval) => eval::run(&eval, &program),
        Command::Export(export) => commands::export::run(&export, &program),
        Command::Quantize(quantize) => commands::quantize::run(&quantize, &program),
        Command::Demo(demo) => commands::demo::run(&demo),
    };
    outcome.unwrap_or_else(Outcome::of_error).exit_code()
}

fn log_to_stderr(quiet: bool) {
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .without_time()
        .with_target(false)
        .init();
}
