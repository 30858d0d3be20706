//! Captioning: what a model writes of images, or has written, beside what people wrote.

use std::{collections::HashMap, path::Path};

use super::{Counts, Evaluation, Figures, Metric, Task};
use crate::{
    dataset::{Dataset, Target, Wanted},
    error::{Error, Result},
    features::{ExtractionOptions, Observer, read_images},
    metric::caption::{Captioned, captions},
    model::Model,
};

/// Captions are compared with those of the dataset.
#[derive(Clone, Debug, Default)]
pub struct Captioning {
    /// Captions that were written before, by the image's path or file name. Without any, the model writes them.
    pub written: Option<HashMap<String, String>>,
    /// How images are read.
    pub extraction: ExtractionOptions,
}

/// `Bleu_1` to `Bleu_4`, `ROUGE_L` and `CIDEr`.
#[derive(Clone, Copy, Debug)]
pub struct CaptionScores;

impl Metric<[Captioned]> for CaptionScores {
    fn compute(&self, input: &[Captioned]) -> Result<Figures> {
        let found = captions(input)?;
        let [one, two, three, four] = found.bleu;
        let figures = [
            ("Bleu_1", one),
            ("Bleu_2", two),
            ("Bleu_3", three),
            ("Bleu_4", four),
            ("ROUGE_L", found.rouge_l),
            ("CIDEr", found.cider),
        ];
        Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

impl Captioning {
    /// Captions that were written before, for each sample.
    fn look_up(
        &self,
        dataset: &dyn Dataset,
        written: &HashMap<String, String>,
    ) -> Result<(Vec<Captioned>, Counts)> {
        let mut captioned = Vec::new();
        for sample in dataset.samples()? {
            let sample = sample?;
            let image = sample.images.first().map(|image| image.name().into_owned()).unwrap_or_default();
            let file = Path::new(&image).file_name().map(|name| name.to_string_lossy().into_owned());
            let caption = written.get(&image).or_else(|| written.get(&file?));
            let Some(caption) = caption else {
                return Err(Error::sample(
                    sample.name,
                    format!("no caption was written for its image {image}"),
                ));
            };
            captioned.push(beside(&sample.name, sample.target, caption.clone())?);
        }
        let counts = Counts { total: captioned.len(), evaluated: captioned.len(), ..Counts::default() };
        Ok((captioned, counts))
    }

    /// Captions that the model writes.
    fn write(
        &self,
        dataset: &dyn Dataset,
        model: &dyn Model,
        observer: &dyn Observer,
    ) -> Result<(Vec<Captioned>, Counts)> {
        let preprocessor = model.preprocessor().map_err(Error::Model)?;
        let mut written: Vec<std::result::Result<String, String>> = Vec::new();
        let (samples, computed) =
            read_images(dataset, preprocessor, &self.extraction, 0, observer, |pixels, broken| {
                let whole = broken.iter().any(Option::is_none);
                let texts = if whole { model.caption(pixels).map_err(Error::Model)? } else { Vec::new() };
                let mut texts = texts.into_iter();
                for reason in broken {
                    written.push(match reason {
                        Some(reason) => Err(reason),
                        None => texts.next().ok_or_else(|| "the model wrote no caption".to_owned()),
                    });
                }
                Ok(())
            })?;
        let mut counts = Counts { total: samples.len(), computed, ..Counts::default() };
        let mut captioned = Vec::new();
        let mut written = written.into_iter();
        for (name, images, target) in samples {
            match written.by_ref().take(images).next() {
                Some(Ok(caption)) => captioned.push(beside(&name, target, caption)?),
                Some(Err(reason)) => counts.broken.push(reason),
                None => return Err(Error::sample(name, "it wasn't read to its end")),
            }
        }
        counts.evaluated = captioned.len();
        match (counts.evaluated, counts.broken.first()) {
            (0, Some(reason)) => {
                Err(Error::Undefined(format!("none of the {} samples can be read: {reason}", counts.total)))
            }
            _ => Ok((captioned, counts)),
        }
    }
}

/// A caption beside those of its image.
fn beside(name: &str, target: Target, caption: String) -> Result<Captioned> {
    match target {
        Target::Captions(references) if !references.is_empty() => Ok(Captioned { caption, references }),
        _ => Err(Error::sample(name, "it has no captions to compare with")),
    }
}

impl Task for Captioning {
    fn name(&self) -> &'static str {
        "captioning"
    }

    fn wanted(&self) -> Wanted {
        Wanted::Captions
    }

    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation> {
        let (captioned, counts) = match &self.written {
            Some(written) => self.look_up(dataset, written)?,
            None => self.write(dataset, model, observer)?,
        };
        Ok(Evaluation { figures: CaptionScores.compute(&captioned)?, counts, ..Evaluation::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Letters, Listed, captions};

    #[test]
    fn captions_are_written_or_given() {
        let mut dataset = Listed::new([
            captions(&[(200, 0)], &["a red thing"]),
            captions(&[(0, 200)], &["Something blue."]),
        ]);
        let found = Captioning::default().run(&dataset, &Letters, &()).unwrap();
        assert_eq!(found.figures[0].0, "Bleu_1");
        assert!(found.figures[0].1 > 0.9, "{:?}", found.figures);
        dataset.damage(0);
        let found = Captioning::default().run(&dataset, &Letters, &()).unwrap();
        assert_eq!((found.counts.total, found.counts.evaluated), (2, 1));
        let given = |names: &[&str]| {
            let written = names.iter().map(|name| ((*name).to_owned(), "a thing".to_owned())).collect();
            Captioning { written: Some(written), ..Captioning::default() }
        };
        assert_eq!(given(&["0.ppm", "1.ppm"]).run(&dataset, &Letters, &()).unwrap().counts.evaluated, 2);
        let error = given(&["0.ppm"]).run(&dataset, &Letters, &()).unwrap_err().to_string();
        assert!(error.contains("sample 1: no caption was written for its image 1.ppm"), "{error}");
    }
}
