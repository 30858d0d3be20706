//! Zero-shot classification, of images with one class each or with several.

use openclip_core::HostTensor;

use super::{Counts, Evaluation, Figures, Metric, Task};
use crate::{
    classifier::Classifier,
    dataset::{Dataset, Target, Wanted},
    error::{Error, Result},
    features::{Extracted, ExtractionOptions, Observer, extract},
    metric::{classification, multilabel},
    model::Model,
};

/// Images are given the class whose feature is nearest.
#[derive(Clone, Debug)]
pub struct ZeroShot {
    /// The classes' features.
    pub classifier: Classifier,
    /// How images become features.
    pub extraction: ExtractionOptions,
}

/// Images with one class each, and a classifier.
#[derive(Clone, Copy, Debug)]
pub struct Classified<'a, T> {
    /// Unit-length features `[N, D]`.
    pub features: &'a HostTensor,
    /// Features of the classes `[C, D]`.
    pub classifier: &'a HostTensor,
    /// For each image its class, or for each image its labels.
    pub targets: &'a [T],
}

/// `acc1`, `acc5` and `mean_per_class_recall`.
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Metric<Classified<'_, usize>> for Accuracy {
    fn compute(&self, input: &Classified<'_, usize>) -> Result<Figures> {
        Ok(classification(input.features, input.classifier, input.targets)?.figures())
    }
}

/// `mean_average_precision`.
#[derive(Clone, Copy, Debug)]
pub struct AveragePrecision;

impl Metric<Classified<'_, Vec<bool>>> for AveragePrecision {
    fn compute(&self, input: &Classified<'_, Vec<bool>>) -> Result<Figures> {
        let metrics = multilabel(input.features, input.classifier, input.targets)?;
        Ok(vec![("mean_average_precision".to_owned(), metrics.mean_average_precision)])
    }
}

impl Task for ZeroShot {
    fn name(&self) -> &'static str {
        "zeroshot_classification"
    }

    fn wanted(&self) -> Wanted {
        Wanted::Classes
    }

    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation> {
        let extracted = extract(dataset, model, &self.extraction, observer)?;
        let counts = Counts::of(&extracted)?;
        check(&extracted, self.classifier.classes())?;
        let features = rows(&extracted)?;
        let classifier = &self.classifier.weights;
        let classes: Vec<usize> = targets(&extracted, |target| match target {
            Target::Class(class) => Some(*class),
            _ => None,
        });
        if classes.len() == counts.evaluated {
            let metrics = classification(&features, classifier, &classes)?;
            let (figures, confusion) = (metrics.figures(), Some(metrics.confusion));
            return Ok(Evaluation {
                figures,
                counts,
                confusion,
                predictions: metrics.predictions,
                ..Evaluation::default()
            });
        }
        let labels: Vec<Vec<bool>> = targets(&extracted, |target| match target {
            Target::Labels(labels) => Some(labels.clone()),
            _ => None,
        });
        let input = Classified { features: &features, classifier, targets: &labels };
        Ok(Evaluation { figures: AveragePrecision.compute(&input)?, counts, ..Evaluation::default() })
    }
}

/// The features of whole samples, one each.
pub(super) fn rows(extracted: &Extracted) -> Result<HostTensor> {
    let all: Vec<&[f32]> = extracted.features.rows().collect();
    let chosen = extracted.whole().filter_map(|(rows, _)| all.get(*rows.first()?).copied());
    let data: Vec<f32> = chosen.flatten().copied().collect();
    let width = extracted.features.dims().last().copied().unwrap_or(0);
    Ok(HostTensor::new([data.len() / width.max(1), width], data)?)
}

/// What `each` makes of the targets of whole samples.
pub(super) fn targets<T>(extracted: &Extracted, each: impl Fn(&Target) -> Option<T>) -> Vec<T> {
    extracted.whole().filter_map(|(_, sample)| each(&sample.target)).collect()
}

/// Checks every sample's target, also of those that can't be read.
fn check(extracted: &Extracted, classes: usize) -> Result<()> {
    for sample in &extracted.samples {
        let message = match &sample.target {
            Target::Class(class) if *class >= classes => {
                format!("class {class} is out of range: there are {classes} class names, counted from 0")
            }
            Target::Labels(labels) if labels.len() != classes => {
                format!("it has {} labels, and there are {classes} class names", labels.len())
            }
            Target::Captions(_) => "it has captions, and no class".to_owned(),
            _ => continue,
        };
        return Err(Error::sample(&sample.name, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Letters, Listed, class, labels};

    fn task(classes: usize) -> ZeroShot {
        let weights =
            HostTensor::new([classes, 2], [1.0, 0.0, 0.0, 1.0].repeat(classes)[..2 * classes].to_vec())
                .unwrap();
        ZeroShot { classifier: Classifier { weights }, extraction: ExtractionOptions::default() }
    }

    #[test]
    fn broken_images_are_counted_and_named() {
        let mut dataset = Listed::new([class(200, 9, 0), class(9, 200, 1), class(0, 0, 0), class(200, 9, 1)]);
        dataset.damage(2);
        let found = task(2).run(&dataset, &Letters, &()).unwrap();
        assert_eq!((found.counts.total, found.counts.evaluated, found.counts.computed), (4, 3, 4));
        assert!(found.counts.broken[0].starts_with("2.ppm: "), "{:?}", found.counts.broken);
        assert_eq!(found.figures[0], ("acc1".to_owned(), 2.0 / 3.0));
        let rows: Vec<Vec<u32>> = found.confusion.unwrap().rows().map(<[u32]>::to_vec).collect();
        assert_eq!(rows, [[1, 0], [1, 1]]);
    }

    #[test]
    fn several_labels_are_ranked() {
        let dataset = Listed::new([labels(200, 9, &[true, false]), labels(9, 200, &[true, true])]);
        let found = task(2).run(&dataset, &Letters, &()).unwrap();
        assert_eq!(found.figures, [("mean_average_precision".to_owned(), 1.0)]);
    }

    #[test]
    fn targets_that_do_not_fit_are_named() {
        for (dataset, part) in [
            (Listed::new([class(1, 2, 2)]), "sample 0: class 2 is out of range: there are 2 class names"),
            (Listed::new([labels(1, 2, &[true])]), "sample 0: it has 1 labels"),
            (Listed::new([]), "no samples"),
        ] {
            let error = task(2).run(&dataset, &Letters, &()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut dataset = Listed::new([class(1, 2, 0)]);
        dataset.damage(0);
        let error = task(2).run(&dataset, &Letters, &()).unwrap_err().to_string();
        assert!(error.contains("none of the 1 samples can be read: 0.ppm"), "{error}");
    }
}
