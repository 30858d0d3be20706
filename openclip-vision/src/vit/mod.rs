//! The reference's native vision transformer (Dosovitskiy et al., 2021, as CLIP uses it): patches, a class token,
//! positions, pre-norm blocks, pooling, projection.

mod config;
mod positions;

pub use config::{AttentionalPool, PoolerPair, PositionKind, VisionPool, VisionTransformerConfig};
use openclip_core::{
    Backend, Dim, ExtraTokens, HostTensor, ImageFamily, ImageInfo, ImageTower, ModelConfig, Result,
    StageView, Taps, TowerConfig, TowerOutput, Weights,
    backend::{BinaryOp, Conv2dSpec, LinearSpec, Rearrange, ReduceOp},
    nn::{AttentionContext, AttentionalPooler, AttentionalPoolerSpec, Keep, Transformer},
};
pub use positions::resize_positions;

/// The family of native vision transformers: every `vision_cfg` that names neither another family nor a timm model and
/// gives its number of layers as one number.
#[derive(Clone, Copy, Debug, Default)]
pub struct VisionTransformerFamily;

impl ImageFamily for VisionTransformerFamily {
    fn name(&self) -> &'static str {
        "vit"
    }

    fn accepts(&self, vision_cfg: &TowerConfig) -> bool {
        match vision_cfg.get("family") {
            Some(family) => family.as_str() == Some(self.name()),
            None => {
                vision_cfg.get("timm_model_name").is_none()
                    && vision_cfg.get("layers").is_none_or(|layers| !layers.is_array())
            }
        }
    }

    fn info(&self, config: &ModelConfig) -> Result<ImageInfo> {
        let vision = VisionTransformerConfig::of(config)?;
        Ok(ImageInfo { image_size: vision.image_size.to_array(), embed_dim: config.embed_dim })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn ImageTower<B>>> {
        Ok(Box::new(VisionTransformer::new(backend, config, w)?))
    }
}

/// A native vision transformer, its fields named after its parameters.
pub struct VisionTransformer<B: Backend> {
    names: Names,
    /// Rows and columns of patches.
    grid: [usize; 2],
    conv1: B::Conv2d,
    class_embedding: B::Tensor,
    positional_embedding: B::Tensor,
    ln_pre: Option<B::Norm>,
    transformer: Transformer<B>,
    pool: Pool<B>,
    pool_type: VisionPool,
    ln_post: B::Norm,
    proj: B::Linear,
}

/// Full names of the activations that the tower offers, beside those of its blocks.
struct Names {
    conv1: String,
    positional_embedding: String,
    ln_pre: String,
    attn_pool: String,
    attn_pool_contrastive: String,
}

/// What happens between the last block and the projection.
enum Pool<B: Backend> {
    /// The norm, then `pool_type`.
    NormFirst,
    /// `pool_type`, then the norm.
    NormLast,
    /// Attention, the norm, then `pool_type` on the queries.
    Attention(AttentionalPooler<B>),
    /// The norm, then one pooler for tokens and one for the embedding.
    AttentionPair { kind: PoolerPair, tokens: AttentionalPooler<B>, contrastive: AttentionalPooler<B> },
}

