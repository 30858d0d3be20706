//! Layouts of other programs: tables of rules that say which stored tensors each canonical one is made of.

use std::collections::HashMap;

use super::{
    super::WeightSource,
    pattern::{self, Captures},
    recipe::{Recipe, Step},
};

/// A tensor, or the same tensor of every layer: its canonical name and what it is made of. Names are
/// [patterns](super::pattern).
pub(super) struct Rule {
    pub(super) canonical: &'static str,
    /// The stored tensors, which end up one after the other along the first axis.
    pub(super) stored: &'static [&'static str],
    /// What is done to each of them.
    pub(super) steps: &'static [Step],
}

impl Rule {
    /// The tensors `stored`, one after the other, as they are.
    pub(super) const fn of(canonical: &'static str, stored: &'static [&'static str]) -> Self {
        Self { canonical, stored, steps: &[] }
    }

    /// With `steps` done to each of them.
    pub(super) const fn with(self, steps: &'static [Step]) -> Self {
        Self { steps, ..self }
    }
}

/// The layout of another program.
pub(super) struct Foreign {
    /// Names that only files of this layout have. One is enough: a file may hold a single tower.
    pub(super) marks: &'static [&'static str],
    /// What all names of a file may start with, longest first.
    pub(super) roots: &'static [&'static str],
    /// Tables of rules.
    pub(super) rules: &'static [&'static [Rule]],
    /// Parts of names, whole components separated by dots, in the rest of a name that `*` stands for: as they are stored
    /// and as they are canonically.
    pub(super) words: &'static [(&'static str, &'static str)],
}

/// A foreign layout as a file has it.
#[derive(Clone, Copy)]
pub(super) struct Translation {
    layout: &'static Foreign,
    root: &'static str,
    /// Layers are stacked.
    stacked: bool,
}

/// The largest number of stacked layers that are told apart. No model has so many.
const MAX_LAYERS: usize = 1024;

impl Foreign {
    /// This layout, if it is that of a file with the tensors `names`.
    pub(super) fn recognise(&'static self, names: &[String]) -> Option<Translation> {
        let is_mark = |name: &str| self.marks.contains(&name);
        let root = self
            .roots
            .iter()
            .find(|root| names.iter().any(|name| name.strip_prefix(**root).is_some_and(is_mark)))?;
        let mut translation = Translation { layout: self, root, stacked: false };
        translation.stacked =
            names.iter().any(|name| translation.matches(name).any(|(_, captures)| captures.stacked));
        Some(translation)
    }

    fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().flat_map(|table| table.iter())
    }
}

impl Translation {
    /// The rules that the stored tensor `name` has a part in.
    fn matches(&self, name: &str) -> impl Iterator<Item = (&'static Rule, Captures)> {
        let name = name.strip_prefix(self.root).map(str::to_owned);
        name.into_iter().flat_map(|name| {
            self.layout.rules().filter_map(move |rule| {
                rule.stored
                    .iter()
                    .find_map(|stored| pattern::captures(stored, &name))
                    .map(|found| (rule, found))
            })
        })
    }

    /// What the tensors of `source` are canonically, in the order of the file: names and recipes. Tensors that no rule
    /// mentions keep their names.
    pub(super) fn recipes(&self, source: &dyn WeightSource) -> (Vec<String>, HashMap<String, Recipe>) {
        let (mut names, mut recipes) = (Vec::new(), HashMap::<String, Recipe>::new());
        let mut add = |name: String, recipe: Recipe| {
            recipes.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                recipe
            });
        };
        for stored in source.names() {
            let mut is_known = false;
            for (rule, captures) in self.matches(&stored) {
                is_known = true;
                for captures in layers(source, &stored, captures) {
                    add(self.canonical_name(rule, &captures), self.recipe(rule, &captures));
                }
            }
            if !is_known {
                add(stored.clone(), Recipe::plain(stored));
            }
        }
        (names, recipes)
    }

    fn canonical_name(&self, rule: &Rule, captures: &Captures) -> String {
        let rest = self
            .layout
            .words
            .iter()
            .fold(captures.rest.clone(), |rest, (stored, canonical)| replace(&rest, stored, canonical));
        pattern::name(rule.canonical, &Captures { rest, ..captures.clone() })
    }

    fn recipe(&self, rule: &Rule, captures: &Captures) -> Recipe {
        Recipe {
            stored: rule
                .stored
                .iter()
                .map(|stored| format!("{}{}", self.root, pattern::name(stored, captures)))
                .collect(),
            slice: captures.numbers.first().copied().filter(|_| captures.stacked),
            steps: rule.steps,
        }
    }

    /// What the canonical tensor `name`, which the file doesn't have, would be made of.
    pub(super) fn would_be(&self, name: &str) -> Option<Recipe> {
        self.layout.rules().find_map(|rule| {
            let captures = pattern::captures(rule.canonical, name)?;
            let rest = self
                .layout
                .words
                .iter()
                .fold(captures.rest, |rest, (stored, canonical)| replace(&rest, canonical, stored));
            let stacked = self.stacked && rule.stored.iter().any(|stored| stored.contains('@'));
            Some(self.recipe(rule, &Captures { rest, stacked, ..captures }))
        })
    }
}

/// The layers that the tensor `stored` is of: one, or as many as are stacked in it.
fn layers(source: &dyn WeightSource, stored: &str, captures: Captures) -> Vec<Captures> {
    if !captures.stacked {
        return vec![captures];
    }
    let count = source.info(stored).and_then(|info| info.dims.first().copied()).unwrap_or_default();
    let layer = |index| Captures { numbers: vec![index], ..captures.clone() };
    (0..count.min(MAX_LAYERS)).map(layer).collect()
}

/// `name` with the components `from` replaced by `to` wherever they are.
fn replace(name: &str, from: &str, to: &str) -> String {
    let replaced = format!(".{name}.").replace(&format!(".{from}."), &format!(".{to}."));
    replaced.strip_prefix('.').and_then(|name| name.strip_suffix('.')).unwrap_or(&replaced).to_owned()
}
