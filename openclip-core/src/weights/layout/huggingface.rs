//! What the layouts of Hugging Face transformers have in common: encoders whose queries, keys and values are apart.

use super::foreign::Rule;

/// The blocks of an encoder as open_clip's native towers have them.
macro_rules! native_blocks {
    ($canonical:literal, $stored:literal) => {
        &[
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.ln_1.*"),
                &[concat!($stored, ".encoder.layers.#.layer_norm1.*")],
            ),
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.attn.in_proj_*"),
                &[
                    concat!($stored, ".encoder.layers.#.self_attn.q_proj.*"),
                    concat!($stored, ".encoder.layers.#.self_attn.k_proj.*"),
                    concat!($stored, ".encoder.layers.#.self_attn.v_proj.*"),
                ],
            ),
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.attn.out_proj.*"),
                &[concat!($stored, ".encoder.layers.#.self_attn.out_proj.*")],
            ),
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.ln_2.*"),
                &[concat!($stored, ".encoder.layers.#.layer_norm2.*")],
            ),
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.mlp.c_fc.*"),
                &[concat!($stored, ".encoder.layers.#.mlp.fc1.*")],
            ),
            Rule::of(
                concat!($canonical, ".transformer.resblocks.#.mlp.c_proj.*"),
                &[concat!($stored, ".encoder.layers.#.mlp.fc2.*")],
            ),
        ]
    };
}
pub(super) use native_blocks;

/// A text tower without its projection.
pub(super) const TEXT: &[Rule] = &[
    Rule::of("text.token_embedding.weight", &["text_model.embeddings.token_embedding.weight"]),
    Rule::of("text.positional_embedding", &["text_model.embeddings.position_embedding.weight"]),
    Rule::of("text.ln_final.*", &["text_model.final_layer_norm.*"]),
];

/// A text tower's blocks.
pub(super) const TEXT_BLOCKS: &[Rule] = native_blocks!("text", "text_model");
