//! [`Clip`] as a model that is evaluated.

use openclip_core::HostTensor;
use openclip_eval::{Model, ModelError};
use openclip_vision::preprocess::Preprocessor;

use super::Clip;
use crate::Error;

impl Model for Clip {
    fn preprocessor(&self) -> Result<&Preprocessor, ModelError> {
        Ok(Self::preprocessor(self)?)
    }

    fn embed_images(&self, pixels: &HostTensor) -> Result<HostTensor, ModelError> {
        let features = self.image_encoder()?.encode(pixels)?;
        match *features.dims() {
            [_, _] => Ok(features),
            // Towers with two attentional poolers keep the axis of their one query.
            [rows, 1, width] => Ok(features.reshape([rows, width])?),
            _ => Err(Error::NotPooled { model: self.name().to_owned() }.into()),
        }
    }

    fn embed_texts(&self, texts: &[&str], batch_size: usize) -> Result<HostTensor, ModelError> {
        Ok(self.encode_text_raw(texts, batch_size)?)
    }
}
