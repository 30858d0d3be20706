//! `openclip eval report`: results of many runs together.

use std::io::{Write, stdout};

use anyhow::{Context, Result};

use super::arguments::Report;
use crate::{
    cli::{Program, outcome::Outcome},
    eval::report::{self, ModelFacts},
    zoo::build,
};

pub fn run(arguments: &Report, program: &Program) -> Result<Outcome> {
    let facts = |model: &str| {
        let Ok(architecture) = program.registry.architecture(model) else { return ModelFacts::default() };
        let counted = || build::profile(&program.families, &architecture.config).ok();
        // Not all published profiles say what a model costs.
        let published = architecture.profile.clone();
        let profile = published.filter(|profile| profile.gflops.is_some()).or_else(counted);
        let profile = profile.or_else(|| architecture.profile.clone());
        ModelFacts {
            gflops: profile.as_ref().and_then(|profile| profile.gflops),
            mparams: profile.as_ref().map(|profile| profile.mparams),
        }
    };
    let rows = report::read(&arguments.results, facts)?;
    match &arguments.output {
        Some(folder) => {
            for file in report::write(folder, &rows)? {
                eprintln!("written: {}", file.display());
            }
        }
        None => stdout().write_all(report::markdown(&rows).as_bytes()).context("stdout")?,
    }
    Ok(Outcome::Done)
}
