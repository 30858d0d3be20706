//! What tells timm's transformers apart.

use openclip_core::{
    Error, Result,
    backend::Activation,
    nn::{AttentionNames, BlockNames, BlockSpec, MlpNames, NormOptions, NormPlace},
};

use super::{
    super::{
        config::{ActivationLayer, SECTION, TimmConfig},
        pool::Reduction,
        rope::RopeSpec,
        trunk::TrunkOptions,
    },
    stem::StemKind,
};

/// An architecture.
#[derive(Debug)]
pub(in crate::timm) struct TransformerSpec {
    /// Pixels along a side of a patch.
    pub(super) patch: usize,
    /// How an image becomes patches.
    pub(super) stem: StemKind,
    /// Features of a token.
    pub(super) width: usize,
    /// Number of blocks.
    pub(super) depth: usize,
    /// Number of heads.
    pub(super) heads: usize,
    /// Hidden features of the MLP over `width`.
    pub(super) mlp_ratio: f64,
    /// Activation of MLPs that aren't gated.
    pub(super) activation: Activation,
    /// MLPs gated by SiLU, with a norm inside.
    pub(super) swiglu: bool,
    /// How queries, keys and values are stored.
    pub(super) qkv: Qkv,
    /// A norm before the output projection of attention.
    pub(super) inner_norm: bool,
    /// Where the norms of a block stand.
    pub(super) norm_place: NormPlace,
    /// Epsilon of all norms.
    pub(super) eps: f64,
    /// Learned factors on the residual branches.
    pub(super) layer_scale: bool,
    /// Whether there is a class token.
    pub(super) class_token: bool,
    /// Where tokens learn their places from.
    pub(super) positions: Positions,
    /// Turned queries and keys.
    pub(super) rope: Option<RopeSpec>,
    /// A norm before the first block; patches have no bias then.
    pub(super) pre_norm: bool,
    /// How tokens are pooled unless the configuration says otherwise.
    pub(super) pool: PoolKind,
    /// Whether the last norm follows pooling; where absent, it does with pools other than of one token.
    pub(super) norm_last: Option<bool>,
    /// Attentional pooling sees the class token, too.
    pub(super) pool_sees_class: bool,
    /// Heads of attentional pooling, where they aren't `heads`.
    pub(super) pool_heads: Option<usize>,
    /// Hidden features of attentional pooling's MLP over `width`, where they aren't `mlp_ratio`.
    pub(super) pool_mlp_ratio: Option<f64>,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Qkv {
    /// `qkv` with weight and bias.
    Packed,
    /// `qkv` with a weight only.
    PackedUnbiased,
    /// A packed weight, `q_bias` and `v_bias`.
    PackedWithoutKeyBias,
    /// `q_proj`, `k_proj` without a bias, `v_proj`.
    Apart,
}

/// Where tokens learn their places from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Positions {
    /// A table for all tokens.
    Learned,
    /// A table for patches, not for the class token.
    LearnedOfPatches,
    /// A bias of the scores, from the distance of two patches by an MLP of `hidden` features.
    Relative { hidden: usize },
}

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolKind {
    /// The class token.
    Token,
    /// The patches reduced.
    Reduced(Reduction),
    /// Attention of one learned query.
    Attention,
}

/// Pooling as a configuration asks for it.
pub(super) struct Pooling {
    pub(super) kind: PoolKind,
    /// The last norm follows it.
    pub(super) norm_last: bool,
}

/// A plain vision transformer with a class token, which architectures differ from.
pub(super) const VIT: TransformerSpec = TransformerSpec {
    patch: 16,
    stem: StemKind::Patches,
    width: 768,
    depth: 12,
    heads: 12,
    mlp_ratio: 4.0,
    activation: Activation::GeluErf,
    swiglu: false,
    qkv: Qkv::Packed,
    inner_norm: false,
    norm_place: NormPlace::Before,
    eps: 1e-6,
    layer_scale: false,
    class_token: true,
    positions: Positions::Learned,
    rope: None,
    pre_norm: false,
    pool: PoolKind::Token,
    norm_last: None,
    pool_sees_class: false,
    pool_heads: None,
    pool_mlp_ratio: None,
};

impl TransformerSpec {
    /// Features that the trunk gives where its classifier isn't kept.
    pub(in crate::timm) fn features(&self) -> usize {
        self.width
    }

    /// Features of a head.
    pub(super) fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Rows and columns of patches. Pixels that are too few for a patch are left out at the right and at the bottom.
    pub(super) fn grid(&self, config: &TimmConfig) -> Result<[usize; 2]> {
        let size = config.image_size.to_array();
        let grid = size.map(|pixels| pixels / self.patch);
        if grid.contains(&0) {
            let message = format!("image_size {size:?} is smaller than one patch of {}", self.patch);
            return Err(Error::config(SECTION, message));
        }
        Ok(grid)
    }

