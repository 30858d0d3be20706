//! The reference's native text transformer: token and position embeddings, pre-norm blocks, causal or not, pooling,
//! projection.

mod config;
mod positions;

pub use config::{TextPool, TextTransformerConfig};
use openclip_core::{
    Backend, Dim, Error, ExtraTokens, HostTensor, ModelConfig, Result, StageView, Taps, TextFamily, TextInfo,
    TextTower, TowerConfig, TowerOutput, Weights,
    backend::{BinaryOp, EmbeddingSpec, LinearSpec, Rearrange, TokenPosition},
    nn::{AttentionContext, Extended, Keep, KeyValues, Transformer},
};
pub use positions::resize_positions;

/// The family of native text transformers: every `text_cfg` that names neither another family nor a Hugging Face model.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextTransformerFamily;

impl TextFamily for TextTransformerFamily {
    fn name(&self) -> &'static str {
        "transformer"
    }

    fn accepts(&self, text_cfg: &TowerConfig) -> bool {
        match text_cfg.get("family") {
            Some(family) => family.as_str() == Some(self.name()),
            None => text_cfg.get("hf_model_name").is_none(),
        }
    }

    fn info(&self, config: &ModelConfig) -> Result<TextInfo> {
        let text = TextTransformerConfig::of(config)?;
        let embed_dim = if text.has_projection() { config.embed_dim } else { text.width };
        Ok(TextInfo {
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            embed_dim,
            reach: text.reach(),
            pad_id: text.embed_cls.then_some(text.pad_id),
            eos_id: (text.pool_type == TextPool::Eos).then_some(text.eos_id),
        })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn TextTower<B>>> {
        Ok(Box::new(TextTransformer::new(backend, config, w)?))
    }
}

/// A native text transformer, its fields named after its parameters.
pub struct TextTransformer<B: Backend> {
    embedding_name: String,
    token_embedding: B::Embedding,
    positional_embedding: B::Tensor,
    class: Option<ClassToken<B>>,
    /// Positions that there are.
    positions: usize,
    transformer: Transformer<B>,
    ln_final: B::Norm,
    pool: TextPool,
    eos_id: u32,
    text_projection: Option<B::Linear>,
}

/// The class token that CoCa appends to a text, and how padding is hidden along with it.
struct ClassToken<B: Backend> {
    cls_emb: B::Tensor,
    pad_id: u32,
    /// Zero `[1, 1, 1, 1]`: the bias of a token that is never hidden.
    visible: B::Tensor,
}

