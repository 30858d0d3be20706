//! Zero-shot classification: labels become embeddings once, images are compared with them.

use openclip_text::prompts;
use openclip_zoo::build::LogitParameters;

use super::{Clip, Embedding};
use crate::{Error, Result};

/// How similarities become scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scoring {
    /// A distribution over the labels (CLIP): softmax of `scale * cosine`.
    Softmax {
        /// Inverse temperature.
        scale: f32,
    },
    /// A probability for each label by itself (SigLIP): sigmoid of `scale * cosine + bias`.
    Sigmoid {
        /// Inverse temperature.
        scale: f32,
        /// Added to the scaled similarity.
        bias: f32,
    },
}

impl From<LogitParameters> for Scoring {
    fn from(LogitParameters { scale, bias }: LogitParameters) -> Self {
        match bias {
            Some(bias) => Self::Sigmoid { scale, bias },
            None => Self::Softmax { scale },
        }
    }
}

impl Scoring {
    /// The scores of cosine similarities, in their order.
    pub fn scores(self, cosines: &[f32]) -> Vec<f32> {
        match self {
            Self::Softmax { scale } => {
                let logits: Vec<f64> = cosines.iter().map(|&cosine| f64::from(scale * cosine)).collect();
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
                let total: f64 = powers.iter().sum();
                powers.iter().map(|power| (power / total) as f32).collect()
            }
            Self::Sigmoid { scale, bias } => {
                let score = |cosine: &f32| 1.0 / (1.0 + f64::from(-(scale * cosine + bias)).exp());
                cosines.iter().map(|cosine| score(cosine) as f32).collect()
            }
        }
    }
}

/// Labels as embeddings: the classifier that the reference builds from class names and prompt templates.
///
/// Where there are several templates, a class is the direction of the mean of its prompts' unit-length embeddings.
#[derive(Clone, Debug)]
pub struct ZeroShotClassifier {
    labels: Vec<String>,
    classes: Vec<Embedding>,
    scoring: Scoring,
}

impl ZeroShotClassifier {
    /// Embeds every label in every template; `{}` in a template is where the label goes.
    ///
    /// # Errors
    /// [`Error::NoLabels`], [`Error::Template`], [`Error::NoScoring`], and those of [`Clip::encode_text`].
    pub fn new<L: AsRef<str>, T: AsRef<str>>(clip: &Clip, labels: &[L], templates: &[T]) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::NoLabels);
        }
        if let Some(template) =
            templates.iter().map(AsRef::as_ref).find(|template| !prompts::has_place(template))
        {
            return Err(Error::Template { template: template.to_owned() });
        }
        let labels: Vec<String> = labels.iter().map(|label| label.as_ref().to_owned()).collect();
        let classes = labels
            .iter()
            .flat_map(|label| templates.iter().map(|template| prompts::fill(template.as_ref(), label)));
        let prompts = clip.encode_text(classes)?;
        // Without a text projection the towers don't share a space unless their widths happen to be equal.
        let width = clip.config().model_cfg.embed_dim;
        if let Some(prompt) = prompts.iter().find(|prompt| prompt.as_slice().len() != width) {
            let found = prompt.as_slice().len();
            let message = format!("{}: texts have {found} features and images {width}", clip.name());
            return Err(openclip_core::Error::InvalidArgument(message).into());
        }
        let classes = prompts.chunks(templates.len().max(1)).filter_map(Embedding::mean).collect();
        Ok(Self { labels, classes, scoring: clip.scoring()? })
    }

    /// The labels, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The labels' embeddings.
    pub fn classes(&self) -> &[Embedding] {
        &self.classes
    }

    /// The scores of the labels for an image, in their order.
    pub fn scores(&self, image: &Embedding) -> Vec<f32> {
        let cosines: Vec<f32> = self.classes.iter().map(|class| class.cosine(image)).collect();
        self.scoring.scores(&cosines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_a_distribution_and_survives_large_logits() {
        let scores = Scoring::Softmax { scale: 1e4 }.scores(&[1.0, 0.5, -1.0]);
        assert_eq!(scores, [1.0, 0.0, 0.0]);
        let scores = Scoring::Softmax { scale: 1.0 }.scores(&[0.0, 0.0]);
        assert_eq!(scores, [0.5, 0.5]);
    }

    #[test]
    fn sigmoid_scores_each_label_by_itself() {
        let scoring = Scoring::Sigmoid { scale: 10.0, bias: -10.0 };
        assert_eq!(scoring.scores(&[1.0, 1.0]), [0.5, 0.5]);
        assert_eq!(scoring.scores(&[1.0]), [0.5]);
    }
}
