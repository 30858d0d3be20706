//! What a tower computes on the way to an embedding: the outputs of its stages (the reference's `forward_intermediates`) and
//! attention maps.

use openclip_core::{EXTRA_TOKENS, HostTensor, Indices, Taps};

use super::{AsImage, Clip, Embedding};
use crate::{Error, Result};

/// The output of a stage: of transformers a block, of convolutional towers the blocks at one resolution.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The module's name, such as `visual.transformer.resblocks.3`.
    pub name: String,
    /// Of images a feature map for each, `[N, C, H, W]`; of texts their tokens, `[N, L, C]`.
    pub features: HostTensor,
    /// Tokens that stand for no place of the input, such as the class token: `[N, E, C]`.
    pub extra_tokens: Option<HostTensor>,
}

/// The attention weights of a block or of an attentional pooler.
#[derive(Clone, Debug)]
pub struct AttentionMap {
    /// The block's name with `.attn.weights` behind it.
    pub name: String,
    /// `[N, heads, Lq, L]`: how much of each token's value (last axis) goes to each query. A block's queries are its tokens,
    /// those that stand for no place included; a pooler's are learned.
    pub weights: HostTensor,
}

impl Clip {
    /// The embedding of an image, and the outputs of the stages that `indices` selects. If `normalized`, they have gone
    /// through the norm that stands behind the last stage, in towers where it applies to tokens.
    ///
    /// # Errors
    /// Those of [`encode_image`](Self::encode_image); [`Error::Core`] for an index that the tower doesn't have, and for ONNX
    /// models, which give embeddings only.
    pub fn image_intermediates(
        &self,
        image: &impl AsImage,
        indices: &Indices,
        normalized: bool,
    ) -> Result<(Embedding, Vec<Stage>)> {
        let (embedding, found) = self.look_into_image(image, Taps::stages(indices.clone(), normalized))?;
        Ok((embedding, stages(found)))
    }

    /// The embeddings of texts, and the outputs of the stages that `indices` selects, at the texts' full length.
    ///
    /// # Errors
    /// Those of [`encode_text`](Self::encode_text) and [`image_intermediates`](Self::image_intermediates).
    pub fn text_intermediates<T: AsRef<str>>(
        &self,
        texts: &[T],
        indices: &Indices,
        normalized: bool,
    ) -> Result<(Vec<Embedding>, Vec<Stage>)> {
        let (embeddings, found) = self.look_into_texts(texts, Taps::stages(indices.clone(), normalized))?;
        Ok((embeddings, stages(found)))
    }

    /// The attention maps of the blocks that `indices` selects, `N` being one. An attentional pooler counts as a further
    /// block; towers without attention to all tokens (ConvNeXt, Swin, FastViT, ResNet) have none.
    ///
    /// # Errors
    /// As [`image_intermediates`](Self::image_intermediates).
    pub fn image_attention(&self, image: &impl AsImage, indices: &Indices) -> Result<Vec<AttentionMap>> {
        let (_, found) = self.look_into_image(image, Taps::attention_maps(indices.clone()))?;
        Ok(maps(found))
    }

    /// The attention maps of the blocks that `indices` selects, at the texts' full length.
    ///
    /// # Errors
    /// As [`text_intermediates`](Self::text_intermediates).
    pub fn text_attention<T: AsRef<str>>(&self, texts: &[T], indices: &Indices) -> Result<Vec<AttentionMap>> {
        let (_, found) = self.look_into_texts(texts, Taps::attention_maps(indices.clone()))?;
        Ok(maps(found))
    }

    fn look_into_image(&self, image: &impl AsImage, taps: Taps<HostTensor>) -> Result<(Embedding, Found)> {
        let side = self.image_side()?;
        let pixels = side.preprocessor.prepare(&image.as_image())?;
        let dims = [&[1], pixels.dims()].concat();
        let (raw, found) = side.encoder.get()?.encode_with_taps(&pixels.reshape(dims)?, taps)?;
        let embedding =
            self.embeddings(raw)?.pop().ok_or_else(|| Error::NotPooled { model: self.name.clone() })?;
        Ok((embedding, found))
    }