impl<B: Backend> TextTransformer<B> {
    /// Reads the tower of `config` below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Weights`].
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let text = TextTransformerConfig::of(config)?;
        let width = text.width;
        let positions = text.positions();
        let resizable = w.adapt("positional_embedding", move |stored| match stored.info.dims.as_slice() {
            [_, stored_width] if *stored_width == width => {
                let table = HostTensor::new(stored.info.dims.clone(), stored.to_f32())?;
                resize_positions(&table, positions)
            }
            dims => Err(Error::shape("positional_embedding", format!("[.., {width}]"), format!("{dims:?}"))),
        });
        let projection = LinearSpec::new(width, config.embed_dim).unquantized();
        let text_projection = match (text.has_projection(), text.proj_bias) {
            (false, _) => None,
            (true, true) => Some(backend.prepare_linear(&w.scope("text_projection"), &projection)?),
            (true, false) => {
                let projection = LinearSpec::projection("text_projection", width, config.embed_dim);
                Some(backend.prepare_linear(w, &projection)?)
            }
        };
        Ok(Self {
            embedding_name: w.path("positional_embedding"),
            token_embedding: backend.prepare_embedding(
                &w.scope("token_embedding"),
                &EmbeddingSpec { count: text.vocab_size, features: width },
            )?,
            positional_embedding: backend.param(&resizable, "positional_embedding", &[positions, width])?,
            positions,
            class: match text.embed_cls {
                true => Some(ClassToken {
                    cls_emb: backend.param(w, "cls_emb", &[width])?,
                    pad_id: text.pad_id,
                    visible: backend.constant(&HostTensor::zeros([1, 1, 1, 1]))?,
                }),
                false => None,
            },
            transformer: Transformer::new(
                backend,
                &w.scope("transformer.resblocks"),
                text.layers,
                &text.block(config.quick_gelu)?,
            )?,
            ln_final: backend.prepare_norm(&w.scope("ln_final"), &text.norms().spec(width))?,
            pool: text.pool_type,
            eos_id: text.eos_id,
            text_projection,
        })
    }

    /// Token and position embeddings, and the bias that hides padding: `[N, L] -> [N, L', width]`.
    fn embed(&self, backend: &B, ids: &B::Tensor) -> Result<(B::Tensor, Option<B::Tensor>)> {
        let mut x = backend.embed(ids, &self.token_embedding)?;
        let mut bias = None;
        if let Some(class) = &self.class {
            let token = backend.rearrange(&class.cls_emb, Rearrange::Unsqueeze(0))?;
            let token = backend.rearrange(&token, Rearrange::Unsqueeze(0))?;
            x = backend.cat(&[&x, &backend.expand_batch(&token, &x)?], 1)?;
            // The published CoCa weights were trained with the class token's place at the *front* of this mask although
            // the token itself stands at the end, so every key is judged by the id to its left.
            let padding = backend.padding_bias(ids, class.pad_id)?;
            let visible = backend.expand_batch(&class.visible, &x)?;
            bias = Some(backend.cat(&[&visible, &padding], 3)?);
        }
        let length = token_count(backend, &x);
        let positions = backend.slice(&self.positional_embedding, 0, &Dim::Fixed(0), &length)?;
        Ok((backend.binary(BinaryOp::Add, &x, &positions)?, bias))
    }

    /// The token that is pooled, where it is one that is known before the last block.
    fn pooled_token(&self, backend: &B, ids: &B::Tensor) -> Result<Keep<B::Tensor>> {
        let indexed = |which| backend.token_position(ids, which).map(Keep::Indexed);
        match self.pool {
            _ if self.class.is_some() => Ok(Keep::All),
            TextPool::First => Ok(Keep::First),
            TextPool::Argmax => indexed(TokenPosition::HighestId),
            TextPool::Eos => indexed(TokenPosition::First(self.eos_id)),
            TextPool::Last | TextPool::None => Ok(Keep::All),
        }
    }

    /// Tokens of a causal tower that come behind others, as the tower leaves them beside its embedding; a class token isn't
    /// among them. `positions` picks each token's position by a one-hot row, `bias` alone says who sees whom, and `known` are
    /// keys and values of the tokens before, block by block. Gives those of all tokens beside the output.
    ///
    /// # Shapes
    /// Ids `[N, S]`, `positions [N, S, positions]`, `bias [N, 1, S, P + S]` to `[N, S, width]`.
    ///
    /// # Errors
    /// As [`Backend`]'s methods.
    pub fn extend(
        &self,
        backend: &B,
        ids: &B::Tensor,
        positions: &B::Tensor,
        bias: &B::Tensor,
        known: &[KeyValues<B::Tensor>],
    ) -> Result<Extended<B::Tensor>> {
        let table = backend.rearrange(&self.positional_embedding, Rearrange::Unsqueeze(0))?;
        let positions = backend.matmul(positions, &backend.expand_batch(&table, positions)?)?;
        let x = backend.binary(BinaryOp::Add, &backend.embed(ids, &self.token_embedding)?, &positions)?;
        let Extended { output, known } = self.transformer.extend(backend, x, known, bias)?;
        let output = match self.class {
            Some(_) => output,
            None => backend.norm(&output, &self.ln_final)?,
        };
        Ok(Extended { output, known })
    }

    /// The last token: `[N, L, width] -> [N, width]`.
    fn last_token(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let length = token_count(backend, x);
        let last = length
            .checked_sub(&Dim::Fixed(1))
            .ok_or_else(|| Error::shape("encode_text", "at least one token", "none"))?;
        backend.rearrange(&backend.slice(x, 1, &last, &length)?, Rearrange::Squeeze(1))
    }
}

fn token_count<B: Backend>(backend: &B, x: &B::Tensor) -> Dim {
    backend.dims(x).get(1).cloned().unwrap_or(Dim::Fixed(0))
}

