//! `openclip classify`: which labels fit images best.

use crate::ZeroShotClassifier;
use anyhow::Result;

use super::ranking::Ranking;
use crate::cli::{Program, arguments::Classify, images, outcome::Outcome};

pub fn run(arguments: &Classify, program: &Program) -> Result<Outcome> {
    let (labels, templates) = (arguments.labels()?, arguments.prompt_templates()?);
    let inputs = images::collect(&arguments.images.images)?;
    let clip = arguments.model.builder(program)?.build()?;
    let classifier = ZeroShotClassifier::new(&clip, &labels, &templates)?;

    let failed =
        images::embed(&clip, &inputs, &arguments.images, &arguments.model, program, |input, result| {
            let Ok(raw) = result else { return Ok(()) };
            let scores = classifier.scores(&crate::Embedding::normalized(raw));
            let name = input.path.to_string_lossy();
            let ranking = Ranking::new(&name, &labels, &scores, arguments.top_k);
            if arguments.json { ranking.print_json() } else { ranking.print_table() }
        })?;
    Ok(Outcome::of_inputs(failed, inputs.len()))
}