impl<B: Backend> VisionTransformer<B> {
    /// Reads the tower of `config` below the scope of `w`.
    ///
    /// # Errors
    /// [`Error::Config`](openclip_core::Error::Config), [`Error::Weights`](openclip_core::Error::Weights).
    pub fn new(backend: &B, config: &ModelConfig, w: &Weights) -> Result<Self> {
        let vision = VisionTransformerConfig::of(config)?;
        let (width, embed_dim) = (vision.width, config.embed_dim);
        let norm = vision.norms();
        let [rows, columns] = vision.grid();
        let positions = [1 + rows * columns, width];
        let resizable = w.adapt("positional_embedding", move |stored| {
            let table = HostTensor::new(stored.info.dims.clone(), stored.to_f32())?;
            resize_positions("positional_embedding", &table, 1, [rows, columns])
        });
        let pooler = |name: &str, queries: usize| {
            let heads = vision.attn_pooler_heads;
            let spec = AttentionalPoolerSpec { width: embed_dim, context_width: width, heads, queries };
            AttentionalPooler::new(backend, &w.scope(name), &spec)
        };
        let pool = match vision.attentional_pool {
            AttentionalPool::Switch(false) if vision.final_ln_after_pool => Pool::NormLast,
            AttentionalPool::Switch(false) => Pool::NormFirst,
            AttentionalPool::Switch(true) => {
                Pool::Attention(pooler("attn_pool", vision.attn_pooler_queries)?)
            }
            AttentionalPool::Pair(kind) => Pool::AttentionPair {
                kind,
                tokens: pooler("attn_pool", vision.attn_pooler_queries)?,
                contrastive: pooler("attn_pool_contrastive", 1)?,
            },
        };
        let pool_width = match vision.attentional_pool {
            AttentionalPool::Switch(false) => width,
            _ => embed_dim,
        };
        Ok(Self {
            names: Names {
                conv1: w.path("conv1"),
                positional_embedding: w.path("positional_embedding"),
                ln_pre: w.path("ln_pre"),
                attn_pool: w.path("attn_pool"),
                attn_pool_contrastive: w.path("attn_pool_contrastive"),
            },
            grid: vision.grid(),
            conv1: backend.prepare_conv2d(
                &w.scope("conv1"),
                &Conv2dSpec::patches(3, width, vision.patch_size.to_array()),
            )?,
            class_embedding: backend.param(w, "class_embedding", &[width])?,
            positional_embedding: backend.param(&resizable, "positional_embedding", &positions)?,
            ln_pre: match vision.no_ln_pre {
                true => None,
                false => Some(backend.prepare_norm(&w.scope("ln_pre"), &norm.spec(width))?),
            },
            transformer: Transformer::new(
                backend,
                &w.scope("transformer.resblocks"),
                vision.layers,
                &vision.block(config.quick_gelu)?,
            )?,
            pool,
            pool_type: vision.pool_type,
            ln_post: backend.prepare_norm(&w.scope("ln_post"), &norm.spec(pool_width))?,
            proj: backend.prepare_linear(w, &LinearSpec::projection("proj", pool_width, embed_dim))?,
        })
    }

    /// Patches with class token and positions: `[N, 3, H, W] -> [N, 1 + grid, width]`.
    fn embed(&self, backend: &B, pixels: &B::Tensor, taps: &mut Taps<B::Tensor>) -> Result<B::Tensor> {
        let patches = backend.conv2d(pixels, &self.conv1)?;
        let patches = backend.rearrange(&patches, Rearrange::SpatialToTokens)?;
        taps.offer(&self.names.conv1, &patches);
        let class = backend.rearrange(&self.class_embedding, Rearrange::Unsqueeze(0))?;
        let class = backend.rearrange(&class, Rearrange::Unsqueeze(0))?;
        let x = backend.cat(&[&backend.expand_batch(&class, &patches)?, &patches], 1)?;
        let x = backend.binary(BinaryOp::Add, &x, &self.positional_embedding)?;
        taps.offer(&self.names.positional_embedding, &x);
        let Some(ln_pre) = &self.ln_pre else { return Ok(x) };
        let x = backend.norm(&x, ln_pre)?;
        taps.offer(&self.names.ln_pre, &x);
        Ok(x)
    }

    /// The tokens that pooling needs of the last block: the class token, or all.
    fn needed(&self) -> Keep<B::Tensor> {
        match (&self.pool, self.pool_type) {
            (Pool::NormFirst | Pool::NormLast, VisionPool::Tok) => Keep::First,
            _ => Keep::All,
        }
    }

    /// `pool_type` applied to `[N, L, width]`, and the tokens that it leaves beside the result.
    fn global_pool(&self, backend: &B, x: B::Tensor) -> Result<TowerOutput<B::Tensor>> {
        if self.pool_type == VisionPool::None {
            return Ok(TowerOutput { pooled: x.clone(), tokens: Some(x) });
        }
        let length = backend.dims(&x).get(1).cloned().unwrap_or(Dim::Fixed(0));
        let (zero, one) = (Dim::Fixed(0), Dim::Fixed(1));
        if length == one && self.pool_type == VisionPool::Tok {
            // The last block has computed the class token alone.
            let pooled = backend.rearrange(&x, Rearrange::Squeeze(1))?;
            return Ok(TowerOutput { pooled, tokens: None });
        }
        let tokens = Some(backend.slice(&x, 1, &one, &length)?);
        let pooled = match self.pool_type {
            VisionPool::Avg => backend.reduce(&backend.slice(&x, 1, &one, &length)?, ReduceOp::Mean, 1)?,
            _ => backend.rearrange(&backend.slice(&x, 1, &zero, &one)?, Rearrange::Squeeze(1))?,
        };
        Ok(TowerOutput { pooled, tokens })
    }

