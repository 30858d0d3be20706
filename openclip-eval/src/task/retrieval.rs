//! Retrieval: texts find their image, and images their texts.

use openclip_core::HostTensor;

use super::{Counts, Evaluation, Figures, Metric, Task, zero_shot::rows};
use crate::{
    dataset::{Dataset, Target, Wanted},
    error::{Error, Result},
    features::{ExtractionOptions, Observer, embed_texts, extract},
    metric::{self, DirectionMetrics},
    model::Model,
};

/// Recall in both directions.
#[derive(Clone, Debug)]
pub struct Retrieval {
    /// How far down the ranking a match counts: each gives a figure.
    pub recall_k: Vec<usize>,
    /// What a caption becomes before it is embedded, if anything else than itself: `{}` stands for it.
    pub template: Option<String>,
    /// How images and texts become features.
    pub extraction: ExtractionOptions,
}

/// Images and the texts that describe them.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// Unit-length features of images `[N, D]`.
    pub images: &'a HostTensor,
    /// Unit-length features of texts `[M, D]`.
    pub texts: &'a HostTensor,
    /// For each text the number of its image.
    pub image_of_text: &'a [usize],
}

/// `image_retrieval_recall@k` and `text_retrieval_recall@k` for each `k`; the same with `recall_worst`, for which all that
/// scores as high as a match is before it; mean and median ranks, counted like that, too.
#[derive(Clone, Debug)]
pub struct Recall(pub Vec<usize>);

impl Metric<Pairs<'_>> for Recall {
    fn compute(&self, input: &Pairs<'_>) -> Result<Figures> {
        let found = metric::retrieval(input.images, input.texts, input.image_of_text, &self.0)?;
        let directions =
            [("image_retrieval", &found.image_retrieval), ("text_retrieval", &found.text_retrieval)];
        let mut figures = Figures::new();
        for (place, k) in self.0.iter().enumerate() {
            for (name, DirectionMetrics { recall, .. }) in directions {
                figures.push((format!("{name}_recall@{k}"), recall.get(place).copied().unwrap_or(f64::NAN)));
            }
        }
        for (place, k) in self.0.iter().enumerate() {
            for (name, DirectionMetrics { recall_worst, .. }) in directions {
                let value = recall_worst.get(place).copied().unwrap_or(f64::NAN);
                figures.push((format!("{name}_recall_worst@{k}"), value));
            }
        }
        for (name, DirectionMetrics { mean_rank, median_rank, .. }) in directions {
            figures.push((format!("{name}_mean_rank"), *mean_rank));
            figures.push((format!("{name}_median_rank"), *median_rank));
        }
        Ok(figures)
    }
}

impl Task for Retrieval {
    fn name(&self) -> &'static str {
        "zeroshot_retrieval"
    }

    fn wanted(&self) -> Wanted {
        Wanted::Captions
    }

    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation> {
        let extracted = extract(dataset, model, &self.extraction, observer)?;
        let counts = Counts::of(&extracted)?;
        let (mut texts, mut image_of_text) = (Vec::new(), Vec::new());
        for (image, (_, sample)) in extracted.whole().enumerate() {
            let Target::Captions(captions) = &sample.target else {
                return Err(Error::sample(&sample.name, "it has no captions"));
            };
            for caption in captions {
                texts.push(match &self.template {
                    Some(template) => openclip_text::prompts::fill(template, caption),
                    None => caption.clone(),
                });
                image_of_text.push(image);
            }
        }
        if texts.is_empty() {
            return Err(Error::Undefined("none of the images has a caption".to_owned()));
        }
        let images = rows(&extracted)?;
        drop(extracted);
        let texts = embed_texts(&texts, model, &self.extraction, observer)?;
        let pairs = Pairs { images: &images, texts: &texts, image_of_text: &image_of_text };
        Ok(Evaluation {
            figures: Recall(self.recall_k.clone()).compute(&pairs)?,
            counts,
            ..Evaluation::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Letters, Listed, captions, class};

    fn task() -> Retrieval {
        Retrieval {
            recall_k: vec![1],
            template: Some("{} aab".into()),
            extraction: ExtractionOptions::default(),
        }
    }

    #[test]
    fn captions_of_broken_images_are_left_out_with_them() {
        let all = [
            captions(&[(200, 0)], &["aaa", "a"]),
            captions(&[(0, 200)], &["bbbb"]),
            captions(&[(9, 9)], &["c"]),
        ];
        let mut dataset = Listed::new(all);
        dataset.damage(2);
        let found = task().run(&dataset, &Letters, &()).unwrap();
        assert_eq!((found.counts.total, found.counts.evaluated), (3, 2));
        let names: Vec<&str> = found.figures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names[..3],
            ["image_retrieval_recall@1", "text_retrieval_recall@1", "image_retrieval_recall_worst@1"]
        );
        assert_eq!(found.figures[0].1, 1.0);
    }

    #[test]
    fn images_need_captions() {
        let error = task().run(&Listed::new([class(1, 2, 0)]), &Letters, &()).unwrap_err().to_string();
        assert!(error.contains("sample 0: it has no captions"), "{error}");
        let error =
            task().run(&Listed::new([captions(&[(1, 2)], &[])]), &Letters, &()).unwrap_err().to_string();
        assert!(error.contains("none of the images has a caption"), "{error}");
    }
}
