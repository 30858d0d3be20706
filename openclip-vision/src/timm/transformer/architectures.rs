//! The architectures by timm's names.

use openclip_core::{backend::Activation, nn::NormPlace};

use super::{
    super::{pool::Reduction, rope::RopeSpec},
    spec::{PoolKind, Positions, Qkv, TransformerSpec, VIT},
    stem::StemKind,
};

/// SigLIP and SigLIP2 (Zhai et al., 2023): patches alone, attentional pooling.
const SIGLIP: TransformerSpec = TransformerSpec { class_token: false, pool: PoolKind::Attention, ..VIT };
const SIGLIP_B: TransformerSpec = SIGLIP;
const SIGLIP_L: TransformerSpec = TransformerSpec { width: 1024, depth: 24, heads: 16, ..SIGLIP };
/// The shape-optimised ViT of Alabdulmohsin et al. (2023).
const SIGLIP_SO400M: TransformerSpec =
    TransformerSpec { width: 1152, depth: 27, heads: 16, mlp_ratio: 3.7362, ..SIGLIP };
const SIGLIP_GOPT: TransformerSpec = tanh(TransformerSpec { width: 1536, depth: 40, heads: 16, ..SIGLIP });

/// The architectures that came with SigLIP2 (Tschannen et al., 2025) have the other GELU.
const fn tanh(spec: TransformerSpec) -> TransformerSpec {
    TransformerSpec { activation: Activation::GeluTanh, ..spec }
}

/// EVA (Fang et al., 2022): no bias of keys.
const EVA: TransformerSpec = TransformerSpec {
    patch: 14,
    qkv: Qkv::PackedWithoutKeyBias,
    pool: PoolKind::Reduced(Reduction::Mean),
    ..VIT
};
/// EVA02 (Fang et al., 2023): rotation, SwiGLU, norms within attention and MLP.
const EVA02: TransformerSpec = TransformerSpec {
    qkv: Qkv::Apart,
    mlp_ratio: 4.0 * 2.0 / 3.0,
    swiglu: true,
    inner_norm: true,
    rope: Some(RopeSpec { reference: 16, offset: 0.0, columns_first: false }),
    pool: PoolKind::Token,
    ..EVA
};
const EVA02_L: TransformerSpec = TransformerSpec { width: 1024, depth: 24, heads: 16, ..EVA02 };

/// The Perception Encoder (Bolya et al., 2025): rotation beside learned positions, pooling of eight heads.
const PE: TransformerSpec = TransformerSpec {
    eps: 1e-5,
    pre_norm: true,
    pool: PoolKind::Attention,
    pool_sees_class: true,
    pool_heads: Some(8),
    pool_mlp_ratio: Some(4.0),
    ..VIT
};

const fn pe_rope(reference: usize, offset: f32) -> Option<RopeSpec> {
    Some(RopeSpec { reference, offset, columns_first: true })
}

/// The architectures by timm's names.
pub(in crate::timm) const ARCHITECTURES: &[(&str, TransformerSpec)] = &[
    ("vit_base_patch32_siglip_256", tanh(TransformerSpec { patch: 32, ..SIGLIP_B })),
    ("vit_base_patch16_siglip_224", SIGLIP_B),
    ("vit_base_patch16_siglip_256", SIGLIP_B),
    ("vit_base_patch16_siglip_384", SIGLIP_B),
    ("vit_base_patch16_siglip_512", SIGLIP_B),
    ("vit_large_patch16_siglip_256", SIGLIP_L),
    ("vit_large_patch16_siglip_384", SIGLIP_L),
    ("vit_large_patch16_siglip_512", tanh(SIGLIP_L)),
    ("vit_so400m_patch14_siglip_224", TransformerSpec { patch: 14, ..SIGLIP_SO400M }),
    ("vit_so400m_patch14_siglip_378", TransformerSpec { patch: 14, ..SIGLIP_SO400M }),
    ("vit_so400m_patch14_siglip_384", TransformerSpec { patch: 14, ..SIGLIP_SO400M }),
    ("vit_so400m_patch16_siglip_256", tanh(SIGLIP_SO400M)),
    ("vit_so400m_patch16_siglip_384", tanh(SIGLIP_SO400M)),
    ("vit_so400m_patch16_siglip_512", tanh(SIGLIP_SO400M)),
    ("vit_giantopt_patch16_siglip_256", SIGLIP_GOPT),
    ("vit_giantopt_patch16_siglip_384", SIGLIP_GOPT),
    (
        "eva_giant_patch14_224",
        TransformerSpec { width: 1408, depth: 40, heads: 16, mlp_ratio: 6144.0 / 1408.0, ..EVA },
    ),
    ("eva02_base_patch16_clip_224", TransformerSpec { patch: 16, ..EVA02 }),
    ("eva02_large_patch14_clip_224", EVA02_L),
    ("eva02_large_patch14_clip_336", EVA02_L),
    (
        "eva02_enormous_patch14_clip_224",
        TransformerSpec {
            width: 1792,
            depth: 64,
            heads: 16,
            mlp_ratio: 15360.0 / 1792.0,
            norm_place: NormPlace::AfterBranch,
            pool: PoolKind::Token,
            ..EVA
        },
    ),
    ("vit_pe_core_tiny_patch16_384", TransformerSpec { width: 192, heads: 3, rope: pe_rope(24, 1.0), ..PE }),
    ("vit_pe_core_small_patch16_384", TransformerSpec { width: 384, heads: 6, rope: pe_rope(24, 1.0), ..PE }),
    ("vit_pe_core_base_patch16_224", TransformerSpec { rope: pe_rope(14, 1.0), ..PE }),
    (
        "vit_pe_core_large_patch14_336",
        TransformerSpec { patch: 14, width: 1024, depth: 24, heads: 16, rope: pe_rope(24, 1.0), ..PE },
    ),
    (
        "vit_pe_core_gigantic_patch14_448",
        TransformerSpec {
            patch: 14,
            width: 1536,
            depth: 50,
            heads: 16,
            mlp_ratio: 8960.0 / 1536.0,
            class_token: false,
            rope: pe_rope(32, 0.0),
            ..PE
        },
    ),
    (
        "vit_base_mci_224",
        TransformerSpec { stem: StemKind::Convolutions, positions: Positions::LearnedOfPatches, ..VIT },
    ),
    (
        "vit_large_patch14_clip_224",
        TransformerSpec { patch: 14, width: 1024, depth: 24, heads: 16, eps: 1e-5, pre_norm: true, ..VIT },
    ),
    (
        "vit_medium_patch16_gap_256",
        TransformerSpec {
            width: 512,
            heads: 8,
            qkv: Qkv::PackedUnbiased,
            layer_scale: true,
            class_token: false,
            pool: PoolKind::Reduced(Reduction::Mean),
            norm_last: Some(false),
            ..VIT
        },
    ),
    (
        "vit_relpos_medium_patch16_cls_224",
        TransformerSpec {
            width: 512,
            heads: 8,
            qkv: Qkv::PackedUnbiased,
            layer_scale: true,
            positions: Positions::Relative { hidden: 256 },
            norm_last: Some(false),
            ..VIT
        },
    ),
];
