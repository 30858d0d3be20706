//! `openclip export`: a model as ONNX files.

use crate::zoo::build::WeightStorage;
use anyhow::Result;

use crate::cli::{Program, arguments::Export, outcome::Outcome};

pub fn run(arguments: &Export, program: &Program) -> Result<Outcome> {
    let storage = match arguments.external_data {
        true => WeightStorage::External,
        false => WeightStorage::Automatic,
    };
    let builder = arguments.model.builder(program).precision(arguments.precision);
    for path in builder.export_onnx(&arguments.onnx, storage)? {
        println!("{}", path.display());
    }
    Ok(Outcome::Done)
}
