//! Zero-shot classifiers: class names and prompt templates as features, built once and kept in a file.

use std::path::Path;

use openclip_core::{
    HostTensor,
    weights::{TensorData, open_checkpoint, save_safetensors},
};
use openclip_text::prompts;

use crate::{
    error::{Error, Result},
    features::Observer,
    model::Model,
};

/// The tensor of a classifier's file.
const TENSOR: &str = "classifier";

/// Prompts that are embedded together at most; those of similar length share batches.
const PROMPTS_AT_ONCE: usize = 4096;

/// A feature for each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[C, D]`, of unit length unless several classifiers were averaged.
    pub weights: HostTensor,
}

impl Classifier {
    /// Embeds every class name in every template: a class is the direction of the mean of its prompts' unit-length features,
    /// as the reference's `build_zero_shot_classifier` has it.
    ///
    /// # Errors
    /// [`Error::Undefined`] when there are no classes or templates, or a template has no place for the name; errors of the
    /// model.
    pub fn build(
        model: &dyn Model,
        classes: &[String],
        templates: &[String],
        batch_size: usize,
        observer: &dyn Observer,
    ) -> Result<Self> {
        if classes.is_empty() || templates.is_empty() {
            return Err(Error::Undefined(
                "a classifier needs at least one class and one template".to_owned(),
            ));
        }
        if let Some(template) = templates.iter().find(|template| !prompts::has_place(template)) {
            let message = format!("template `{template}` has no `{{}}` or `{{c}}` where the class name goes");
            return Err(Error::Undefined(message));
        }
        observer.start("classes", Some(classes.len()), 0);
        let (mut weights, mut width) = (Vec::new(), 0);
        for window in classes.chunks((PROMPTS_AT_ONCE / templates.len()).max(1)) {
            let texts: Vec<String> = window
                .iter()
                .flat_map(|class| templates.iter().map(|template| prompts::fill(template, class)))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut features = model.embed_texts(&texts, batch_size).map_err(Error::Model)?;
            features.l2_normalize_rows();
            width = features.dims().last().copied().unwrap_or(0);
            for class in features.data().chunks(width.max(1) * templates.len()) {
                weights.extend(mean(class, width));
            }
            observer.advance(window.len());
        }
        observer.finish();
        let mut weights = HostTensor::new([classes.len(), width], weights)?;
        weights.l2_normalize_rows();
        Ok(Self { weights })
    }

    /// Writes the classifier as safetensors: `classifier` `[C, D]`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensor = TensorData::from_f32(self.weights.dims(), self.weights.data());
        Ok(save_safetensors(path, [(TENSOR.to_owned(), tensor)], None)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Core`] when the file can't be read, [`Error::Dataset`] when it holds no classifier.
    pub fn load(path: &Path) -> Result<Self> {
        let file = open_checkpoint(path)?;
        let Some(info) = file.info(TENSOR).filter(|info| info.dims.len() == 2) else {
            let message = "it holds no tensor `classifier` [C, D]: give a file that --save-classifier wrote";
            return Err(Error::dataset(path, message));
        };
        let values = file.read(TENSOR, &info.dims).map_err(openclip_core::Error::from)?.to_f32();
        Ok(Self { weights: HostTensor::new(info.dims, values)? })
    }

    /// The mean of several classifiers, not scaled to unit length.
    ///
    /// # Errors
    /// [`Error::Undefined`] when there are none or they differ in shape.
    pub fn average(classifiers: &[Self]) -> Result<Self> {
        let Some((first, rest)) = classifiers.split_first() else {
            return Err(Error::Undefined("there is no classifier to average".to_owned()));
        };
        let share = 1.0 / classifiers.len() as f32;
        let mut weights = first.weights.clone();
        weights.data_mut().iter_mut().for_each(|value| *value *= share);
        for other in rest {
            if other.weights.dims() != weights.dims() {
                let (a, b) = (weights.dims().to_vec(), other.weights.dims());
                return Err(Error::Undefined(format!("classifiers of {a:?} and {b:?} have no mean")));
            }
            weights
                .data_mut()
                .iter_mut()
                .zip(other.weights.data())
                .for_each(|(sum, value)| *sum += value * share);
        }
        Ok(Self { weights })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.weights.dims().first().copied().unwrap_or(0)
    }
}

/// The mean of rows of `width` values.
fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width.max(1)) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let count = (rows.len() / width.max(1)).max(1) as f32;
    sum.iter_mut().for_each(|value| *value /= count);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Letters;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_class_is_the_mean_of_its_prompts() {
        let classifier =
            Classifier::build(&Letters, &names(&["a", "b"]), &names(&["{}", "{c}bb"]), 8, &()).unwrap();
        let rows: Vec<&[f32]> = classifier.weights.rows().collect();
        assert_eq!(rows[1], [0.0, 1.0], "all of its letters are b");
        assert!(rows[0][0] > 0.0 && rows[0][1] > 0.0);
        assert!((rows[0].iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn classifiers_are_kept_and_averaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let one = Classifier { weights: HostTensor::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap() };
        let other = Classifier { weights: HostTensor::new([2, 2], vec![0.0, 1.0, 0.0, 1.0]).unwrap() };
        one.save(&path).unwrap();
        assert_eq!(Classifier::load(&path).unwrap(), one);
        let mean = Classifier::average(&[one.clone(), other]).unwrap();
        assert_eq!(mean.weights.data(), [0.5, 0.5, 0.0, 1.0]);
        let wide = Classifier { weights: HostTensor::zeros([2, 3]) };
        assert!(Classifier::average(&[one, wide]).is_err() && Classifier::average(&[]).is_err());
        std::fs::write(&path, "x").unwrap();
        assert!(Classifier::load(&path).unwrap_err().to_string().contains("a.safetensors"));
    }

    #[test]
    fn templates_need_a_place() {
        let error = Classifier::build(&Letters, &names(&["a"]), &names(&["photo"]), 8, &()).unwrap_err();
        assert!(error.to_string().contains("template `photo` has no"), "{error}");
        assert!(Classifier::build(&Letters, &[], &names(&["{}"]), 8, &()).is_err());
    }
}
