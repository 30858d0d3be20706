//! The `text_cfg` of native text transformers, field by field as the reference has it.

use openclip_core::{
    Error, ModelConfig, Result, TextReach, TowerConfig,
    backend::TokenPosition,
    nn::{ActivationOptions, BlockSpec, CustomBlock, NormOptions, gelu},
};
use serde::{Deserialize, Serialize};

/// Section name in error messages.
const SECTION: &str = "text_cfg";

/// Configuration of a [`TextTransformer`](super::TextTransformer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextTransformerConfig {
    /// Tokens per text.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The Hugging Face tokenizer, where it isn't CLIP's own.
    pub hf_tokenizer_name: Option<String>,
    /// In the reference: another kind of tokenizer.
    pub tokenizer_mode: Option<String>,
    /// Arguments of the tokenizer.
    pub tokenizer_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
    /// Features of a token.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Hidden features of the MLP over `width`.
    pub mlp_ratio: f64,
    /// Initial value of LayerScale; its presence means that blocks have one.
    pub ls_init_value: Option<f64>,
    /// A class token after the text's own tokens (CoCa), whose output is the embedding.
    pub embed_cls: bool,
    /// Id of padding; matters with `embed_cls` only.
    pub pad_id: u32,
    /// Id of the end-of-text token; matters for `pool_type` `eos` only.
    pub eos_id: u32,
    /// Every token sees every other.
    pub no_causal_mask: bool,
    /// Accepted and without effect, as in the reference.
    pub final_ln_after_pool: bool,
    /// How tokens become one vector.
    pub pool_type: TextPool,
    /// The projection has a bias.
    pub proj_bias: bool,
    /// `none` for no projection, anything else for a linear one.
    pub proj_type: String,
    /// In the reference: tokens are returned beside the embedding. Here they always are.
    pub output_tokens: bool,
    /// Options of the activation.
    pub act_kwargs: Option<ActivationOptions>,
    /// Options of the norms.
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
    /// Fields for Hugging Face towers, which the reference's one section type has too. Without effect here.
    pub hf_model_pretrained: bool,
    /// See `hf_model_pretrained`.
    pub hf_proj_type: Option<String>,
    /// See `hf_model_pretrained`.
    pub hf_pooler_type: Option<String>,
    /// The family, where the section names it.
    pub family: Option<String>,
}

impl Default for TextTransformerConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49408,
            hf_tokenizer_name: None,
            tokenizer_mode: None,
            tokenizer_kwargs: None,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            ls_init_value: None,
            embed_cls: false,
            pad_id: 0,
            eos_id: 2,
            no_causal_mask: false,
            final_ln_after_pool: false,
            pool_type: TextPool::Argmax,
            proj_bias: false,
            proj_type: "linear".to_owned(),
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
            hf_model_pretrained: true,
            hf_proj_type: None,
            hf_pooler_type: None,
            family: None,
        }
    }
}

/// `pool_type`: the token whose output is the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPool {
    /// The first token with the highest id.
    Argmax,
    /// The first token.
    First,
    /// The last token, padding or not.
    Last,
    /// The first token with `eos_id`; the first token of a text without one.
    Eos,
    /// All tokens, each projected.
    None,
}

impl TextTransformerConfig {
    /// The text section of `config`, checked for contradictions.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let this: Self = config.text_cfg.parse(SECTION)?;
        TowerConfig::check_sizes(
            SECTION,
            &[
                ("context_length", this.context_length),
                ("vocab_size", this.vocab_size),
                ("width", this.width),
                ("layers", this.layers),
                ("embed_dim", config.embed_dim),
            ],
        )?;
        if this.embed_cls && !config.custom_text {
            let message = "embed_cls needs `\"custom_text\": true`: the reference's CLIP class fails on it";
            return Err(Error::config(SECTION, message));
        }
        Ok(this)
    }

    /// Whether the text features are projected into the joint space.
    pub fn has_projection(&self) -> bool {
        self.proj_type != "none"
    }

    /// Number of positions: those of a text, and one for the class token.
    pub fn positions(&self) -> usize {
        self.context_length + usize::from(self.embed_cls)
    }

    /// How far into a text the tower looks. A class token at the end looks at everything.
    pub fn reach(&self) -> TextReach {
        match self.pool_type {
            _ if self.no_causal_mask || self.embed_cls => TextReach::Whole,
            TextPool::Argmax => TextReach::To(TokenPosition::HighestId),
            TextPool::Eos => TextReach::To(TokenPosition::First(self.eos_id)),
            TextPool::First | TextPool::Last | TextPool::None => TextReach::Whole,
        }
    }

    /// The tower's block.
    pub(super) fn block(&self, quick_gelu: bool) -> Result<BlockSpec> {
        let activation = gelu(SECTION, quick_gelu, self.act_kwargs.as_ref())?;
        let mut block = BlockSpec::new(SECTION, self.width, self.heads, self.mlp_ratio, activation)?;
        block.attention.norm = self.norms();
        block.attention.causal = !self.no_causal_mask;
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
