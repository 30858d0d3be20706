//! Compares the mixer with the reference outputs in `conformance/`: `cargo run --bin conformance`.

use std::path::Path;

use clap::Parser;
use xtask::conformance::{self, Options};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    conformance::run_in(&folder, &mixer::families(), &Arguments::parse().options)
}
