//! `openclip eval linear-probe`.

use anyhow::Result;

use super::{arguments::LinearProbe, run::Run};
use crate::{
    cli::{Program, outcome::Outcome},
    eval::{
        dataset::Wanted,
        metric::linear_probe::TrainOptions,
        task::{self, Validation},
    },
};

pub fn run(arguments: &LinearProbe, program: &Program) -> Result<Outcome> {
    let run = Run::open(&arguments.task, program, Wanted::Classes)?;
    let split = |name: &str| run.split(name, Wanted::Classes, program);
    let validation = match (&arguments.val_split, arguments.val_proportion) {
        (Some(name), _) => {
            let (dataset, extraction) = split(name)?;
            Validation::Split(dataset, extraction)
        }
        (None, Some(share)) => Validation::Share(share),
        (None, None) => Validation::None,
    };
    let task = task::LinearProbe {
        training: split(&arguments.train_split)?,
        validation,
        shots: arguments.fewshot_k,
        options: TrainOptions {
            learning_rate: arguments.fewshot_lr,
            epochs: arguments.fewshot_epochs,
            batch_size: arguments.probe_batch_size,
            seed: arguments.seed,
        },
        extraction: run.extraction()?,
    };
    Ok(run.evaluate(&task)?.1)
}