    fn pool(&self, backend: &B, x: B::Tensor, taps: &mut Taps<B::Tensor>) -> Result<TowerOutput<B::Tensor>> {
        match &self.pool {
            Pool::NormFirst => self.global_pool(backend, backend.norm(&x, &self.ln_post)?),
            Pool::NormLast => {
                let TowerOutput { pooled, tokens } = self.global_pool(backend, x)?;
                Ok(TowerOutput { pooled: backend.norm(&pooled, &self.ln_post)?, tokens })
            }
            Pool::Attention(pooler) => {
                let queries = pooler.forward(backend, &x, taps)?;
                taps.offer(&self.names.attn_pool, &queries);
                self.global_pool(backend, backend.norm(&queries, &self.ln_post)?)
            }
            Pool::AttentionPair { kind, tokens, contrastive } => {
                let x = backend.norm(&x, &self.ln_post)?;
                let tokens = tokens.forward(backend, &x, taps)?;
                taps.offer(&self.names.attn_pool, &tokens);
                let context = match kind {
                    PoolerPair::Parallel => &x,
                    PoolerPair::Cascade => &tokens,
                };
                let pooled = contrastive.forward(backend, context, taps)?;
                taps.offer(&self.names.attn_pool_contrastive, &pooled);
                Ok(TowerOutput { pooled, tokens: Some(tokens) })
            }
        }
    }
}

