//! The key layouts of checkpoints under one set of names.
//!
//! Model code asks for names as the reference's class `CustomTextCLIP` has them: `visual.*`, `text.*`, `logit_scale`,
//! `logit_bias`. Which layout a file has follows from its names alone: one of the [reference's own](open_clip), or that of
//! another program, which is a [table of rules](foreign) in a file of its own here.

mod big_vision;
mod foreign;
mod hf_clip;
mod hf_siglip;
mod huggingface;
mod mobileclip;
mod open_clip;
mod pattern;
mod recipe;

use std::{collections::HashMap, sync::Arc};

use self::{
    foreign::{Foreign, Translation},
    open_clip::Native,
    recipe::Recipe,
};
use super::{TensorData, TensorInfo, WeightSource, WeightsError};

/// The layouts of other programs. The first one that recognises a file has it.
static FOREIGN: [&Foreign; 4] =
    [&hf_siglip::LAYOUT, &hf_clip::LAYOUT, &big_vision::LAYOUT, &mobileclip::LAYOUT];

/// Buffers that some versions of the programs saved and that are no parameters, by their last component or name.
const BUFFERS: [&str; 6] =
    ["attn_mask", "position_ids", "num_batches_tracked", "input_resolution", "context_length", "vocab_size"];

/// Parameters that are scalars, but have dimensions `[1]` in some checkpoints.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];

/// Presents a checkpoint in any known layout under canonical names, those of `CustomTextCLIP`: the reference's layouts,
/// `CLIPModel` and `SiglipModel` of Hugging Face transformers, SigLIP of big_vision, MobileCLIP of Apple.
///
/// A tensor that is made of others is made when it is read. Errors and reports name the tensors of the file.
/// `logit_scale` and `logit_bias` always have dimensions `[]`. Buffers that are no parameters aren't listed.
pub struct CanonicalLayout {
    source: Arc<dyn WeightSource>,
    layout: Layout,
    /// Canonical names in the order of the checkpoint, without buffers.
    names: Vec<String>,
    /// Canonical name -> what it is made of, buffers included.
    recipes: HashMap<String, Recipe>,
}

/// The layout of a file.
enum Layout {
    Native(Native),
    Foreign(Translation),
}

impl CanonicalLayout {
    /// Finds out which layout `source` has.
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        let stored = source.names();
        let (layout, mut names, recipes) = match FOREIGN.iter().find_map(|foreign| foreign.recognise(&stored))
        {
            Some(translation) => {
                let (names, recipes) = translation.recipes(&*source);
                (Layout::Foreign(translation), names, recipes)
            }
            None => {
                let native = Native::recognise(&stored);
                let names: Vec<String> = stored.iter().map(|name| native.canonical_name(name)).collect();
                let recipes = names.iter().cloned().zip(stored.into_iter().map(Recipe::plain)).collect();
                (Layout::Native(native), names, recipes)
            }
        };
        names.retain(|name| !is_buffer(name));
        Self { source, layout, names, recipes }
    }
}

fn is_buffer(name: &str) -> bool {
    BUFFERS.contains(&name.rsplit_once('.').map_or(name, |(_, last)| last))
}

/// `info` as the canonical layout has it.
fn canonical(name: &str, mut info: TensorInfo) -> TensorInfo {
    if SCALARS.contains(&name) && info.count() == Some(1) {
        info.dims.clear();
    }
    info
}

impl WeightSource for CanonicalLayout {
    fn origin(&self) -> String {
        self.source.origin()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.recipes.get(name)?.info(&*self.source).map(|info| canonical(name, info))
    }

    fn display_name(&self, name: &str) -> String {
        if let Some(recipe) = self.recipes.get(name) {
            return recipe.display_name(&*self.source);
        }
        match &self.layout {
            Layout::Native(native) => self.source.display_name(&native.stored_name(name)),
            Layout::Foreign(translation) => translation
                .would_be(name)
                .map_or_else(|| self.source.display_name(name), |recipe| recipe.display_name(&*self.source)),
        }
    }

    fn is_generative(&self) -> bool {
        self.source.is_generative()
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        if self.source.is_generative() {
            return self.source.read(name, dims);
        }
        match self.recipes.get(name) {
            Some(recipe) => {
                let data = recipe.read(&*self.source, dims)?;
                Ok(TensorData { info: canonical(name, data.info), ..data })
            }
            None => Err(WeightsError::missing(self.origin(), &self.display_name(name), dims)),
        }
    }

