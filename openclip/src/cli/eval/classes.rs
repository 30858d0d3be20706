//! Class names and templates: by name, from a file, or the dataset's own.

use std::{path::Path, sync::Once};

use anyhow::{Context, Result};

use crate::{
    Clip,
    cli::{eval::arguments::ClassArguments, outcome::UsageError},
    eval::{
        Classifier,
        dataset::{DatasetInfo, read_lines},
        features::Observer,
    },
    prompts,
};

/// The class names.
pub fn classnames(arguments: &ClassArguments, info: &DatasetInfo) -> Result<Option<Vec<String>>> {
    match arguments.classnames.as_deref() {
        None => Ok(info.classes.clone()),
        Some("imagenet") => Ok(Some(owned(prompts::imagenet_classnames()))),
        Some(file) => Ok(Some(read_lines(Path::new(file))?)),
    }
}

/// The templates. Without any of its own a dataset gets the seven simple ones, which is said.
fn templates(arguments: &ClassArguments, info: &DatasetInfo) -> Result<Vec<String>> {
    let templates = match (arguments.templates.as_deref(), &info.templates) {
        (Some("openai"), _) => owned(prompts::openai()),
        (Some("simple"), _) => owned(prompts::simple()),
        (Some(file), _) => read_lines(Path::new(file))?,
        (None, Some(templates)) => templates.clone(),
        (None, None) => {
            // `compare` opens the dataset once for each of its runs.
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                eprintln!("warning: the dataset brings no templates, so --templates simple is used");
            });
            owned(prompts::simple())
        }
    };
    if let Some(template) = templates.iter().find(|template| !prompts::has_place(template)) {
        let message = format!("template `{template}` has no {{}} or {{c}} where the class name goes");
        return Err(UsageError(message).into());
    }
    Ok(templates)
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// The classifier, and the class names where they are known.
pub fn classifier(
    arguments: &ClassArguments,
    info: &DatasetInfo,
    clip: &Clip,
    batch_size: usize,
    observer: &dyn Observer,
) -> Result<(Classifier, Option<Vec<String>>)> {
    let names = classnames(arguments, info)?;
    if !arguments.load_classifier.is_empty() {
        let files = arguments.load_classifier.iter();
        let files = files.map(|file| Classifier::load(file)).collect::<Result<Vec<_>, _>>()?;
        let classifier = Classifier::average(&files)?;
        if let Some(names) = &names
            && names.len() != classifier.classes()
        {
            let (names, classes) = (names.len(), classifier.classes());
            anyhow::bail!("--load-classifier: it has {classes} classes, and there are {names} class names");
        }
        return Ok((classifier, names));
    }
    let templates = templates(arguments, info)?;
    let names = names.context(
        "the dataset has no class names (in the layout of CLIP_benchmark: classnames.txt): give --classnames, a file with a name a line",
    )?;
    let classifier = Classifier::build(clip, &names, &templates, batch_size, observer)?;
    if let Some(file) = &arguments.save_classifier {
        classifier.save(file)?;
    }
    Ok((classifier, Some(names)))
}
