//! The application type: a model with its preprocessing and tokenizer, its backend's type erased.

mod builder;
mod caption;
mod deferred;
mod embedding;
#[cfg(feature = "eval")]
mod evaluate;
mod image;
mod inside;
mod tokenizer;
mod zero_shot;

pub use builder::ClipBuilder;
use deferred::Deferred;
pub use embedding::Embedding;
pub use image::AsImage;
pub use inside::{AttentionMap, Stage};
use openclip_core::{Captioner, CheckpointConfig, HostTensor, ImageEncoder, TextEncoder, TextInfo};
use openclip_text::Tokenizer;
use openclip_vision::preprocess::Preprocessor;
pub use zero_shot::{Scoring, ZeroShotClassifier};

use crate::{Error, Result};

/// A contrastive image-text model, or one of its towers. Shared freely between threads.
pub struct Clip {
    name: String,
    config: CheckpointConfig,
    /// Absent where an ONNX file from elsewhere doesn't say it.
    scoring: Option<Scoring>,
    image: Option<ImageSide>,
    text: Option<TextSide>,
    /// Loaded when the first caption is asked for.
    captioner: Option<Deferred<Box<dyn Captioner>>>,
}

struct ImageSide {
    encoder: Deferred<Box<dyn ImageEncoder>>,
    preprocessor: Preprocessor,
}

struct TextSide {
    encoder: Deferred<Box<dyn TextEncoder>>,
    tokenizer: Box<dyn Tokenizer>,
}

impl Clip {
    /// Starts to load a model: the name of an architecture, `hf-hub:org/name`, `local-dir:path`, or a checkpoint file.
    pub fn builder(model: impl Into<String>) -> ClipBuilder {
        ClipBuilder::new(model.into())
    }

    /// What the model is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The architecture as it runs, and its preprocessing.
    pub fn config(&self) -> &CheckpointConfig {
        &self.config
    }

    /// How the model turns similarities into scores.
    ///
    /// # Errors
    /// [`Error::NoScoring`].
    pub fn scoring(&self) -> Result<Scoring> {
        self.scoring.ok_or_else(|| Error::NoScoring { model: self.name.clone() })
    }

    /// The image tower.
    ///
    /// # Errors
    /// [`Error::NoTower`]; of a model that was built [lazily](ClipBuilder::lazy), when the tower can't be loaded,
    /// [`Error::Core`].
    pub fn image_encoder(&self) -> Result<&dyn ImageEncoder> {
        self.image_side()?.encoder.get().map(AsRef::as_ref)
    }

    /// What prepares images for the image tower.
    ///
    /// # Errors
    /// [`Error::NoTower`].
    pub fn preprocessor(&self) -> Result<&Preprocessor> {
        self.image_side().map(|side| &side.preprocessor)
    }

    /// The text tower.
    ///
    /// # Errors
    /// As [`image_encoder`](Self::image_encoder).
    pub fn text_encoder(&self) -> Result<&dyn TextEncoder> {
        self.text_side()?.encoder.get().map(AsRef::as_ref)
    }

    /// What turns texts into tokens for the text tower.
    ///
    /// # Errors
    /// [`Error::NoTower`].
    pub fn tokenizer(&self) -> Result<&dyn Tokenizer> {
        self.text_side().map(|side| side.tokenizer.as_ref())
    }

    /// The unit-length embedding of an image.
    ///
    /// # Errors
    /// [`Error::NoTower`], [`Error::Image`] when the image can't be prepared, [`Error::Core`].
    pub fn encode_image(&self, image: &impl AsImage) -> Result<Embedding> {
        let embeddings = self.image_encoder()?.encode(&self.pixels(image)?)?;
        self.embeddings(embeddings)?.pop().ok_or_else(|| Error::NotPooled { model: self.name.clone() })
    }

    /// The unit-length embeddings of texts, in their order.
    ///
    /// # Errors
    /// [`Error::NoTower`], [`Error::NotPooled`], [`Error::Core`].
    pub fn encode_text<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Result<Vec<Embedding>> {
        let texts: Vec<T> = texts.into_iter().collect();
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        self.embeddings(self.encode_text_raw(&texts, TEXT_BATCH)?)
    }

