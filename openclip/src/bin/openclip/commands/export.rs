//! `openclip export`: a model as ONNX files.

use anyhow::Result;
use openclip::zoo::build::WeightStorage;

use crate::{arguments::Export, outcome::Outcome};

pub fn run(arguments: &Export, quiet: bool) -> Result<Outcome> {
    let storage = match arguments.external_data {
        true => WeightStorage::External,
        false => WeightStorage::Automatic,
    };
    let builder = arguments.model.builder(quiet).precision(arguments.precision);
    for path in builder.export_onnx(&arguments.onnx, storage)? {
        println!("{}", path.display());
    }
    Ok(Outcome::Done)
}
