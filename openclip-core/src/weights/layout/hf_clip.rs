//! `CLIPModel` of Hugging Face transformers, which is open_clip's native model under other names. Its projections are
//! linear layers, those of open_clip are matrices that multiply from the right.

use super::{
    foreign::{Foreign, Rule},
    huggingface::{TEXT, TEXT_BLOCKS, native_blocks},
    recipe::TRANSPOSE,
};

pub(super) static LAYOUT: Foreign = Foreign {
    marks: &[
        "vision_model.pre_layrnorm.weight",
        "visual_projection.weight",
        "text_model.final_layer_norm.weight",
    ],
    roots: &[""],
    rules: &[IMAGE, IMAGE_BLOCKS, TEXT, TEXT_BLOCKS, PROJECTIONS],
    words: &[],
};

const IMAGE: &[Rule] = &[
    Rule::of("visual.class_embedding", &["vision_model.embeddings.class_embedding"]),
    Rule::of("visual.conv1.weight", &["vision_model.embeddings.patch_embedding.weight"]),
    Rule::of("visual.positional_embedding", &["vision_model.embeddings.position_embedding.weight"]),
    // The misspelling is theirs.
    Rule::of("visual.ln_pre.*", &["vision_model.pre_layrnorm.*"]),
    Rule::of("visual.ln_post.*", &["vision_model.post_layernorm.*"]),
];

const IMAGE_BLOCKS: &[Rule] = native_blocks!("visual", "vision_model");

const PROJECTIONS: &[Rule] = &[
    Rule::of("visual.proj", &["visual_projection.weight"]).with(TRANSPOSE),
    Rule::of("text.text_projection", &["text_projection.weight"]).with(TRANSPOSE),
];
