//! Linear probes: how well a linear layer on a model's image features tells the classes apart.

use ndarray::Array2;
use openclip_core::HostTensor;
use serde_json::json;

use super::{
    Classified, Counts, Evaluation, Figures, Task,
    zero_shot::{rows, targets},
};
use crate::{
    dataset::{Dataset, Target, Wanted},
    error::{Error, Result},
    features::{Extracted, ExtractionOptions, Observer, extract},
    metric::{
        ClassificationMetrics, classification,
        linear_probe::{Labelled, Linear, Random, TrainOptions, few_shot, probe},
    },
    model::Model,
};

/// What the weight decay is chosen by.
pub enum Validation {
    /// Nothing: it is 0.
    None,
    /// A split of its own, and what tells it from others in the store.
    Split(Box<dyn Dataset>, ExtractionOptions),
    /// This share of the training samples.
    Share(f64),
}

/// Trains a linear layer on one split and measures it on another.
pub struct LinearProbe {
    /// What is trained on, and what tells it from others in the store.
    pub training: (Box<dyn Dataset>, ExtractionOptions),
    /// What the weight decay is chosen by.
    pub validation: Validation,
    /// Training samples of each class; all where nothing is said.
    pub shots: Option<usize>,
    /// How the layer is trained.
    pub options: TrainOptions,
    /// How images become features.
    pub extraction: ExtractionOptions,
}

impl LinearProbe {
    /// The samples that are trained on and those that the weight decay is chosen by.
    fn data(&self, model: &dyn Model, observer: &dyn Observer) -> Result<(Labelled, Option<Labelled>)> {
        let (dataset, extraction) = &self.training;
        let all = labelled(&extract(dataset.as_ref(), model, extraction, observer)?)?;
        let (training, validation) = match &self.validation {
            Validation::None => (all, None),
            Validation::Split(dataset, extraction) => {
                (all, Some(labelled(&extract(dataset.as_ref(), model, extraction, observer)?)?))
            }
            Validation::Share(share) => {
                let count = all.classes.len();
                let held = ((count as f64 * share).round() as usize).clamp(1, count.saturating_sub(1).max(1));
                // Another order than that of the shots.
                let order = Random::new(!self.options.seed).permutation(count);
                let (held, rest) = order.split_at_checked(held).unwrap_or_default();
                (all.select(rest), Some(all.select(held)))
            }
        };
        Ok((few_shot(&training, self.shots, self.options.seed)?, validation))
    }
}

impl Task for LinearProbe {
    fn name(&self) -> &'static str {
        "linear_probe"
    }

    fn wanted(&self) -> Wanted {
        Wanted::Classes
    }

    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation> {
        let (training, validation) = self.data(model, observer)?;
        let found = probe(&training, validation.as_ref(), self.shots.is_some(), &self.options)?;
        let extracted = extract(dataset, model, &self.extraction, observer)?;
        let counts = Counts::of(&extracted)?;
        let classes = found.layer.bias.len();
        if let Some((sample, class)) = extracted.samples.iter().find_map(|sample| match sample.target {
            Target::Class(class) if class >= classes => Some((sample, class)),
            _ => None,
        }) {
            let message = format!("class {class} isn't among the {classes} classes that were trained on");
            return Err(Error::sample(&sample.name, message));
        }
        let data = labelled(&extracted)?;
        let metrics = measure(&found.layer, &data)?;
        // As CLIP_benchmark has it: not with five classes, but from the sixth on.
        let has_acc5 = data.classes.iter().any(|&class| class >= 5);
        let figures: Figures = [
            ("lp_acc1", metrics.acc1),
            ("lp_acc5", if has_acc5 { metrics.acc5 } else { f64::NAN }),
            ("lp_mean_per_class_recall", metrics.mean_per_class_recall),
            ("weight_decay", found.weight_decay),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let options = [
            ("epochs", json!(self.options.epochs)),
            ("seed", json!(self.options.seed)),
            ("fewshot_k", self.shots.map_or_else(|| json!(-1), |shots| json!(shots))),
            ("normalized", json!(true)),
        ];
        let options = options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let confusion = Some(metrics.confusion);
        Ok(Evaluation { figures, counts, confusion, options, ..Evaluation::default() })
    }
}

/// Accuracy of a layer: its bias is one more feature, which is 1 for every image.
fn measure(layer: &Linear, data: &Labelled) -> Result<ClassificationMetrics> {
    let with = |values: &Array2<f32>, last: &dyn Fn(usize) -> f32| {
        let rows = values.rows().into_iter().enumerate();
        let data: Vec<f32> =
            rows.flat_map(|(row, values)| values.to_vec().into_iter().chain([last(row)])).collect();
        HostTensor::new([values.nrows(), values.ncols() + 1], data)
    };
    let features = with(&data.features, &|_| 1.0)?;
    let classifier = with(&layer.weight, &|class| layer.bias.get(class).copied().unwrap_or(0.0))?;
    let input = Classified { features: &features, classifier: &classifier, targets: &data.classes };
    classification(input.features, input.classifier, input.targets)
}

/// The whole samples of a split.
fn labelled(extracted: &Extracted) -> Result<Labelled> {
    Counts::of(extracted)?;
    if let Some(sample) = extracted.samples.iter().find(|sample| !matches!(sample.target, Target::Class(_))) {
        return Err(Error::sample(&sample.name, "it has several labels, and a probe needs one class"));
    }
    let features = rows(extracted)?;
    let shape = (features.rows().count(), features.dims().last().copied().unwrap_or(0));
    let features = Array2::from_shape_vec(shape, features.into_data())
        .map_err(|error| Error::Undefined(format!("features: {error}")))?;
    let classes = targets(extracted, |target| match target {
        Target::Class(class) => Some(*class),
        _ => None,
    });
    Ok(Labelled { features, classes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Letters, Listed, class};

    fn colours() -> Box<Listed> {
        Box::new(Listed::new([class(200, 9, 0), class(9, 200, 1), class(180, 20, 0), class(20, 180, 1)]))
    }

    fn task(validation: Validation, shots: Option<usize>) -> LinearProbe {
        let extraction = ExtractionOptions::default();
        let training = (colours() as Box<dyn Dataset>, extraction.clone());
        LinearProbe { training, validation, shots, options: TrainOptions::default(), extraction }
    }

    #[test]
    fn a_probe_tells_colours_apart() {
        let split = Validation::Split(colours(), ExtractionOptions::default());
        for (validation, shots) in
            [(Validation::None, None), (split, Some(2)), (Validation::Share(0.5), None)]
        {
            let found = task(validation, shots).run(colours().as_ref(), &Letters, &()).unwrap();
            assert_eq!(found.figures[0].0, "lp_acc1");
            assert!(found.figures[0].1 >= 0.5 && found.figures[1].1.is_nan(), "{:?}", found.figures);
            assert_eq!(found.options["fewshot_k"], shots.map_or_else(|| json!(-1), |shots| json!(shots)));
        }
        let dataset = Listed::new([class(1, 2, 5)]);
        let error = task(Validation::None, None).run(&dataset, &Letters, &()).unwrap_err().to_string();
        assert!(error.contains("class 5 isn't among the 2 classes"), "{error}");
    }
}
