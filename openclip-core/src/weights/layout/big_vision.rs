//! SigLIP as big_vision publishes it, in Flax's names and shapes: the image tower as timm's trunk, the text tower as
//! open_clip's native one. Kernels are `[in, out]` there, those of attention have heads and their width as two axes. Layers
//! are stacked in one array or apart.

use super::{
    foreign::{Foreign, Rule},
    recipe::{Step, TRANSPOSE},
};

pub(super) static LAYOUT: Foreign = Foreign {
    marks: &["img/embedding/kernel", "txt/Embed_0/embedding"],
    roots: &["params/", ""],
    rules: &[IMAGE, IMAGE_BLOCKS, POOLING, TEXT, TEXT_BLOCKS, SCORING],
    words: &[],
};

/// `[height, width, in, out] -> [out, in, height, width]`.
const CONVOLUTION: &[Step] = &[Step::Permute(&[3, 2, 0, 1])];
/// `[in, heads, width] -> [heads * width, in]`.
const INTO_HEADS: &[Step] = &[Step::Merge(1), Step::Permute(&[1, 0])];
/// `[heads, width] -> [heads * width]`.
const HEADS: &[Step] = &[Step::Merge(0)];
/// `[heads, width, out] -> [out, heads * width]`.
const OUT_OF_HEADS: &[Step] = &[Step::Merge(0), Step::Permute(&[1, 0])];

/// A pre-norm block: the names of its canonical and stored parts.
macro_rules! block {
    (
        $canonical:literal, $norm1:literal, $weight:literal, $bias:literal, $out:literal, $norm2:literal, $fc1:literal,
        $fc2:literal, $stored:literal
    ) => {
        &[
            Rule::of(concat!($canonical, $norm1, ".weight"), &[concat!($stored, "LayerNorm_0/scale")]),
            Rule::of(concat!($canonical, $norm1, ".bias"), &[concat!($stored, "LayerNorm_0/bias")]),
            Rule::of(
                concat!($canonical, $weight),
                &[
                    concat!($stored, "MultiHeadDotProductAttention_0/query/kernel"),
                    concat!($stored, "MultiHeadDotProductAttention_0/key/kernel"),
                    concat!($stored, "MultiHeadDotProductAttention_0/value/kernel"),
                ],
            )
            .with(INTO_HEADS),
            Rule::of(
                concat!($canonical, $bias),
                &[
                    concat!($stored, "MultiHeadDotProductAttention_0/query/bias"),
                    concat!($stored, "MultiHeadDotProductAttention_0/key/bias"),
                    concat!($stored, "MultiHeadDotProductAttention_0/value/bias"),
                ],
            )
            .with(HEADS),
            Rule::of(
                concat!($canonical, $out, ".weight"),
                &[concat!($stored, "MultiHeadDotProductAttention_0/out/kernel")],
            )
            .with(OUT_OF_HEADS),
            Rule::of(
                concat!($canonical, $out, ".bias"),
                &[concat!($stored, "MultiHeadDotProductAttention_0/out/bias")],
            ),
            Rule::of(concat!($canonical, $norm2, ".weight"), &[concat!($stored, "LayerNorm_1/scale")]),
            Rule::of(concat!($canonical, $norm2, ".bias"), &[concat!($stored, "LayerNorm_1/bias")]),
            Rule::of(concat!($canonical, $fc1, ".weight"), &[concat!($stored, "MlpBlock_0/Dense_0/kernel")])
                .with(TRANSPOSE),
            Rule::of(concat!($canonical, $fc1, ".bias"), &[concat!($stored, "MlpBlock_0/Dense_0/bias")]),
            Rule::of(concat!($canonical, $fc2, ".weight"), &[concat!($stored, "MlpBlock_0/Dense_1/kernel")])
                .with(TRANSPOSE),
            Rule::of(concat!($canonical, $fc2, ".bias"), &[concat!($stored, "MlpBlock_0/Dense_1/bias")]),
        ]
    };
}

