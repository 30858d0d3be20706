//! The `openclip` command with the families and the registry that come with it.

use std::process::ExitCode;

use openclip::zoo::{Registry, build::Families};

fn main() -> ExitCode {
    openclip::cli::run(Registry::bundled(), Families::default())
}
