//! The tasks of `openclip eval`.

use std::io::{Write, stdout};

use anyhow::{Context, Result};

use super::{
    arguments::{Retrieval, Selection, ZeroShot},
    classes,
    run::Run,
};
use crate::{
    cli::{Program, outcome::Outcome, outcome::UsageError, table::table},
    core::files::write_atomically,
    eval::{dataset::Wanted, metric::Confusion, task},
    prompts,
};

pub fn zero_shot(arguments: &ZeroShot, program: &Program) -> Result<Outcome> {
    let run = Run::open(&arguments.task, program, Wanted::Classes)?;
    let batch_size = arguments.task.model.batch_size;
    let (classifier, names) =
        classes::classifier(&arguments.classes, run.dataset.info(), &run.clip, batch_size, &run.bars)?;
    let names = names.unwrap_or_else(|| (0..classifier.classes()).map(|class| class.to_string()).collect());
    let task = task::ZeroShot { classifier, extraction: run.extraction()? };
    let (evaluation, outcome) = run.evaluate(&task)?;
    let Some(confusion) = &evaluation.confusion else { return Ok(outcome) };
    if arguments.per_class {
        stdout().write_all(per_class(confusion, &names).as_bytes()).context("stdout")?;
    }
    if let Some(path) = &arguments.confusion {
        write_atomically(path, |file| {
            let io = |error| crate::core::Error::io(path, error);
            file.write_all(confusion_csv(confusion, &names).as_bytes()).map_err(io)
        })?;
    }
    Ok(outcome)
}

/// How each class fared.
fn per_class(confusion: &Confusion, names: &[String]) -> String {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"));
    let rows = confusion.per_class().into_iter().zip(names).map(|(class, name)| {
        vec![name.clone(), class.support.to_string(), share(class.recall), share(class.precision)]
    });
    format!("\n{}", table(&["class", "images", "recall", "precision"], &rows.collect::<Vec<_>>()))
}

/// A row and a column for each class.
fn confusion_csv(confusion: &Confusion, names: &[String]) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let header: Vec<String> = names.iter().map(quoted).collect();
    let mut text = format!("class,{}\n", header.join(","));
    for (name, row) in header.iter().zip(confusion.rows()) {
        let counts: Vec<String> = row.iter().map(u32::to_string).collect();
        text.push_str(&format!("{name},{}\n", counts.join(",")));
    }
    text
}

pub fn retrieval(arguments: &Retrieval, program: &Program) -> Result<Outcome> {
    let template = arguments.template.clone();
    if let Some(template) = template.as_ref().filter(|template| !prompts::has_place(template)) {
        return Err(UsageError(format!("--template: `{template}` has no {{}} where the caption goes")).into());
    }
    let run = Run::open(&arguments.task, program, Wanted::Captions)?;
    let task =
        task::Retrieval { recall_k: arguments.recall_k.clone(), template, extraction: run.extraction()? };
    Ok(run.evaluate(&task)?.1)
}

pub fn selection(arguments: &Selection, program: &Program) -> Result<Outcome> {
    let run = Run::open(&arguments.task, program, Wanted::Choices)?;
    let task = task::Selection { extraction: run.extraction()? };
    Ok(run.evaluate(&task)?.1)
}
