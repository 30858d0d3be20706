//! Arithmetic that a tower nominally consists of: the same count for everybody, so that work that is skipped shows.

use openclip_core::ModelConfig;
use openclip_text::TextTransformerConfig;
use openclip_vision::{VisionTransformerConfig, vit::AttentionalPool};

use super::case::Tower;

/// Operations for one input, a multiplication and an addition being two: patches, linear layers, and attention of every
/// token to every token. Norms, activations and softmax aren't counted. Nothing for other families than the native
/// transformers, and for pooling by attention.
pub fn of(config: &ModelConfig, tower: Tower) -> Option<f64> {
    let blocks = |layers: usize, tokens: usize, width: usize, mlp_ratio: f64| {
        let (tokens, width) = (tokens as f64, width as f64);
        let linear = 2.0 * tokens * width * width * (4.0 + 2.0 * mlp_ratio);
        let attention = 4.0 * tokens * tokens * width;
        layers as f64 * (linear + attention)
    };
    let projection = |width: usize| (2 * width * config.embed_dim) as f64;
    match tower {
        Tower::Image => {
            let vision: VisionTransformerConfig = config.vision_cfg.parse("vision_cfg").ok()?;
            if vision.attentional_pool != AttentionalPool::Switch(false) {
                return None;
            }
            let (image, patch) = (vision.image_size, vision.patch_size);
            let patches = image.height.checked_div(patch.height)? * image.width.checked_div(patch.width)?;
            let embedding = (2 * patches * 3 * patch.height * patch.width * vision.width) as f64;
            let blocks = blocks(vision.layers, patches + 1, vision.width, vision.mlp_ratio);
            Some(embedding + blocks + projection(vision.width))
        }
        Tower::Text => {
            let text: TextTransformerConfig = config.text_cfg.parse("text_cfg").ok()?;
            let tokens = text.context_length + usize::from(text.embed_cls);
            Some(blocks(text.layers, tokens, text.width, text.mlp_ratio) + projection(text.width))
        }
    }
}

#[cfg(test)]
mod tests {
    use openclip_zoo::Registry;

    use super::*;

    #[test]
    fn counts_are_those_made_by_hand() {
        // ViT-B-32, image: 12 x (50 x 24 x 768^2 + 4 x 50^2 x 768) + 49 x 2 x 3072 x 768 + 2 x 768 x 512.
        for (name, image, text) in
            [("ViT-B-32", 8.83, 5.96), ("ViT-B-16", 35.13, 5.96), ("ViT-L-14", 162.0, 13.3)]
        {
            let registry = Registry::bundled();
            let config = &registry.architecture(name).unwrap().config;
            for (tower, expected) in [(Tower::Image, image), (Tower::Text, text)] {
                let found = of(config, tower).unwrap() / 1e9;
                assert!((found / expected - 1.0).abs() < 0.005, "{name} {tower}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn other_families_are_not_guessed() {
        let mut config = Registry::bundled().architecture("ViT-B-32").unwrap().config.clone();
        config.vision_cfg.set("timm_model_name", "convnext_base");
        config.text_cfg.set("hf_model_name", "roberta-base");
        assert_eq!((of(&config, Tower::Image), of(&config, Tower::Text)), (None, None));
    }
}
