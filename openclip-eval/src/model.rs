//! What is evaluated: anything that embeds prepared images and texts.

use openclip_core::HostTensor;
use openclip_vision::preprocess::Preprocessor;

use crate::error::ModelError;

/// A model with towers for images and texts. Either is loaded when it is first asked for, or not at all: an evaluation
/// whose features are cached needs no tower.
pub trait Model: Sync {
    /// What prepares images for the image tower.
    ///
    /// # Errors
    /// When the model has no image tower.
    fn preprocessor(&self) -> Result<&Preprocessor, ModelError>;

    /// Embeds prepared images.
    ///
    /// # Shapes
    /// `[N, 3, H, W] -> [N, D]`, of any length.
    ///
    /// # Errors
    /// When the tower can't be loaded or run, or gives more than one embedding for an image.
    fn embed_images(&self, pixels: &HostTensor) -> Result<HostTensor, ModelError>;

    /// Embeds texts, `batch_size` of similar length at a time.
    ///
    /// # Shapes
    /// `N` texts `-> [N, D]` in their order, of any length.
    ///
    /// # Errors
    /// When the tower can't be loaded or run, or gives more than one embedding for a text.
    fn embed_texts(&self, texts: &[&str], batch_size: usize) -> Result<HostTensor, ModelError>;

    /// A caption for each of the prepared images `[N, 3, H, W]`.
    ///
    /// # Errors
    /// When the model writes none, or can't be loaded or run.
    fn caption(&self, pixels: &HostTensor) -> Result<Vec<String>, ModelError> {
        let _ = pixels;
        Err("the model writes no captions".into())
    }
}