    fn look_into_texts<T: AsRef<str>>(
        &self,
        texts: &[T],
        taps: Taps<HostTensor>,
    ) -> Result<(Vec<Embedding>, Found)> {
        let side = self.text_side()?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let tokens = side.tokenizer.tokenize(&texts)?;
        let (raw, found) = side.encoder.get()?.encode_with_taps(&tokens, taps)?;
        Ok((self.embeddings(raw)?, found))
    }
}

/// Values by name.
type Found = Vec<(String, HostTensor)>;

/// Pairs stages with the tokens beside them, which follow them.
fn stages(found: Found) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for (name, values) in found {
        match stages.last_mut().filter(|_| name.ends_with(EXTRA_TOKENS)) {
            Some(stage) => stage.extra_tokens = Some(values),
            None => stages.push(Stage { name, features: values, extra_tokens: None }),
        }
    }
    stages
}

fn maps(found: Found) -> Vec<AttentionMap> {
    found.into_iter().map(|(name, weights)| AttentionMap { name, weights }).collect()
}

#[cfg(test)]
#[cfg(feature = "emoji-clip")]
mod tests {
    use openclip_vision::preprocess::DecodedImage;
    use openclip_zoo::emoji_clip::SAMPLE_IMAGES;

    use super::*;

    #[test]
    fn stages_and_maps_are_those_of_the_blocks() {
        let clip = Clip::builder("emoji-clip").build().unwrap();
        let image = DecodedImage::from_bytes("sample", SAMPLE_IMAGES[0].png).unwrap();
        let (embedding, stages) = clip.image_intermediates(&image, &Indices::All, false).unwrap();
        assert!(embedding.cosine(&clip.encode_image(&image).unwrap()) > 0.999_999);
        let &[1, width, height, columns] = stages[0].features.dims() else { panic!("{stages:?}") };
        assert_eq!(stages[0].extra_tokens.as_ref().unwrap().dims(), [1, 1, width]);
        let (_, last) = clip.image_intermediates(&image, &Indices::At(vec![-1]), false).unwrap();
        assert_eq!((last.len(), &last[0].name), (1, &stages.last().unwrap().name));
        assert_eq!(last[0].features, stages.last().unwrap().features);
        let maps = clip.image_attention(&image, &Indices::All).unwrap();
        assert_eq!(maps.len(), stages.len());
        let length = 1 + height * columns;
        let &[1, _, queries, keys] = maps[0].weights.dims() else { panic!("{:?}", maps[0].weights.dims()) };
        assert_eq!([queries, keys], [length; 2]);
        for row in maps[0].weights.data().chunks(keys) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let error = clip.image_attention(&image, &Indices::At(vec![99])).unwrap_err().to_string();
        assert!(error.contains("no index 99"), "{error}");
    }

    #[test]
    fn texts_keep_their_whole_length() {
        let clip = Clip::builder("emoji-clip").text_only().build().unwrap();
        let texts = ["cat", "an emoji of cat face"];
        let (embeddings, stages) = clip.text_intermediates(&texts, &Indices::Last(1), true).unwrap();
        for (found, expected) in embeddings.iter().zip(clip.encode_text(texts).unwrap()) {
            assert!(found.cosine(&expected) > 0.999_999);
        }
        let length = clip.text_encoder().unwrap().info().context_length;
        assert_eq!(stages[0].features.dims()[..2], [2, length]);
        let maps = clip.text_attention(&texts, &Indices::At(vec![0])).unwrap();
        assert_eq!(maps[0].weights.dims()[2..], [length; 2]);
        // Nobody sees what comes later.
        assert_eq!(maps[0].weights.data()[1], 0.0);
    }
}
