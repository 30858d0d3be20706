//! `SiglipModel` of Hugging Face transformers: the image tower as timm's trunk, the text tower as open_clip's native one.
//! The fixed-resolution models of SigLIP 2 are the same.

use super::{
    foreign::{Foreign, Rule},
    huggingface::{TEXT, TEXT_BLOCKS},
    recipe::Step,
};

pub(super) static LAYOUT: Foreign = Foreign {
    marks: &["vision_model.head.probe", "text_model.head.weight"],
    roots: &[""],
    rules: &[IMAGE, POOLING, TEXT, TEXT_BLOCKS, PROJECTION],
    words: &[],
};

const IMAGE: &[Rule] = &[
    Rule::of("visual.trunk.patch_embed.proj.*", &["vision_model.embeddings.patch_embedding.*"]),
    Rule::of("visual.trunk.pos_embed", &["vision_model.embeddings.position_embedding.weight"])
        .with(&[Step::Unsqueeze]),
    Rule::of("visual.trunk.blocks.#.norm1.*", &["vision_model.encoder.layers.#.layer_norm1.*"]),
    Rule::of(
        "visual.trunk.blocks.#.attn.qkv.*",
        &[
            "vision_model.encoder.layers.#.self_attn.q_proj.*",
            "vision_model.encoder.layers.#.self_attn.k_proj.*",
            "vision_model.encoder.layers.#.self_attn.v_proj.*",
        ],
    ),
    Rule::of("visual.trunk.blocks.#.attn.proj.*", &["vision_model.encoder.layers.#.self_attn.out_proj.*"]),
    Rule::of("visual.trunk.blocks.#.norm2.*", &["vision_model.encoder.layers.#.layer_norm2.*"]),
    Rule::of("visual.trunk.blocks.#.mlp.*", &["vision_model.encoder.layers.#.mlp.*"]),
    Rule::of("visual.trunk.norm.*", &["vision_model.post_layernorm.*"]),
];

/// Attentional pooling, whose queries, keys and values are packed here, and only keys and values in timm.
const POOLING: &[Rule] = &[
    Rule::of("visual.trunk.attn_pool.latent", &["vision_model.head.probe"]),
    Rule::of("visual.trunk.attn_pool.q.*", &["vision_model.head.attention.in_proj_*"])
        .with(&[Step::Thirds(0, 1)]),
    Rule::of("visual.trunk.attn_pool.kv.*", &["vision_model.head.attention.in_proj_*"])
        .with(&[Step::Thirds(1, 3)]),
    Rule::of("visual.trunk.attn_pool.proj.*", &["vision_model.head.attention.out_proj.*"]),
    Rule::of("visual.trunk.attn_pool.norm.*", &["vision_model.head.layernorm.*"]),
    Rule::of("visual.trunk.attn_pool.mlp.*", &["vision_model.head.mlp.*"]),
];

const PROJECTION: &[Rule] = &[Rule::of("text.text_projection.*", &["text_model.head.*"])];
