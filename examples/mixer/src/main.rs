//! The `openclip` command with one architecture more.

use std::process::ExitCode;

fn main() -> ExitCode {
    match mixer::registry() {
        Ok(registry) => openclip::cli::run(registry, mixer::families()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
