//! The reference's own layouts. `CustomTextCLIP` has the canonical names. `CLIP`, which most published checkpoints come
//! from, keeps the text tower at the top (`transformer.*`, `token_embedding.weight`, ..), and data-parallel training puts
//! `module.` in front of everything.

/// The parts of the text tower, which the class `CLIP` keeps at the top.
const TEXT_PARTS: [&str; 5] =
    ["positional_embedding", "token_embedding", "transformer", "ln_final", "text_projection"];

/// What data-parallel training puts in front of every name.
const MODULE: &str = "module.";

/// Which of the reference's layouts a file has.
#[derive(Clone, Copy)]
pub(super) struct Native {
    /// Every name in the checkpoint starts with `module.`.
    module: bool,
    /// The text tower is at the top.
    text_at_top: bool,
}

impl Native {
    /// The layout of a file with the tensors `names`.
    pub(super) fn recognise(names: &[String]) -> Self {
        let module = !names.is_empty() && names.iter().all(|name| name.starts_with(MODULE));
        let this = Self { module, text_at_top: false };
        let bare = |name: &String| this.bare(name).to_owned();
        let text_at_top = names.iter().map(bare).any(|name| is_text_part(&name))
            && !names.iter().map(bare).any(|name| name.starts_with("text."));
        Self { module, text_at_top }
    }

    fn bare(self, stored: &str) -> &str {
        stored.strip_prefix(MODULE).filter(|_| self.module).unwrap_or(stored)
    }

    /// The canonical name of the tensor `stored`.
    pub(super) fn canonical_name(self, stored: &str) -> String {
        let name = self.bare(stored);
        if self.text_at_top && is_text_part(name) { format!("text.{name}") } else { name.to_owned() }
    }

    /// The name that the checkpoint would have for a canonical one.
    pub(super) fn stored_name(self, name: &str) -> String {
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
