//! Text towers that are encoders of `transformers`: BERT, RoBERTa, XLM-RoBERTa, mT5 and M2M100 (NLLB), with the reference's
//! poolers and projections (`HFTextEncoder` of open_clip's `hf_model.py`).
//!
//! Padding is masked everywhere, so what follows a batch's last token isn't computed.

mod config;
mod embeddings;
mod encoder;
mod pooling;
mod relative;

pub use config::{HuggingFaceTextConfig, known_model};
use openclip_core::{
    Backend, ExtraTokens, ModelConfig, Result, StageView, Taps, TextFamily, TextInfo, TextReach, TextTower,
    TowerConfig, TowerOutput, Weights,
    nn::{AttentionContext, Keep, NormPlace, Transformer},
};

use self::{
    embeddings::Embeddings,
    encoder::{EncoderConfig, Kind},
    pooling::{Pooler, Projection},
    relative::RelativeBias,
};

/// The family of Hugging Face towers: every `text_cfg` that names a model of the hub.
#[derive(Clone, Copy, Debug, Default)]
pub struct HuggingFaceTextFamily;

impl TextFamily for HuggingFaceTextFamily {
    fn name(&self) -> &'static str {
        "huggingface"
    }

    fn accepts(&self, text_cfg: &TowerConfig) -> bool {
        match text_cfg.get("family") {
            Some(family) => family.as_str() == Some(self.name()),
            None => text_cfg.get("hf_model_name").is_some_and(|name| !name.is_null()),
        }
    }

    fn info(&self, config: &ModelConfig) -> Result<TextInfo> {
        let text = HuggingFaceTextConfig::of(config)?;
        let encoder = text.encoder()?;
        Ok(TextInfo {
            context_length: text.context_length,
            vocab_size: encoder.vocab_size,
            embed_dim: config.embed_dim,
            reach: TextReach::Unpadded {
                pad_id: encoder.pad_id,
                counts_tokens: matches!(encoder.kind, Kind::Roberta | Kind::M2m100),
            },
            pad_id: Some(encoder.pad_id),
            eos_id: None,
        })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn TextTower<B>>> {
        Ok(Box::new(HuggingFaceText::new(backend, config, w)?))
    }
}

/// A text tower of `transformers`.
pub struct HuggingFaceText<B: Backend> {
    context_length: usize,
    pad_id: u32,
    embeddings: Embeddings<B>,
    relative: Option<RelativeBias<B>>,
    blocks: Transformer<B>,
    /// Behind the blocks, where these have their norms in front.
    norm: Option<B::Norm>,
    pooler: Pooler<B>,
    projection: Projection<B>,
}

impl<B: Backend> HuggingFaceText<B> {
    /// Reads the tower of `config` below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Config`](openclip_core::Error::Config), [`Error::Weights`](openclip_core::Error::Weights).
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let text = HuggingFaceTextConfig::of(config)?;
        let encoder = text.encoder()?;
        let EncoderConfig { kind, width, layers, pad_id, ref block, .. } = encoder;
        let (blocks, norm) = match kind {
            Kind::Bert | Kind::Roberta => ("encoder.layer", None),
            Kind::T5 => ("block", Some("final_layer_norm")),
            Kind::M2m100 => ("layers", Some("layer_norm")),
        };
        debug_assert_eq!(norm.is_some(), block.norm_place == NormPlace::Before);
        let inner = w.scope("transformer");
        let norm =
            norm.map(|name| backend.prepare_norm(&inner.scope(name), &block.attention.norm.spec(width)));
        Ok(Self {
            context_length: text.context_length,
            pad_id,
            embeddings: Embeddings::new(backend, &inner, &encoder, text.context_length)?,
            relative: match kind {
                Kind::T5 => Some(RelativeBias::new(backend, &inner, &encoder, text.context_length)?),
                _ => None,
            },
            blocks: Transformer::new(backend, &inner.scope(blocks), layers, block)?,
            norm: norm.transpose()?,
            pooler: Pooler::new(backend, &inner, &text, &encoder)?,
            projection: Projection::new(backend, w, &text, width, config.embed_dim)?,
        })
    }
}

impl<B: Backend> TextTower<B> for HuggingFaceText<B> {
    fn forward(
        &self,
        backend: &B,
        ids: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let x = self.embeddings.forward(backend, ids)?;
        taps.offer(self.embeddings.name(), &x);
        let padding = backend.padding_bias(ids, self.pad_id)?;
        let bias = match &self.relative {
            Some(relative) => &relative.with_padding(backend, &padding)?,
            None => &padding,
        };
        let context = AttentionContext { bias: Some(bias), rotary: None, longest: self.context_length };
        // Whoever looks inside wants to see all of it.
        let keep = if taps.wants_nothing() { self.pooler.keep() } else { Keep::All };
        let x = self.blocks.forward(backend, x, &context, &keep, taps)?;
        taps.present(backend, &StageView { norm: self.norm.as_ref(), extra: ExtraTokens::None, grid: None })?;
        let x = match &self.norm {
            Some(norm) => backend.norm(&x, norm)?,
            None => x,
        };
        let pooled = self.projection.forward(backend, self.pooler.forward(backend, &x, &padding)?)?;
        let tokens = match keep {
            Keep::All => Some(self.pooler.tokens(backend, x)?),
            Keep::First | Keep::Indexed(_) => None,
        };
        Ok(TowerOutput { pooled, tokens })
    }
}
