//! The key layouts of the reference's checkpoints under one set of names.
//!
//! Model code asks for names as the reference's class `CustomTextCLIP` has them: `visual.*`, `text.*`, `logit_scale`,
//! `logit_bias`. The class `CLIP`, which most published checkpoints come from, keeps the text tower at the top
//! (`transformer.*`, `token_embedding.weight`, ..). Data-parallel training puts `module.` in front of everything.

use std::{collections::HashMap, sync::Arc};

use super::{TensorData, TensorInfo, WeightSource, WeightsError};

/// The parts of the text tower, which the class `CLIP` keeps at the top.
const TEXT_PARTS: [&str; 5] =
    ["positional_embedding", "token_embedding", "transformer", "ln_final", "text_projection"];

/// What data-parallel training puts in front of every name.
const MODULE: &str = "module.";

/// Buffers that some versions of the reference saved and that are no parameters, by their last component or name.
const BUFFERS: [&str; 6] =
    ["attn_mask", "position_ids", "num_batches_tracked", "input_resolution", "context_length", "vocab_size"];

/// Parameters that are scalars, but have dimensions `[1]` in some checkpoints.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];

/// Presents a checkpoint in any of the reference's layouts under canonical names, those of `CustomTextCLIP`.
///
/// `logit_scale` and `logit_bias` always have dimensions `[]`. Buffers that are no parameters aren't listed.
pub struct CanonicalLayout {
    source: Arc<dyn WeightSource>,
    /// Canonical names in the order of the checkpoint, without buffers.
    names: Vec<String>,
    /// Canonical name -> name in the checkpoint, buffers included.
    stored: HashMap<String, String>,
    /// Every name in the checkpoint starts with `module.`.
    module: bool,
    /// The text tower is at the top.
    text_at_top: bool,
}

impl CanonicalLayout {
    /// Finds out which layout `source` has.
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        let stored_names = source.names();
        let module = !stored_names.is_empty() && stored_names.iter().all(|name| name.starts_with(MODULE));
        let bare = |name: &str| name.strip_prefix(MODULE).filter(|_| module).unwrap_or(name).to_owned();
        let bare_names: Vec<String> = stored_names.iter().map(|name| bare(name)).collect();
        let text_at_top = bare_names.iter().any(|name| is_text_part(name))
            && !bare_names.iter().any(|name| name.starts_with("text."));
        let mut names = Vec::with_capacity(stored_names.len());
        let mut stored = HashMap::with_capacity(stored_names.len());
        for (stored_name, name) in stored_names.into_iter().zip(bare_names) {
            let name = if text_at_top && is_text_part(&name) { format!("text.{name}") } else { name };
            if !is_buffer(&name) {
                names.push(name.clone());
            }
            stored.insert(name, stored_name);
        }
        Self { source, names, stored, module, text_at_top }
    }

    /// The name that the checkpoint has, or would have, for a canonical one.
    fn stored_name(&self, name: &str) -> String {
        if let Some(stored) = self.stored.get(name) {
            return stored.clone();
        }
        let name =
            name.strip_prefix("text.").filter(|rest| self.text_at_top && is_text_part(rest)).unwrap_or(name);
        format!("{}{name}", if self.module { MODULE } else { "" })
    }
}

fn is_text_part(name: &str) -> bool {
    TEXT_PARTS
        .iter()
        .any(|part| name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
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
        self.source.info(self.stored.get(name)?).map(|info| canonical(name, info))
    }

    fn display_name(&self, name: &str) -> String {
        self.source.display_name(&self.stored_name(name))
    }

    fn is_generative(&self) -> bool {
        self.source.is_generative()
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        if self.source.is_generative() {
            return self.source.read(name, dims);
        }
        match self.stored.get(name) {
            Some(stored) => {
                let data = self.source.read(stored, dims)?;
                Ok(TensorData { info: canonical(name, data.info), ..data })
            }
            None => Err(WeightsError::missing(self.origin(), &self.display_name(name), dims)),
        }
    }

    fn release(&self, name: &str) {
        if let Some(stored) = self.stored.get(name) {
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
