//! Caption selection: an instance has images and texts, and each is to choose its own.

use openclip_core::HostTensor;

use super::{Counts, Evaluation, Figures, Metric, Task};
use crate::{
    dataset::{Dataset, Target, Wanted},
    error::{Error, Result},
    features::{ExtractionOptions, Observer, embed_texts, extract},
    metric,
    model::Model,
};

/// Images choose their texts and texts their images, within each instance.
#[derive(Clone, Debug)]
pub struct Selection {
    /// How images and texts become features.
    pub extraction: ExtractionOptions,
}

/// Instances of as many images and texts each.
#[derive(Clone, Copy, Debug)]
pub struct Instances<'a> {
    /// Unit-length features of all images, instance by instance.
    pub images: &'a HostTensor,
    /// Unit-length features of all texts, instance by instance.
    pub texts: &'a HostTensor,
    /// Images of an instance.
    pub images_each: usize,
    /// Texts of an instance.
    pub texts_each: usize,
}

/// `image_acc`, `text_acc` and `acc`.
#[derive(Clone, Copy, Debug)]
pub struct Choice;

impl Metric<Instances<'_>> for Choice {
    fn compute(&self, input: &Instances<'_>) -> Result<Figures> {
        let found = metric::selection(input.images, input.texts, input.images_each, input.texts_each)?;
        let figures = [("image_acc", found.image_acc), ("text_acc", found.text_acc), ("acc", found.acc)];
        Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

impl Task for Selection {
    fn name(&self) -> &'static str {
        "image_caption_selection"
    }

    fn wanted(&self) -> Wanted {
        Wanted::Choices
    }

    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation> {
        let extracted = extract(dataset, model, &self.extraction, observer)?;
        let counts = Counts::of(&extracted)?;
        let mut shape = None;
        for sample in &extracted.samples {
            let texts = match &sample.target {
                Target::Captions(captions) if !captions.is_empty() => captions.len(),
                _ => return Err(Error::sample(&sample.name, "it has no captions")),
            };
            let found = (sample.images.len(), texts);
            let (images, texts) = *shape.get_or_insert(found);
            if found != (images, texts) {
                let message = format!(
                    "it has {} images and {} captions, those before it {images} and {texts}: instances must be alike",
                    found.0, found.1
                );
                return Err(Error::sample(&sample.name, message));
            }
        }
        let (images_each, texts_each) = shape.unwrap_or_default();
        let all: Vec<&[f32]> = extracted.features.rows().collect();
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        for (rows, sample) in extracted.whole() {
            rows.iter().filter_map(|&row| all.get(row)).for_each(|row| images.extend_from_slice(row));
            if let Target::Captions(captions) = &sample.target {
                texts.extend(captions.iter().cloned());
            }
        }
        let width = extracted.features.dims().last().copied().unwrap_or(0);
        let images = HostTensor::new([counts.evaluated * images_each, width], images)?;
        let texts = embed_texts(&texts, model, &self.extraction, observer)?;
        let figures =
            Choice.compute(&Instances { images: &images, texts: &texts, images_each, texts_each })?;
        Ok(Evaluation { figures, counts, ..Evaluation::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Letters, Listed, captions};

    #[test]
    fn instances_are_alike() {
        let task = Selection { extraction: ExtractionOptions::default() };
        let mut dataset = Listed::new([
            captions(&[(200, 0), (0, 200)], &["aaa", "bbb"]),
            captions(&[(200, 0), (0, 200)], &["bbb", "aaa"]),
            captions(&[(200, 0), (0, 200)], &["a", "b"]),
        ]);
        dataset.damage(2);
        let found = task.run(&dataset, &Letters, &()).unwrap();
        assert_eq!((found.counts.total, found.counts.evaluated), (3, 2));
        assert!(found.figures.iter().all(|(_, value)| *value == 0.5), "{:?}", found.figures);
        let dataset = Listed::new([captions(&[(1, 2)], &["a", "b"]), captions(&[(1, 2)], &["a"])]);
        let error = task.run(&dataset, &Letters, &()).unwrap_err().to_string();
        assert!(
            error.contains("sample 1: it has 1 images and 1 captions, those before it 1 and 2"),
            "{error}"
        );
    }
}
