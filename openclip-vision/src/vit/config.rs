//! The `vision_cfg` of native vision transformers, field by field as the reference has it.

use openclip_core::{
    Error, HeightWidth, ModelConfig, Result, TowerConfig,
    backend::Activation,
    nn::{ActivationOptions, BlockSpec, CustomBlock, NormOptions, gelu},
};
use serde::{Deserialize, Serialize};

/// Section name in error messages.
const SECTION: &str = "vision_cfg";

/// Configuration of a [`VisionTransformer`](super::VisionTransformer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VisionTransformerConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Features of a token.
    pub width: usize,
    /// Features of a head; the number of heads is `width / head_width`.
    pub head_width: usize,
    /// Hidden features of the MLP over `width`.
    pub mlp_ratio: f64,
    /// Height and width of a patch in pixels.
    pub patch_size: HeightWidth,
    /// Height and width of the input in pixels.
    pub image_size: HeightWidth,
    /// Initial value of LayerScale; its presence means that blocks have one.
    pub ls_init_value: Option<f64>,
    /// Share of patches dropped in training; inert in inference.
    pub patch_dropout: f64,
    /// Attentional pooling instead of a plain one.
    pub attentional_pool: AttentionalPool,
    /// Queries of attentional pooling.
    pub attn_pooler_queries: usize,
    /// Heads of attentional pooling.
    pub attn_pooler_heads: usize,
    /// No norm before the first block.
    pub no_ln_pre: bool,
    /// Learned or fixed positions.
    pub pos_embed_type: PositionKind,
    /// The final norm follows pooling instead of preceding it. Without effect on attentional pooling.
    pub final_ln_after_pool: bool,
    /// How tokens become one vector.
    pub pool_type: VisionPool,
    /// In the reference: tokens are returned beside the embedding. Here they always are.
    pub output_tokens: bool,
    /// Options of the activation.
    pub act_kwargs: Option<ActivationOptions>,
    /// Options of the norms outside attentional pooling.
    pub norm_kwargs: Option<NormOptions>,
    /// `default` or `custom`; chosen by the options below where absent.
    pub block_type: Option<String>,
    /// Norms on queries and keys.
    pub qk_norm: bool,
    /// Cosine attention; the reference accepts the option and fails when such a model runs.
    pub scaled_cosine_attn: bool,
    /// A learned factor per head.
    pub scale_heads: bool,
    /// A norm before the output projection of attention.
    pub scale_attn_inner: bool,
    /// A norm after attention.
    pub scale_attn: bool,
    /// A norm in the MLP.
    pub scale_fc: bool,
    /// Fields for timm towers, which the reference's one section type has too. Without effect here.
    pub timm_model_pretrained: bool,
    /// See `timm_model_pretrained`.
    pub timm_pool: Option<String>,
    /// See `timm_model_pretrained`.
    pub timm_proj: Option<String>,
    /// See `timm_model_pretrained`.
    pub timm_proj_bias: bool,
    /// See `timm_model_pretrained`.
    pub timm_drop: f64,
    /// See `timm_model_pretrained`.
    pub timm_drop_path: Option<f64>,
    /// The family, where the section names it.
    pub family: Option<String>,
}

impl Default for VisionTransformerConfig {
    fn default() -> Self {
        Self {
            layers: 12,
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: HeightWidth::square(16),
            image_size: HeightWidth::square(224),
            ls_init_value: None,
            patch_dropout: 0.0,
            attentional_pool: AttentionalPool::Switch(false),
            attn_pooler_queries: 256,
            attn_pooler_heads: 8,
            no_ln_pre: false,
            pos_embed_type: PositionKind::Learnable,
            final_ln_after_pool: false,
            pool_type: VisionPool::Tok,
            output_tokens: false,
            act_kwargs: None,
            norm_kwargs: None,
            block_type: None,
            qk_norm: false,
            scaled_cosine_attn: false,
            scale_heads: false,
            scale_attn_inner: false,
            scale_attn: false,
            scale_fc: false,
            timm_model_pretrained: false,
            timm_pool: None,
            timm_proj: None,
            timm_proj_bias: false,
            timm_drop: 0.0,
            timm_drop_path: None,
            family: None,
        }
    }
}

/// `attentional_pool`: off, on, or one of two arrangements of a second pooler with one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttentionalPool {
    /// Off, or one pooler that `pool_type` follows.
    Switch(bool),
    /// Two poolers.
    Pair(PoolerPair),
}

/// How the second pooler, whose output is the embedding, stands to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolerPair {
    /// Beside it, on the transformer's tokens.
    Parallel,
    /// After it, on the first pooler's output.
    Cascade,
}

/// `pos_embed_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PositionKind {
    /// Learned.
    #[serde(rename = "learnable")]
    Learnable,
    /// Sines and cosines of row and column; stored in checkpoints all the same.
    #[serde(rename = "sin_cos_2d")]
    SinCos2d,
}

/// `pool_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisionPool {
    /// The class token.
    Tok,
    /// The mean of the other tokens.
    Avg,
    /// All tokens, each projected.
    None,
}

impl VisionTransformerConfig {
    /// The vision section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let this: Self = config.vision_cfg.parse(SECTION)?;
        let fail = |message: String| Err(Error::config(SECTION, message));
        let [patch, image] = [this.patch_size, this.image_size];
        TowerConfig::check_sizes(
            SECTION,
            &[
                ("layers", this.layers),
                ("width", this.width),
                ("patch_size", patch.height),
                ("patch_size", patch.width),
                ("image_size", image.height),
                ("image_size", image.width),
                ("attn_pooler_queries", this.attn_pooler_queries),
                ("embed_dim", config.embed_dim),
            ],
        )?;
        if image.height < patch.height || image.width < patch.width {
            return fail(format!(
                "image_size {:?} is smaller than one patch {:?}",
                image.to_array(),
                patch.to_array()
            ));
        }
        if this.pos_embed_type == PositionKind::SinCos2d {
            let [rows, columns] = this.grid();
            if rows != columns || !this.width.is_multiple_of(4) {
                return fail(
                    "sin_cos_2d positions need a square grid of patches and a width divisible by 4"
                        .to_owned(),
                );
            }
        }
        if matches!(this.attentional_pool, AttentionalPool::Pair(_)) && this.width != config.embed_dim {
            return fail(format!(
                "attentional_pool `parallel` and `cascade` need width {} to be embed_dim {}",
                this.width, config.embed_dim
            ));
        }
        Ok(this)
    }

    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        [self.image_size.height / self.patch_size.height, self.image_size.width / self.patch_size.width]
    }

    /// The tower's block.
    pub(super) fn block(&self, quick_gelu: bool) -> Result<BlockSpec> {
        let activation: Activation = gelu(SECTION, quick_gelu, self.act_kwargs.as_ref())?;
        let heads = self.width.checked_div(self.head_width).unwrap_or(0);
        let mut block = BlockSpec::new(SECTION, self.width, heads, self.mlp_ratio, activation)?;
        block.attention.norm = self.norms();
        block.layer_scale = self.ls_init_value.is_some();
        let custom = CustomBlock {
            qk_norm: self.qk_norm,
            scaled_cosine_attn: self.scaled_cosine_attn,
            scale_heads: self.scale_heads,
            scale_attn_inner: self.scale_attn_inner,
            scale_attn: self.scale_attn,
            scale_fc: self.scale_fc,
        };
        custom.apply(SECTION, self.block_type.as_deref(), &mut block)?;
        Ok(block)
    }

    /// The tower's norms.
    pub(super) fn norms(&self) -> NormOptions {
        self.norm_kwargs.unwrap_or_default()
    }
}
