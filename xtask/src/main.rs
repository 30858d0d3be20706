//! `cargo xtask COMMAND`: tasks of the project that aren't part of what it ships.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::{env, process::ExitCode};

use clap::{Parser, Subcommand};
use xtask::{every_backend, native};

mod ci;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the OpenCLIP in Rust project")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare every architecture's numbers with the reference's and print the matrix
    Conformance(xtask::conformance::Options),
    /// Fetch libtorch and ONNX Runtime into target/ and print the environment to use them
    Native(xtask::native::Options),
    /// Measure our speed beside PyTorch and ONNX Runtime and print the ratios
    Bench(xtask::bench::Options),
    /// A competitor that `bench` starts
    #[command(hide = true)]
    BenchWorker(xtask::bench::worker::Options),
    /// Check formatting, lints and the project's own rules
    Tidy,
    /// All that has to pass before a change lands: tidy, tests, documentation, quick conformance
    Ci,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Conformance(options) => conformance(&options),
        Command::Native(options) => xtask::native::run(options),
        Command::Bench(options) => xtask::bench::run(&options),
        Command::BenchWorker(options) => xtask::bench::worker::run(&options),
        Command::Tidy => tidy::run(),
        Command::Ci => ci::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the suite on every wanted backend whose native library has been fetched.
fn conformance(options: &xtask::conformance::Options) -> anyhow::Result<()> {
    match native::Native::installed() {
        Some(native) if !every_backend::BUILT_IN && options.needs_native() => {
            let status = every_backend::run(&native, env::args_os().skip(1))?;
            anyhow::ensure!(status.success(), "conformance on every backend failed: {status}");
            Ok(())
        }
        _ => xtask::conformance::run(options),
    }
}