    /// The trunk's norms.
    pub(super) fn norms(&self) -> NormOptions {
        NormOptions { eps: self.eps, ..NormOptions::default() }
    }

    /// The trunk's block.
    pub(super) fn block(&self) -> Result<BlockSpec> {
        const SWIGLU: MlpNames =
            MlpNames { input_norm: "", hidden: "fc1_g", gate: "fc1_x", norm: "norm", output: "fc2" };
        let packed = AttentionNames::TIMM;
        let attn = match self.qkv {
            Qkv::Packed => packed,
            Qkv::PackedUnbiased => AttentionNames { input_bias: &[], ..packed },
            Qkv::PackedWithoutKeyBias => {
                AttentionNames { input_bias: &[Some("q_bias"), None, Some("v_bias")], ..packed }
            }
            Qkv::Apart => AttentionNames {
                input: &["q_proj.weight", "k_proj.weight", "v_proj.weight"],
                input_bias: &[Some("q_proj.bias"), None, Some("v_proj.bias")],
                ..packed
            },
        };
        let fc = if self.swiglu { SWIGLU } else { BlockNames::TIMM.fc };
        let activation = if self.swiglu { Activation::Silu } else { self.activation };
        let block = BlockSpec::new(SECTION, self.width, self.heads, self.mlp_ratio, activation)?;
        let mut block = block.named(BlockNames { attn, fc, ..BlockNames::TIMM });
        block.attention.norm = self.norms();
        block.attention.inner_norm = self.inner_norm;
        block.mlp.gated = self.swiglu;
        block.mlp.inner_norm = self.swiglu;
        block.norm_place = self.norm_place;
        block.layer_scale = self.layer_scale;
        Ok(block)
    }

    /// With what of a configuration changes the trunk itself.
    pub(super) fn as_configured(&self, config: &TimmConfig) -> Self {
        let activation = match config.timm_act_layer {
            None => self.activation,
            Some(ActivationLayer::Gelu) => Activation::GeluErf,
            Some(ActivationLayer::GeluTanh) => Activation::GeluTanh,
        };
        Self { activation, ..*self }
    }

    /// Pooling as the configuration asks for it. As in the reference, a trunk that keeps its classifier is built for the
    /// pool; otherwise the pool is exchanged afterwards, and the last norm stays where the trunk's own pool has it.
    pub(super) fn pool_of(&self, options: &TrunkOptions<'_>) -> Result<Pooling> {
        let config = options.config;
        let built_for_pool = config.is_built_for_pool();
        let kind = match config.timm_pool.as_str() {
            "" if !built_for_pool => self.pool,
            "token" if self.class_token => PoolKind::Token,
            "map" if built_for_pool || self.pool == PoolKind::Attention => PoolKind::Attention,
            name => match Reduction::named(name) {
                Some(reduction) => PoolKind::Reduced(reduction),
                None => return Err(config.unknown_pool(&[&["token", "map"], &Reduction::NAMES[..]].concat())),
            },
        };
        let norm_by = if built_for_pool { kind } else { self.pool };
        let norm_last = self.norm_last.unwrap_or(matches!(norm_by, PoolKind::Reduced(_)));
        Ok(Pooling { kind, norm_last })
    }
}

#[cfg(test)]
mod tests {
    use openclip_core::CheckpointConfig;

    use super::{super::ARCHITECTURES, *};

    #[test]
    fn another_activation_is_taken_from_the_configuration() {
        for (name, fields, expected) in [
            ("vit_base_patch16_siglip_224", "", Activation::GeluErf),
            ("vit_base_patch16_siglip_224", r#", "timm_act_layer": "gelu_tanh""#, Activation::GeluTanh),
            ("vit_base_patch32_siglip_256", "", Activation::GeluTanh),
            ("vit_base_patch32_siglip_256", r#", "timm_act_layer": "gelu""#, Activation::GeluErf),
        ] {
            let json = format!(
                r#"{{"embed_dim": 8, "vision_cfg": {{"timm_model_name": "{name}"{fields}}}, "text_cfg": {{}}}}"#
            );
            let config = CheckpointConfig::from_json("test", &json).unwrap();
            let config = TimmConfig::of(&config.model_cfg).unwrap();
            let (_, spec) = ARCHITECTURES.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(
                spec.as_configured(&config).block().unwrap().mlp.activation,
                expected,
                "{name}{fields}"
            );
        }
    }
}