impl<B: Backend> TextTower<B> for TextTransformer<B> {
    fn forward(
        &self,
        backend: &B,
        ids: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let (x, bias) = self.embed(backend, ids)?;
        taps.offer(&self.embedding_name, &x);
        let token = self.pooled_token(backend, ids)?;
        // Whoever looks inside wants to see all of it.
        let keep = if taps.wants_nothing() { &token } else { &Keep::All };
        let context = AttentionContext { bias: bias.as_ref(), rotary: None, longest: self.positions };
        let x = self.transformer.forward(backend, x, &context, keep, taps)?;
        let extra = ExtraTokens::Behind(usize::from(self.class.is_some()));
        taps.present(backend, &StageView { norm: Some(&self.ln_final), extra, grid: None })?;
        let (pooled, tokens) = if self.class.is_some() {
            let last = self.last_token(backend, &x)?;
            let length = token_count(backend, &x).checked_sub(&Dim::Fixed(1)).unwrap_or(Dim::Fixed(0));
            let tokens = backend.slice(&x, 1, &Dim::Fixed(0), &length)?;
            (backend.norm(&last, &self.ln_final)?, Some(tokens))
        } else {
            let x = backend.norm(&x, &self.ln_final)?;
            match (self.pool, &token, keep) {
                (TextPool::Last, ..) => (self.last_token(backend, &x)?, Some(x)),
                (_, Keep::All, _) => (x.clone(), Some(x)),
                (_, token, Keep::All) => {
                    let pooled = token.apply(backend, x.clone())?;
                    (backend.rearrange(&pooled, Rearrange::Squeeze(1))?, Some(x))
                }
                // The last block has computed that token alone.
                _ => (backend.rearrange(&x, Rearrange::Squeeze(1))?, None),
            }
        };
        let pooled = match &self.text_projection {
            Some(projection) => backend.linear(&pooled, projection)?,
            None => pooled,
        };
        Ok(TowerOutput { pooled, tokens })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openclip_core::{
        CheckpointConfig, DisplayDims, Symbol,
        backend::{ShapeBackend, ShapeTensor},
        weights::synth::SynthesisedWeights,
    };

    use super::*;

    /// The dimensions of embedding and tokens for a batch and a length that are unknown.
    fn dimensions(text_cfg: &str) -> Result<[String; 2]> {
        let json = format!(
            r#"{{"embed_dim": 24, "vision_cfg": {{}}, "custom_text": true, "text_cfg": {text_cfg}}}"#
        );
        let config = CheckpointConfig::from_json("test", &json)?.model_cfg;
        let w = Weights::new(Arc::new(SynthesisedWeights::new())).scope("text");
        let tower = TextTransformerFamily.build(&ShapeBackend, &config, &w)?;
        let ids = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), Dim::symbol(Symbol::SEQUENCE)]);
        let show = |tensor: ShapeTensor| DisplayDims(&tensor.0).to_string();
        let cut = tower.forward(&ShapeBackend, &ids, &mut Taps::none())?;
        let whole = tower.forward(&ShapeBackend, &ids, &mut Taps::everything())?;
        assert_eq!(cut.pooled, whole.pooled);
        Ok([show(whole.pooled), whole.tokens.map(show).unwrap_or_default()])
    }

    #[test]
    fn neither_batch_size_nor_length_is_read() {
        let common = r#""width": 32, "heads": 4, "layers": 2, "vocab_size": 99"#;
        for (options, pooled, tokens) in [
            ("", "[batch, 24]", "[batch, sequence, 32]"),
            (r#", "pool_type": "last", "no_causal_mask": true"#, "[batch, 24]", "[batch, sequence, 32]"),
            (r#", "pool_type": "first", "proj_bias": true"#, "[batch, 24]", "[batch, sequence, 32]"),
            (r#", "pool_type": "eos", "proj_type": "none""#, "[batch, 32]", "[batch, sequence, 32]"),
            (r#", "pool_type": "none""#, "[batch, sequence, 24]", "[batch, sequence, 32]"),
            (r#", "embed_cls": true, "pad_id": 1"#, "[batch, 24]", "[batch, sequence, 32]"),
        ] {
            assert_eq!(dimensions(&format!("{{{common}{options}}}")).unwrap(), [pooled, tokens], "{options}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (text_cfg, part) in [
            (r#"{"no_such_field": 1}"#, "no_such_field"),
            (r#"{"pool_type": "tok"}"#, "tok"),
            (r#"{"heads": 7}"#, "7 heads"),
            (r#"{"heads": 0}"#, "0 heads"),
            (r#"{"layers": 0}"#, "layers"),
            (r#"{"vocab_size": -3}"#, "-3"),
            (r#"{"scaled_cosine_attn": true}"#, "scaled_cosine_attn"),
        ] {
            let error = dimensions(text_cfg).unwrap_err().to_string();
            assert!(error.starts_with("configuration text_cfg: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_class_token_needs_the_custom_layout() {
        let json = r#"{"embed_dim": 24, "vision_cfg": {}, "text_cfg": {"embed_cls": true}}"#;
        let config = CheckpointConfig::from_json("test", json).unwrap().model_cfg;
        assert!(TextTransformerConfig::of(&config).unwrap_err().to_string().contains("custom_text"));
    }
}
