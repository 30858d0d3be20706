//! The `openclip` command: classify, embed, caption and compare images and texts with OpenCLIP models.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 some inputs failed
//! and the rest are done.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod commands;
mod images;
mod outcome;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use arguments::{Arguments, Command};
use outcome::Outcome;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.quiet);
    let quiet = arguments.quiet;
    let outcome = match arguments.command {
        Command::Models(models) => commands::models::run(&models),
        Command::Pull(pull) => commands::pull::run(&pull, quiet),
        Command::Classify(classify) => commands::classify::run(&classify, quiet),
        Command::Caption(caption) => commands::caption::run(&caption, quiet),
        Command::Embed(embed) => commands::embed::run(&embed, quiet),
        Command::Export(export) => commands::export::run(&export, quiet),
        Command::Quantize(quantize) => commands::quantize::run(&quantize, quiet),
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
