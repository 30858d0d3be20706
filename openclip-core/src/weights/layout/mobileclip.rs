//! MobileCLIP as Apple publishes it: S1 and S2, whose image tower is timm's FastViT, and B, whose image tower is timm's
//! vision transformer behind convolutions. The text tower is open_clip's native one. Image projections have no bias there
//! and a bias of zeros in timm.

use super::{
    foreign::{Foreign, Rule},
    recipe::{Step, TRANSPOSE},
};

pub(super) static LAYOUT: Foreign = Foreign {
    marks: &[
        "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight",
        "image_encoder.model.patch_emb.0.block.conv.weight",
        "text_encoder.embedding_layer.weight",
    ],
    roots: &[""],
    rules: &[FASTVIT, TRANSFORMER, TEXT],
    words: &[
        ("rbr_conv", "conv_kxk"),
        ("rbr_scale", "conv_scale"),
        ("rbr_skip", "identity"),
        ("lkb_origin", "large_conv"),
        ("convffn", "mlp"),
        ("se.reduce", "se.fc1"),
        ("se.expand", "se.fc2"),
        ("layer_scale", "layer_scale.gamma"),
        ("layer_scale_1", "layer_scale_1.gamma"),
        ("layer_scale_2", "layer_scale_2.gamma"),
    ],
};

/// The bias that a projection `[in, out]` hasn't got: `[out]`.
const NO_BIAS: &[Step] = &[Step::First, Step::Zeros];

/// FastViT, whose stages and what lies between them are one list.
const FASTVIT: &[Rule] = &[
    Rule::of("visual.trunk.stem.*", &["image_encoder.model.patch_embed.*"]),
    Rule::of("visual.trunk.stages.0.blocks.*", &["image_encoder.model.network.0.*"]),
    Rule::of("visual.trunk.stages.1.downsample.proj.*", &["image_encoder.model.network.1.proj.*"]),
    Rule::of("visual.trunk.stages.1.blocks.*", &["image_encoder.model.network.2.*"]),
    Rule::of("visual.trunk.stages.2.downsample.proj.*", &["image_encoder.model.network.3.proj.*"]),
    Rule::of("visual.trunk.stages.2.blocks.*", &["image_encoder.model.network.4.*"]),
    Rule::of("visual.trunk.stages.3.downsample.proj.*", &["image_encoder.model.network.5.proj.*"]),
    Rule::of("visual.trunk.stages.3.pos_emb.pos_enc.*", &["image_encoder.model.network.6.pe.*"]),
    Rule::of("visual.trunk.stages.3.blocks.*", &["image_encoder.model.network.7.*"]),
    Rule::of("visual.trunk.final_conv.*", &["image_encoder.model.conv_exp.*"]),
    Rule::of("visual.trunk.head.fc.weight", &["image_encoder.model.head.proj"]).with(TRANSPOSE),
    Rule::of("visual.trunk.head.fc.bias", &["image_encoder.model.head.proj"]).with(NO_BIAS),
];

/// The vision transformer.
const TRANSFORMER: &[Rule] = &[
    Rule::of("visual.trunk.cls_token", &["image_encoder.model.cls_token"]),
    Rule::of("visual.trunk.pos_embed", &["image_encoder.model.pos_embed.pos_embed.pos_embed"])
        .with(&[Step::First]),
    Rule::of("visual.trunk.patch_embed.backbone.#.conv.*", &["image_encoder.model.patch_emb.#.block.conv.*"]),
    Rule::of("visual.trunk.patch_embed.backbone.#.bn.*", &["image_encoder.model.patch_emb.#.block.norm.*"]),
    Rule::of("visual.trunk.blocks.#.norm1.*", &["image_encoder.model.transformer.#.pre_norm_mha.0.*"]),
    Rule::of(
        "visual.trunk.blocks.#.attn.qkv.*",
        &["image_encoder.model.transformer.#.pre_norm_mha.1.qkv_proj.*"],
    ),
    Rule::of(
        "visual.trunk.blocks.#.attn.proj.*",
        &["image_encoder.model.transformer.#.pre_norm_mha.1.out_proj.*"],
    ),
    Rule::of("visual.trunk.blocks.#.norm2.*", &["image_encoder.model.transformer.#.pre_norm_ffn.0.*"]),
    Rule::of("visual.trunk.blocks.#.mlp.fc1.*", &["image_encoder.model.transformer.#.pre_norm_ffn.1.*"]),
    Rule::of("visual.trunk.blocks.#.mlp.fc2.*", &["image_encoder.model.transformer.#.pre_norm_ffn.4.*"]),
    Rule::of("visual.trunk.norm.*", &["image_encoder.model.post_transformer_norm.*"]),
    Rule::of("visual.trunk.head.weight", &["image_encoder.model.classifier.proj"]).with(TRANSPOSE),
    Rule::of("visual.trunk.head.bias", &["image_encoder.model.classifier.proj"]).with(NO_BIAS),
];

const TEXT: &[Rule] = &[
    Rule::of("text.token_embedding.weight", &["text_encoder.embedding_layer.weight"]),
    Rule::of("text.positional_embedding", &["text_encoder.positional_embedding.pos_embed.pos_embed"])
        .with(&[Step::Squeeze]),
    Rule::of("text.transformer.resblocks.#.ln_1.*", &["text_encoder.transformer.#.pre_norm_mha.0.*"]),
    Rule::of(
        "text.transformer.resblocks.#.attn.in_proj_*",
        &["text_encoder.transformer.#.pre_norm_mha.1.qkv_proj.*"],
    ),
    Rule::of(
        "text.transformer.resblocks.#.attn.out_proj.*",
        &["text_encoder.transformer.#.pre_norm_mha.1.out_proj.*"],
    ),
    Rule::of("text.transformer.resblocks.#.ln_2.*", &["text_encoder.transformer.#.pre_norm_ffn.0.*"]),
    Rule::of("text.transformer.resblocks.#.mlp.c_fc.*", &["text_encoder.transformer.#.pre_norm_ffn.1.*"]),
    Rule::of("text.transformer.resblocks.#.mlp.c_proj.*", &["text_encoder.transformer.#.pre_norm_ffn.4.*"]),
    Rule::of("text.ln_final.*", &["text_encoder.final_layer_norm.*"]),
    Rule::of("text.text_projection", &["text_encoder.projection_layer"]),
];
