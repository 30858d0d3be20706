//! `openclip eval`: how good a model is, on a dataset.

pub mod arguments;
mod caption;
mod classes;
mod compare;
mod linear_probe;
mod observer;
mod report;
mod run;
mod tasks;

use anyhow::Result;
use arguments::{Eval, EvalCommand};

use crate::cli::{Program, outcome::Outcome};

pub fn run(arguments: &Eval, program: &Program) -> Result<Outcome> {
    match &arguments.command {
        EvalCommand::ZeroShot(zero_shot) => tasks::zero_shot(zero_shot, program),
        EvalCommand::Retrieval(retrieval) => tasks::retrieval(retrieval, program),
        EvalCommand::Selection(selection) => tasks::selection(selection, program),
        EvalCommand::Caption(arguments) => caption::run(arguments, program),
        EvalCommand::LinearProbe(probe) => linear_probe::run(probe, program),
        EvalCommand::Compare(arguments) => compare::run(arguments, program),
        EvalCommand::Report(arguments) => report::run(arguments, program),
    }
}