    fn release(&self, name: &str) {
        for stored in self.recipes.get(name).iter().flat_map(|recipe| &recipe.stored) {
            self.source.release(stored);
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.source.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::MemorySource, *};
    use crate::weights::Weights;

    fn layout(tensors: &[(&str, &[usize])]) -> CanonicalLayout {
        CanonicalLayout::new(Arc::new(MemorySource::new("model.bin", tensors)))
    }

    #[test]
    fn all_layouts_have_the_same_names() {
        let plain: [(&str, &[usize]); 6] = [
            ("positional_embedding", &[4, 2]),
            ("text_projection", &[2, 2]),
            ("visual.proj", &[2, 2]),
            ("logit_scale", &[]),
            ("token_embedding.weight", &[9, 2]),
            ("transformer.resblocks.0.ln_1.weight", &[2]),
        ];
        let module: Vec<_> = plain.iter().map(|(name, dims)| (format!("module.{name}"), *dims)).collect();
        let module: Vec<_> = module.iter().map(|(name, dims)| (name.as_str(), *dims)).collect();
        let custom: [(&str, &[usize]); 6] = [
            ("text.positional_embedding", &[4, 2]),
            ("text.text_projection", &[2, 2]),
            ("visual.proj", &[2, 2]),
            ("logit_scale", &[1]),
            ("text.token_embedding.weight", &[9, 2]),
            ("text.transformer.resblocks.0.ln_1.weight", &[2]),
        ];
        let expected: Vec<&str> = custom.iter().map(|(name, _)| *name).collect();
        for tensors in [&plain[..], &module, &custom] {
            let layout = layout(tensors);
            assert_eq!(layout.names(), expected);
            assert_eq!(layout.info("logit_scale").unwrap().dims, [0_usize; 0]);
            assert_eq!(layout.read("logit_scale", &[]).unwrap().info.dims, [0_usize; 0]);
            assert_eq!(layout.read("text.positional_embedding", &[4, 2]).unwrap().info.dims, [4, 2]);
        }
    }

    #[test]
    fn a_name_that_only_starts_like_a_part_is_left_alone() {
        let layout = layout(&[
            ("transformer_x.w", &[1]),
            ("text_projection.weight", &[1]),
            ("visual.transformer.w", &[1]),
        ]);
        assert_eq!(
            layout.names(),
            ["transformer_x.w", "text.text_projection.weight", "visual.transformer.w"]
        );
        let mixed = self::layout(&[("module.a", &[1]), ("b", &[1])]);
        assert_eq!(mixed.names(), ["module.a", "b"]);
    }

    #[test]
    fn errors_and_reports_have_the_names_of_the_file() {
        let source =
            layout(&[("module.transformer.resblocks.0.ln_1.wieght", &[2]), ("module.ln_final.bias", &[3])]);
        let weights = Weights::new(Arc::new(source)).scope("text");
        let missing = weights.require("transformer.resblocks.0.ln_1.weight", &[2]).unwrap_err().to_string();
        assert_eq!(
            missing,
            "model.bin: tensor `module.transformer.resblocks.0.ln_1.weight` [2] is missing; did you mean `module.transformer.resblocks.0.ln_1.wieght`?"
        );
        let mismatched = weights.require("ln_final.bias", &[2]).unwrap_err().to_string();
        assert!(mismatched.contains("`module.ln_final.bias` has dimensions [3]"), "{mismatched}");
        assert_eq!(weights.report(&["text"]).unused, ["module.transformer.resblocks.0.ln_1.wieght"]);
    }

    #[test]
    fn buffers_are_not_listed_but_can_be_read() {
        let layout = layout(&[
            ("attn_mask", &[2, 2]),
            ("vocab_size", &[]),
            ("text.transformer.embeddings.position_ids", &[1, 4]),
            ("visual.bn1.num_batches_tracked", &[]),
            ("text.ln_final.bias", &[2]),
        ]);
        assert_eq!(layout.names(), ["text.ln_final.bias"]);
        assert!(layout.read("text.transformer.embeddings.position_ids", &[1, 4]).is_ok());
    }
}