const IMAGE: &[Rule] = &[
    Rule::of("visual.trunk.patch_embed.proj.weight", &["img/embedding/kernel"]).with(CONVOLUTION),
    Rule::of("visual.trunk.patch_embed.proj.bias", &["img/embedding/bias"]),
    Rule::of("visual.trunk.pos_embed", &["img/pos_embedding"]),
    Rule::of("visual.trunk.cls_token", &["img/cls"]),
    Rule::of("visual.trunk.norm.weight", &["img/Transformer/encoder_norm/scale"]),
    Rule::of("visual.trunk.norm.bias", &["img/Transformer/encoder_norm/bias"]),
];

const IMAGE_BLOCKS: &[Rule] = block!(
    "visual.trunk.blocks.#.",
    "norm1",
    "attn.qkv.weight",
    "attn.qkv.bias",
    "attn.proj",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    "img/Transformer/encoderblock@/"
);

/// Attentional pooling: a block in which the latent asks, without a norm before attention.
const POOLING: &[Rule] = &[
    Rule::of("visual.trunk.attn_pool.latent", &["img/MAPHead_0/probe"]),
    Rule::of(
        "visual.trunk.attn_pool.q.weight",
        &["img/MAPHead_0/MultiHeadDotProductAttention_0/query/kernel"],
    )
    .with(INTO_HEADS),
    Rule::of("visual.trunk.attn_pool.q.bias", &["img/MAPHead_0/MultiHeadDotProductAttention_0/query/bias"])
        .with(HEADS),
    Rule::of(
        "visual.trunk.attn_pool.kv.weight",
        &[
            "img/MAPHead_0/MultiHeadDotProductAttention_0/key/kernel",
            "img/MAPHead_0/MultiHeadDotProductAttention_0/value/kernel",
        ],
    )
    .with(INTO_HEADS),
    Rule::of(
        "visual.trunk.attn_pool.kv.bias",
        &[
            "img/MAPHead_0/MultiHeadDotProductAttention_0/key/bias",
            "img/MAPHead_0/MultiHeadDotProductAttention_0/value/bias",
        ],
    )
    .with(HEADS),
    Rule::of(
        "visual.trunk.attn_pool.proj.weight",
        &["img/MAPHead_0/MultiHeadDotProductAttention_0/out/kernel"],
    )
    .with(OUT_OF_HEADS),
    Rule::of("visual.trunk.attn_pool.proj.bias", &["img/MAPHead_0/MultiHeadDotProductAttention_0/out/bias"]),
    Rule::of("visual.trunk.attn_pool.norm.weight", &["img/MAPHead_0/LayerNorm_0/scale"]),
    Rule::of("visual.trunk.attn_pool.norm.bias", &["img/MAPHead_0/LayerNorm_0/bias"]),
    Rule::of("visual.trunk.attn_pool.mlp.fc1.weight", &["img/MAPHead_0/MlpBlock_0/Dense_0/kernel"])
        .with(TRANSPOSE),
    Rule::of("visual.trunk.attn_pool.mlp.fc1.bias", &["img/MAPHead_0/MlpBlock_0/Dense_0/bias"]),
    Rule::of("visual.trunk.attn_pool.mlp.fc2.weight", &["img/MAPHead_0/MlpBlock_0/Dense_1/kernel"])
        .with(TRANSPOSE),
    Rule::of("visual.trunk.attn_pool.mlp.fc2.bias", &["img/MAPHead_0/MlpBlock_0/Dense_1/bias"]),
];

const TEXT: &[Rule] = &[
    Rule::of("text.token_embedding.weight", &["txt/Embed_0/embedding"]),
    Rule::of("text.positional_embedding", &["txt/pos_embedding"]).with(&[Step::First]),
    Rule::of("text.ln_final.weight", &["txt/Encoder_0/encoder_norm/scale"]),
    Rule::of("text.ln_final.bias", &["txt/Encoder_0/encoder_norm/bias"]),
    Rule::of("text.text_projection.weight", &["txt/head/kernel"]).with(TRANSPOSE),
    Rule::of("text.text_projection.bias", &["txt/head/bias"]),
];

const TEXT_BLOCKS: &[Rule] = block!(
    "text.transformer.resblocks.#.",
    "ln_1",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj",
    "ln_2",
    "mlp.c_fc",
    "mlp.c_proj",
    "txt/Encoder_0/encoderblock@/"
);

const SCORING: &[Rule] = &[Rule::of("logit_scale", &["t"]), Rule::of("logit_bias", &["b"])];
