//! The outcome of matching a checkpoint against a model, tensor by tensor.

use std::fmt;

/// A tensor that the model needs and the checkpoint lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTensor {
    /// The name that was looked for.
    pub name: String,
    /// The dimensions that the model needs.
    pub dims: Vec<usize>,
    /// The nearest unused name in the checkpoint.
    pub hint: Option<String>,
}

/// A tensor whose stored dimensions aren't those that the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MismatchedTensor {
    /// The tensor's name.
    pub name: String,
    /// The dimensions that the model needs.
    pub expected: Vec<usize>,
    /// The dimensions in the checkpoint.
    pub found: Vec<usize>,
}

/// What a model took from a checkpoint and what it couldn't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors that the model uses, in the order in which it asked for them.
    pub applied: Vec<String>,
    /// Tensors that the model needs and the checkpoint lacks.
    pub missing: Vec<MissingTensor>,
    /// Tensors of other dimensions than the model needs.
    pub mismatched: Vec<MismatchedTensor>,
    /// Tensors that the model doesn't use.
    pub unused: Vec<String>,
}

impl LoadReport {
    /// Whether the model got all that it needs. Unused tensors don't count against it.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty()
    }
}

/// Lines of a kind that are shown in full; the rest is counted.
const SHOWN: usize = 8;

fn section<T>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    items: &[T],
    line: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for item in items.iter().take(SHOWN) {
        write!(f, "  {title} ")?;
        line(f, item)?;
        writeln!(f)?;
    }
    if items.len() > SHOWN {
        writeln!(f, "  {title} {} more", items.len() - SHOWN)?;
    }
    Ok(())
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "missing", &self.missing, |f, tensor| {
            write!(f, "`{}` {:?}", tensor.name, tensor.dims)?;
            match &tensor.hint {
                Some(near) => write!(f, "; did you mean `{near}`?"),
                None => Ok(()),
            }
        })?;
        section(f, "mismatched", &self.mismatched, |f, tensor| {
            let MismatchedTensor { name, expected, found } = tensor;
            write!(f, "`{name}`: {found:?} in the checkpoint, {expected:?} in the model")
        })?;
        section(f, "unused", &self.unused, |f, name| write!(f, "`{name}`"))?;
        write!(
            f,
            "  {} applied, {} missing, {} mismatched, {} unused",
            self.applied.len(),
            self.missing.len(),
            self.mismatched.len(),
            self.unused.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        let unused = (0..SHOWN + 5).map(|i| format!("t{i}")).collect();
        let shown = LoadReport { unused, ..LoadReport::default() }.to_string();
        assert!(shown.contains("  unused `t7`\n  unused 5 more\n"), "{shown}");
        assert_eq!(shown.lines().count(), SHOWN + 2);
    }
}