    /// The embeddings of texts as the tower gives them, `[N, D]` in their order. Texts of similar length run through the
    /// tower together, `batch_size` at a time, so that short ones don't wait for long ones.
    ///
    /// # Errors
    /// [`Error::NoTower`], [`Error::Core`]; [`Error::NotPooled`] for towers that give one embedding per token.
    pub fn encode_text_raw(&self, texts: &[&str], batch_size: usize) -> Result<HostTensor> {
        let TextSide { encoder, tokenizer } = self.text_side()?;
        let encoder = encoder.get()?;
        let TextInfo { embed_dim, reach, .. } = *encoder.info();
        let tokens = tokenizer.tokenize(texts)?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        let lengths: Vec<usize> = tokens.iter().map(|ids| reach.length(ids)).collect();
        order.sort_by_key(|&place| lengths.get(place));
        let mut values = vec![0.0; texts.len() * embed_dim];
        for places in order.chunks(batch_size.max(1)) {
            let batch = encoder.encode(&tokens.select(places))?;
            if *batch.dims() != [places.len(), embed_dim] {
                return Err(Error::NotPooled { model: self.name.clone() });
            }
            for (&place, row) in places.iter().zip(batch.rows()) {
                if let Some(target) = values.get_mut(place * embed_dim..(place + 1) * embed_dim) {
                    target.copy_from_slice(row);
                }
            }
        }
        Ok(HostTensor::new([texts.len(), embed_dim], values)?)
    }

    /// The scores of `labels` for an image, in their order: a softmax over the labels, or for models that were trained
    /// with one a sigmoid for each. A label is used as it stands; see [`ZeroShotClassifier`] for templates, and for
    /// many images.
    ///
    /// # Errors
    /// [`Error::NoLabels`], and those of [`encode_image`](Self::encode_image) and [`encode_text`](Self::encode_text).
    pub fn classify<T: AsRef<str>>(&self, image: &impl AsImage, labels: &[T]) -> Result<Vec<f32>> {
        let classifier = ZeroShotClassifier::new(self, labels, &["{}"])?;
        Ok(classifier.scores(&self.encode_image(image)?))
    }

    /// An image as the model takes it: `[1, 3, H, W]`.
    fn pixels(&self, image: &impl AsImage) -> Result<HostTensor> {
        let pixels = self.preprocessor()?.prepare(&image.as_image())?;
        let dims = [&[1], pixels.dims()].concat();
        Ok(pixels.reshape(dims)?)
    }

    /// Raw embeddings of a batch `[N, D]` at unit length.
    fn embeddings(&self, raw: HostTensor) -> Result<Vec<Embedding>> {
        match *raw.dims() {
            // Towers with two attentional poolers keep the axis of their one query.
            [_, _] | [_, 1, _] => Ok(raw.rows().map(Embedding::normalized).collect()),
            _ => Err(Error::NotPooled { model: self.name.clone() }),
        }
    }

    fn image_side(&self) -> Result<&ImageSide> {
        self.image.as_ref().ok_or(Error::NoTower { tower: "image" })
    }

    fn text_side(&self) -> Result<&TextSide> {
        self.text.as_ref().ok_or(Error::NoTower { tower: "text" })
    }
}

/// Texts that run through the tower together.
const TEXT_BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "emoji-clip")]
    fn a_lazy_model_loads_a_tower_when_it_is_needed() {
        let clip = Clip::builder("emoji-clip").lazy().build().unwrap();
        let loaded = |clip: &Clip| {
            let (image, text) = (clip.image.as_ref().unwrap(), clip.text.as_ref().unwrap());
            [image.encoder.is_ready(), text.encoder.is_ready()]
        };
        assert_eq!(loaded(&clip), [false, false]);
        let embeddings = clip.encode_text(["cat face"]).unwrap();
        assert_eq!(loaded(&clip), [false, true]);
        let eager = Clip::builder("emoji-clip").build().unwrap();
        assert_eq!(loaded(&eager), [true, true]);
        assert_eq!(eager.encode_text(["cat face"]).unwrap(), embeddings);
        clip.image_encoder().unwrap();
        assert_eq!(loaded(&clip), [true, true]);
    }

    #[test]
    #[cfg(feature = "emoji-clip")]
    fn texts_keep_their_order_whatever_their_length() {
        let clip = Clip::builder("emoji-clip").text_only().build().unwrap();
        let texts = ["an emoji of face with tears of joy", "cat", "", "a red apple", "cat face", "pizza"];
        let raw = clip.encode_text_raw(&texts, 2).unwrap();
        assert_eq!(raw.dims(), [6, clip.text_encoder().unwrap().info().embed_dim]);
        for (text, row) in texts.iter().zip(raw.rows()) {
            let alone = clip.encode_text_raw(&[text], 1).unwrap();
            for (a, b) in row.iter().zip(alone.data()) {
                assert!((a - b).abs() < 1e-4, "{text}: {a} {b}");
            }
        }
        assert_eq!(clip.encode_text_raw(&[], 2).unwrap().dims()[0], 0);
    }
}
