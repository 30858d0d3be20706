//! What can go wrong between a model's name, a picture or a text, and an embedding.

use openclip_coca::{GenerationError, InvalidOption};
use openclip_vision::preprocess::ImageError;

/// Result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a model's name, a picture or a text, and an embedding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name can't be resolved, or the model can't be had.
    #[error(transparent)]
    Zoo(#[from] openclip_zoo::Error),
    /// The model can't be built or run.
    #[error(transparent)]
    Core(#[from] openclip_core::Error),
    /// An image can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model was loaded without the tower that this needs.
    #[error("the model was loaded without its {tower} tower")]
    NoTower {
        /// `image` or `text`.
        tower: &'static str,
    },
    /// The model writes no captions, or was loaded without what it needs for them.
    #[error(
        "{model} has no decoder: captions need a CoCa model (`openclip models list --family CoCa`), loaded from a checkpoint \
         with both towers"
    )]
    NoDecoder {
        /// The model's name.
        model: String,
    },
    /// An option of generation makes no sense.
    #[error(transparent)]
    Option(#[from] InvalidOption),
    /// The model gives one embedding per token.
    #[error("{model} has no pooling: it gives one embedding per token, which only its encoders return")]
    NotPooled {
        /// The model's name.
        model: String,
    },
    /// It isn't known how the model turns similarities into scores.
    #[error(
        "{model}: its ONNX files don't say how similarities become scores; write `logit_scale` (a factor, 100 for most CLIP \
         models), and `logit_bias` for SigLIP, into their metadata"
    )]
    NoScoring {
        /// The model's name.
        model: String,
    },
    /// The model's tokenizer isn't available or doesn't fit the text tower.
    #[error("tokenizer of {model}: {message}")]
    Tokenizer {
        /// The model's name.
        model: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// There is nothing to classify into.
    #[error("the list of labels is empty")]
    NoLabels,
    /// A prompt template has no place for the label.
    #[error("template `{template}` has no `{{}}` where the label goes")]
    Template {
        /// The template.
        template: String,
    },
}

impl From<GenerationError> for Error {
    fn from(error: GenerationError) -> Self {
        match error {
            GenerationError::Option(error) => error.into(),
            GenerationError::Core(error) => error.into(),
        }
    }
}
