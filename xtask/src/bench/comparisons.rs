//! What is compared with what: the list behind `cargo xtask bench --help`, and the place to add a comparison.

use std::fmt;

use openclip_core::Precision;
use openclip_zoo::build::BackendKind;

/// One tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tower {
    /// Pixels to embeddings.
    Image,
    /// Token ids to embeddings.
    Text,
}

impl Tower {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Image, Self::Text];
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Text => "text",
        })
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrant {
    /// The reference in PyTorch: eager, in f32, without gradients.
    PyTorch,
    /// Python's onnxruntime with the file that torch.onnx.export makes of the reference, in f32.
    TorchExport,
    /// Python's onnxruntime with the file that `openclip export --onnx` makes, in f32.
    OpenclipExport,
    /// Ours, on the backend of this name.
    Ours(&'static str, Precision),
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PyTorch => f.pad("PyTorch open_clip f32"),
            Self::TorchExport => f.pad("onnxruntime, file of torch.onnx.export"),
            Self::OpenclipExport => f.pad("onnxruntime, file of openclip export"),
            Self::Ours(backend, precision) => f.pad(&format!("openclip {backend} {precision}")),
        }
    }
}

/// The subject is to be this many times as fast as the peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What `--filter` selects by, after the tower: `image/tch-pytorch`.
    pub name: String,
    /// Who is judged.
    pub subject: Entrant,
    /// Who sets the measure.
    pub peer: Entrant,
    /// The ratio that is aimed at, where there is one.
    pub bar: Option<f64>,
}

impl Comparison {
    fn new(name: impl Into<String>, subject: Entrant, peer: Entrant, bar: Option<f64>) -> Self {
        Self { name: name.into(), subject, peer, bar }
    }

    /// Whether the bar stands for machines with bf16 instructions only.
    pub fn needs_bf16(&self) -> bool {
        matches!(self.subject, Entrant::Ours(_, Precision::Bf16))
    }
}

/// The comparisons of a tower.
pub fn all() -> Vec<Comparison> {
    use Entrant::{OpenclipExport, Ours, PyTorch, TorchExport};
    let mut list = vec![Comparison::new("export", OpenclipExport, TorchExport, Some(1.0))];
    for name in BackendKind::NAMES {
        let f32 = Ours(name, Precision::F32);
        match name {
            "candle" => {
                list.push(Comparison::new("candle-onnxruntime", f32, TorchExport, Some(1.25)));
                list.push(Comparison::new("candle-pytorch", f32, PyTorch, None));
            }
            "tch" => list.push(Comparison::new("tch-pytorch", f32, PyTorch, Some(1.0))),
            // The same file in the same library: equal, but for handing inputs in and embeddings out.
            "ort" => list.push(Comparison::new("ort-onnxruntime", f32, OpenclipExport, Some(0.97))),
            _ => {}
        }
        for precision in Precision::ALL.into_iter().filter(|&precision| precision != Precision::F32) {
            let bar = (name == "tch" && precision == Precision::Bf16).then_some(3.0);
            list.push(Comparison::new(format!("{name}-{precision}"), Ours(name, precision), f32, bar));
        }
    }
    list
}

/// Ours on every backend in every precision, whether it can be or not.
pub fn ours() -> impl Iterator<Item = Entrant> {
    let precisions =
        |backend| Precision::ALL.into_iter().map(move |precision| Entrant::Ours(backend, precision));
    BackendKind::NAMES.into_iter().flat_map(precisions)
}

/// Name of the table of how time grows with the batch size.
pub const GROWTH: &str = "growth";

/// Whether `filter` selects a comparison.
pub fn selected(tower: Tower, name: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| format!("{tower}/{name}").contains(filter))
}

/// The list for `--help`.
pub fn help() -> String {
    let list = all();
    let width = list.iter().map(|comparison| comparison.name.len()).max().unwrap_or(0);
    let mut text = "\
Comparisons, as image/NAME and text/NAME: who is judged / who sets the measure (the ratio of speeds that is aimed at).\n\n"
        .to_owned();
    for Comparison { name, subject, peer, bar } in &list {
        let bar = bar.map(|bar| format!(" (>= {bar})")).unwrap_or_default();
        text += &format!("  {name:width$}  {subject} / {peer}{bar}\n");
    }
    text + &format!(
        "  {GROWTH:width$}  how the time of ours grows with the batch size\n\n\
         Every competitor is a process of its own and holds its model during the whole run. They run one at a time, in \
         turns; a ratio is the median over the rounds, and `about` says that its aim lies between the quartiles. Weights \
         are random and the same for all, and the embedding of the first input is compared before anything is timed. \
         Texts fill their context, because the peers compute all positions. What is needed is installed and kept under \
         target/: Python packages, libtorch, ONNX Runtime."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_selected_by_parts() {
        let names: Vec<String> = all().into_iter().map(|comparison| comparison.name).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        for tower in Tower::ALL {
            assert!(names.iter().all(|name| selected(tower, name, None)));
        }
        assert!(selected(Tower::Image, "export", Some("image/")));
        assert!(selected(Tower::Text, "export", Some("export")));
        assert!(!selected(Tower::Text, "export", Some("image/export")));
    }

    #[test]
    fn help_names_every_comparison() {
        let help = help();
        for comparison in all() {
            assert!(help.contains(&comparison.name), "{}", comparison.name);
        }
    }
}