impl<B: Backend> ImageTower<B> for VisionTransformer<B> {
    fn forward(
        &self,
        backend: &B,
        pixels: &B::Tensor,
        taps: &mut Taps<B::Tensor>,
    ) -> Result<TowerOutput<B::Tensor>> {
        let x = self.embed(backend, pixels, taps)?;
        // Whoever looks inside wants to see all of it.
        let keep = if taps.wants_nothing() { self.needed() } else { Keep::All };
        let x = self.transformer.forward(backend, x, &AttentionContext::NONE, &keep, taps)?;
        // Behind an attentional pooler the norm is one of queries.
        let norm = (!matches!(self.pool, Pool::Attention(_))).then_some(&self.ln_post);
        taps.present(backend, &StageView { norm, extra: ExtraTokens::Before(1), grid: Some(self.grid) })?;
        let TowerOutput { pooled, tokens } = self.pool(backend, x, taps)?;
        Ok(TowerOutput { pooled: backend.linear(&pooled, &self.proj)?, tokens })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openclip_core::{
        CheckpointConfig, Symbol,
        backend::{ShapeBackend, ShapeTensor},
        weights::synth::SynthesisedWeights,
    };

    use super::*;

    /// The dimensions of embedding, tokens and offered activations for a batch of unknown size.
    fn dimensions(vision_cfg: &str) -> Result<(String, String, Vec<String>)> {
        let json = format!(r#"{{"embed_dim": 24, "text_cfg": {{}}, "vision_cfg": {vision_cfg}}}"#);
        let config = CheckpointConfig::from_json("test", &json)?.model_cfg;
        let [height, width] = VisionTransformerFamily.info(&config)?.image_size;
        let w = Weights::new(Arc::new(SynthesisedWeights::new())).scope("visual");
        let tower = VisionTransformerFamily.build(&ShapeBackend, &config, &w)?;
        let pixels = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), 3.into(), height.into(), width.into()]);
        let mut taps = Taps::everything();
        let TowerOutput { pooled, tokens } = tower.forward(&ShapeBackend, &pixels, &mut taps)?;
        let show = |tensor: &ShapeTensor| openclip_core::DisplayDims(&tensor.0).to_string();
        let taps = taps.into_found()?.into_iter().map(|(name, tensor)| format!("{name} {}", show(&tensor)));
        let cut = tower.forward(&ShapeBackend, &pixels, &mut Taps::none())?;
        assert_eq!(cut.pooled, pooled);
        Ok((show(&pooled), tokens.as_ref().map(show).unwrap_or_default(), taps.collect()))
    }

    #[test]
    fn the_batch_size_is_never_read() {
        let common = r#""image_size": [32, 48], "patch_size": 8, "width": 32, "head_width": 16, "layers": 2"#;
        for (options, pooled, tokens) in [
            ("", "[batch, 24]", "[batch, 24, 32]"),
            (r#", "pool_type": "avg", "final_ln_after_pool": true"#, "[batch, 24]", "[batch, 24, 32]"),
            (r#", "pool_type": "none""#, "[batch, 25, 24]", "[batch, 25, 32]"),
            (r#", "attentional_pool": true, "attn_pooler_queries": 5"#, "[batch, 24]", "[batch, 4, 24]"),
            (r#", "qk_norm": true, "scale_heads": true, "scale_fc": true"#, "[batch, 24]", "[batch, 24, 32]"),
        ] {
            let found = dimensions(&format!("{{{common}{options}}}")).unwrap();
            assert_eq!((found.0.as_str(), found.1.as_str()), (pooled, tokens), "{options}");
        }
        let (_, _, taps) = dimensions(&format!("{{{common}, \"no_ln_pre\": true}}")).unwrap();
        assert_eq!(
            taps,
            [
                "visual.conv1 [batch, 24, 32]",
                "visual.positional_embedding [batch, 25, 32]",
                "visual.transformer.resblocks.0 [batch, 25, 32]",
                "visual.transformer.resblocks.1 [batch, 25, 32]",
            ]
        );
    }

    #[test]
    fn contradictions_are_named() {
        for (vision_cfg, part) in [
            (r#"{"no_such_field": 1}"#, "no_such_field"),
            (r#"{"pool_type": "last"}"#, "last"),
            (r#"{"width": 100, "head_width": 14}"#, "7 heads"),
            (r#"{"head_width": 1000}"#, "0 heads"),
            (r#"{"head_width": 0}"#, "0 heads"),
            (r#"{"patch_size": 0}"#, "patch_size"),
            (r#"{"patch_size": 300}"#, "smaller than one patch"),
            (r#"{"layers": 0}"#, "`layers` is 0"),
            (r#"{"width": 18446744073709551615, "head_width": 1}"#, "`width`"),
            (r#"{"mlp_ratio": -1.0}"#, "mlp_ratio"),
            (r#"{"attentional_pool": "parallel"}"#, "embed_dim 24"),
            (r#"{"attentional_pool": true, "attn_pooler_heads": 7}"#, "7 attn_pooler_heads"),
            (r#"{"pos_embed_type": "sin_cos_2d", "image_size": [32, 64]}"#, "square grid"),
            (r#"{"scaled_cosine_attn": true}"#, "scaled_cosine_attn"),
            (r#"{"act_kwargs": {"approximate": "sinh"}}"#, "sinh"),
            (r#"{"norm_kwargs": {"momentum": 1}}"#, "momentum"),
        ] {
            let error = dimensions(vision_cfg).unwrap_err().to_string();
            assert!(error.starts_with("configuration vision_cfg: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_depth_that_no_model_has_is_refused_at_once() {
        let error = dimensions(r#"{"layers": 16000000}"#).unwrap_err().to_string();
        assert!(error.contains("16000000 layers are too many"), "{error}");
    }

    #[test]
    fn sections_of_other_families_are_left_to_them() {
        let accepts = |vision_cfg: &str| {
            VisionTransformerFamily.accepts(&serde_json::from_str::<TowerConfig>(vision_cfg).unwrap())
        };
        assert!(accepts("{}") && accepts(r#"{"family": "vit", "layers": 3}"#));
        for other in [r#"{"layers": [3, 4, 6, 3]}"#, r#"{"timm_model_name": "x"}"#, r#"{"family": "mixer"}"#]
        {
            assert!(!accepts(other), "{other}");
        }
    }
}
