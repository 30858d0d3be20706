//! What is compared with what: the list behind `cargo xtask bench --help`, and the place to add a comparison.

use std::fmt;

use openclip_core::Precision;
use openclip_zoo::build::BackendKind;

use super::case::Case;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrant {
    /// The reference in PyTorch: eager, without gradients, its model cast to this precision.
    PyTorch(Precision),
    /// Python's onnxruntime with the file that torch.onnx.export makes of the reference; in int8 with what its dynamic
    /// quantization makes of that.
    OnnxRuntime(Precision),
    /// Python's onnxruntime with the file that `openclip export --onnx` makes, in f32.
    OpenclipExport,
    /// Ours, on the backend of this name.
    Ours(&'static str, Precision),
    /// Ours on candle, keeping nothing of a text from one token to the next.
    Rereading,
    /// Our preprocessing.
    Preprocessor,
    /// Pillow, and open_clip's preprocessing in torchvision.
    Pillow,
    /// Our figures of features.
    Metrics,
    /// CLIP_benchmark's.
    ClipBenchmark,
    /// No process: the bytes of both towers' parameters in f32.
    Weights,
}

impl Entrant {
    /// Name of the backend in records.
    pub fn backend(self) -> &'static str {
        match self {
            Self::PyTorch(_) => "pytorch",
            Self::OnnxRuntime(_) => "onnxruntime",
            Self::OpenclipExport => "onnx-export",
            Self::Ours(backend, _) => backend,
            Self::Rereading => "candle",
            Self::Preprocessor => "openclip-vision",
            Self::Pillow => "pillow",
            Self::Metrics => "openclip-eval",
            Self::ClipBenchmark => "clip-benchmark",
            Self::Weights => "none",
        }
    }

    /// What it computes in.
    pub fn precision(self) -> Precision {
        match self {
            Self::PyTorch(precision) | Self::OnnxRuntime(precision) | Self::Ours(_, precision) => precision,
            Self::OpenclipExport
            | Self::Rereading
            | Self::Preprocessor
            | Self::Pillow
            | Self::Metrics
            | Self::ClipBenchmark
            | Self::Weights => Precision::F32,
        }
    }

    /// Whether it takes many times as long as in f32 where the processor has no bf16 instructions: libtorch then converts
    /// every value on its way into and out of an operation.
    pub fn needs_bf16(self) -> bool {
        matches!(self, Self::PyTorch(Precision::Bf16) | Self::Ours("tch", Precision::Bf16 | Precision::F16))
    }

    /// Whether it is our code that runs.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours(..) | Self::Rereading | Self::Preprocessor | Self::Metrics)
    }
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PyTorch(precision) => f.pad(&format!("PyTorch open_clip {precision}")),
            Self::OnnxRuntime(Precision::Int8) => f.pad("onnxruntime dynamic int8"),
            Self::OnnxRuntime(precision) => f.pad(&format!("onnxruntime {precision}")),
            Self::OpenclipExport => f.pad("onnxruntime, file of openclip export"),
            Self::Ours(backend, precision) => f.pad(&format!("openclip {backend} {precision}")),
            Self::Rereading => f.pad("openclip candle, every text anew"),
            Self::Preprocessor => f.pad("openclip preprocessing"),
            Self::Pillow => f.pad("Pillow + torchvision"),
            Self::Metrics => f.pad("openclip eval"),
            Self::ClipBenchmark => f.pad("CLIP_benchmark"),
            Self::Weights => f.pad("the weights"),
        }
    }
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// A ratio of at least this.
    Ratio(f64),
    /// At most this for the subject, in the case's unit.
    AtMost(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, ">= {ratio:.2}"),
            Self::AtMost(value) => write!(f, "<= {value} itself"),
        }
    }
}

/// The subject is to be this many times as fast as the peer, or as small.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What is measured.
    pub case: Case,
    /// Its name among those of the case: `--filter image/tch-pytorch`.
    pub name: String,
    /// Who is judged.
    pub subject: Entrant,
    /// Who sets the measure.
    pub peer: Entrant,
    /// What is aimed at, where there is an aim.
    pub aim: Option<Aim>,
    /// Only with one input in a call, whatever batch sizes are asked for.
    pub single: bool,
}

/// The batch size that aims are for, where a case has several and a comparison isn't of single inputs.
pub const AIMED_BATCH: usize = 32;

impl Comparison {
    fn new(case: Case, name: impl Into<String>, subject: Entrant, peer: Entrant) -> Self {
        Self { case, name: name.into(), subject, peer, aim: None, single: false }
    }

    fn aim(self, aim: impl Into<Option<f64>>) -> Self {
        Self { aim: aim.into().map(Aim::Ratio), ..self }
    }

    fn at_most(self, value: f64) -> Self {
        Self { aim: Some(Aim::AtMost(value)), ..self }
    }

    fn single(self) -> Self {
        Self { single: true, ..self }
    }

    /// Its name with the case's.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.case, self.name)
    }

    /// Sizes of its calls when these batch sizes are asked for.
    pub fn sizes(&self, asked: &[usize]) -> Vec<usize> {
        match self.case.fixed_size() {
            Some(size) => vec![size],
            None if self.single => vec![1],
            None => asked.to_vec(),
        }
    }

    /// The aim of calls of a size.
    pub fn aim_at(&self, size: usize) -> Option<Aim> {
        let aimed = self.single || self.case.fixed_size().is_some() || size == AIMED_BATCH;
        self.aim.filter(|_| aimed)
    }

    /// Whether the aim is for machines with bf16 instructions only.
    pub fn needs_bf16(&self) -> bool {
        self.subject.precision() == Precision::Bf16
    }
}

const PYTORCH: Entrant = Entrant::PyTorch(Precision::F32);
const ONNXRUNTIME: Entrant = Entrant::OnnxRuntime(Precision::F32);
const CANDLE: Entrant = Entrant::Ours("candle", Precision::F32);

/// All comparisons.
pub fn all() -> Vec<Comparison> {
    let mut list = tower(Case::Image);
    list.push(
        Comparison::new(Case::Image, "candle-onnxruntime-latency", CANDLE, ONNXRUNTIME).aim(1.33).single(),
    );
    list.extend(captions());
    list.extend(tower(Case::TextFull));
    list.push(Comparison::new(Case::Jpeg, "candle-onnxruntime", CANDLE, ONNXRUNTIME).aim(1.3));
    for (case, aim) in [(Case::Preprocess, Some(2.0)), (Case::Decode, None), (Case::Resize, None)] {
        list.push(Comparison::new(case, "pillow", Entrant::Preprocessor, Entrant::Pillow).aim(aim));
    }
    list.push(Comparison::new(Case::Start, "candle-pytorch", CANDLE, PYTORCH).at_most(0.5));
    list.push(Comparison::new(Case::Caption, "candle-pytorch", CANDLE, PYTORCH).aim(3.0).single());
    list.push(Comparison::new(Case::Caption, "candle-anew", CANDLE, Entrant::Rereading).single());
    list.push(Comparison::new(Case::CaptionBeams, "candle-anew", CANDLE, Entrant::Rereading).aim(4.0));
    for backend in ["tch", "ort"] {
        let ours = Entrant::Ours(backend, Precision::F32);
        list.push(Comparison::new(Case::Caption, format!("{backend}-pytorch"), ours, PYTORCH).single());
    }
    let (ours, theirs) = (Entrant::Metrics, Entrant::ClipBenchmark);
    list.push(Comparison::new(Case::Retrieval, "clip-benchmark", ours, theirs).aim(5.0));
    // Activations of one input each are small beside weights: they count as ours.
    list.push(Comparison::new(Case::Memory, "candle-weights", CANDLE, Entrant::Weights).aim(1.0 / 1.3));
    list.push(Comparison::new(Case::Memory, "candle-onnxruntime", CANDLE, ONNXRUNTIME));
    list.push(Comparison::new(Case::Memory, "candle-pytorch", CANDLE, PYTORCH));
    list.extend(halves_and_bytes().map(|precision| {
        Comparison::new(
            Case::Memory,
            format!("candle-{precision}"),
            Entrant::Ours("candle", precision),
            CANDLE,
        )
    }));
    list
}

fn halves_and_bytes() -> impl Iterator<Item = Precision> {
    Precision::ALL.into_iter().filter(|&precision| precision != Precision::F32)
}

/// Every backend on inputs that leave nothing out.
fn tower(case: Case) -> Vec<Comparison> {
    use Entrant::{OnnxRuntime, OpenclipExport, Ours, PyTorch};
    let new =
        |name: &str, subject: Entrant, peer: Entrant| Comparison::new(case, name.to_owned(), subject, peer);
    let image = |aim: f64| (case == Case::Image).then_some(aim);
    let candle = |precision| Ours("candle", precision);
    let tch_bf16 = Ours("tch", Precision::Bf16);
    let mut list = vec![
        new("export", OpenclipExport, ONNXRUNTIME).aim(1.0),
        new("candle-onnxruntime", CANDLE, ONNXRUNTIME).aim(image(1.25).unwrap_or(1.15)),
        new("candle-pytorch", CANDLE, PYTORCH),
        new("candle-int8-onnxruntime", candle(Precision::Int8), OnnxRuntime(Precision::Int8)).aim(image(1.5)),
        new("candle-bf16-onnxruntime", candle(Precision::Bf16), ONNXRUNTIME).aim(image(1.9)),
        new("candle-bf16-pytorch", candle(Precision::Bf16), PyTorch(Precision::Bf16)),
        new("tch-pytorch", Ours("tch", Precision::F32), PYTORCH).aim(1.0),
        new("tch-bf16-pytorch", tch_bf16, PyTorch(Precision::Bf16)),
        // The same file in the same library: equal, but for handing inputs in and embeddings out.
        new("ort-onnxruntime", Ours("ort", Precision::F32), OpenclipExport).aim(0.97),
        new("ort-int8-onnxruntime", Ours("ort", Precision::Int8), OnnxRuntime(Precision::Int8)),
    ];
    for backend in BackendKind::NAMES {
        list.extend(halves_and_bytes().map(|precision| {
            let subject = Ours(backend, precision);
            let aim = (subject == tch_bf16).then_some(3.0);
            new(&format!("{backend}-{precision}"), subject, Ours(backend, Precision::F32)).aim(aim)
        }));
    }
    list
}

/// Texts that are mostly padding, which the peers compute and ours needn't.
fn captions() -> Vec<Comparison> {
    let new = |name: &str, subject, peer| Comparison::new(Case::TextCaptions, name, subject, peer);
    let int8 = Precision::Int8;
    vec![
        new("candle-onnxruntime", CANDLE, ONNXRUNTIME).aim(5.0),
        new("candle-pytorch", CANDLE, PYTORCH).aim(8.0),
        new("candle-int8-onnxruntime", Entrant::Ours("candle", int8), Entrant::OnnxRuntime(int8)),
        new("tch-pytorch", Entrant::Ours("tch", Precision::F32), PYTORCH),
        new("ort-onnxruntime", Entrant::Ours("ort", Precision::F32), ONNXRUNTIME),
    ]
}

/// Name of the table of how time grows with the batch size.
pub const GROWTH: &str = "growth";

/// Whether a case has a table of growth.
pub fn has_growth(case: Case) -> bool {
    matches!(case, Case::Image | Case::TextFull)
}

/// Who is in it: ours on every backend in every precision, whether it can be or not, and the peers in f32.
pub fn growth() -> impl Iterator<Item = Entrant> {
    let precisions =
        |backend| Precision::ALL.into_iter().map(move |precision| Entrant::Ours(backend, precision));
    BackendKind::NAMES.into_iter().flat_map(precisions).chain([ONNXRUNTIME, PYTORCH])
}

/// Whether `filter` selects a comparison by its full name.
pub fn selected(full_name: &str, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| full_name.contains(filter))
}

/// The list for `--help`.
pub fn help() -> String {
    let list = all();
    let width = list.iter().map(|comparison| comparison.full_name().len()).max().unwrap_or(0);
    let mut text =
        "Comparisons: who is judged / who sets the measure (what is aimed at, with a batch of 32).\n\n"
            .to_owned();
    for case in Case::ALL {
        for comparison in list.iter().filter(|comparison| comparison.case == case) {
            let Comparison { subject, peer, aim, .. } = comparison;
            let aim = aim.map(|aim| format!(" ({aim})")).unwrap_or_default();
            text += &format!("  {:width$}  {subject} / {peer}{aim}\n", comparison.full_name());
        }
        if has_growth(case) {
            let name = format!("{case}/{GROWTH}");
            text += &format!("  {name:width$}  how the time of a call grows with the batch size\n");
        }
    }
    text + HELP
}

const HELP: &str = "
Every competitor is a process of its own and holds its model during the whole run. They run one at a time, in turns; a \
ratio is the median over the rounds, and `about` says that its aim lies between the quartiles. Weights are random and the \
same for all, and what becomes of the first input is compared before anything is timed.

`text-full` fills the context. `text-captions` are the 256 lines of xtask/reference/captions.txt, from 3 to 62 tokens with \
start and end, median 11, nine of ten at most 22, all padded to the context: what a competitor does with padding is its own \
affair. `jpeg` embeds 128 photographs of 640x427 in batches of 32; `preprocess`, `decode` and `resize` prepare them on one \
thread. `start` is the release build of `openclip embed text` from start to end. `caption` needs a CoCa model (`--model \
coca_ViT-B-32`); weights are random, so captions end at 30 tokens. By the \
defaults its six beams are three groups of the same two texts, which count once; `caption-beams` are eight images at once, whose six beams \
all differ. `retrieval` is recall at 1, 5 and 10 of 10,000 random pairs of 512 values in both \
directions: of 100,000, CLIP_benchmark's table of scores alone takes 40 GB. `memory` is the most that has been resident \
(VmHWM) once both towers are loaded and have embedded one input each, so its aim, 1.3 times the weights, is a ratio of 0.77.

GFLOP/s count a multiplication and an addition as two, in patches, linear layers and attention without a mask over the whole \
context, for everybody alike: work that is skipped shows as speed. They stand beside the machine's peak of f32 multiply-adds, \
measured at the start.

What is needed is installed and kept under target/: Python packages, libtorch, ONNX Runtime.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_selected_by_parts() {
        let names: Vec<String> = all().iter().map(Comparison::full_name).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        assert!(names.iter().all(|name| selected(name, None)));
        assert!(selected("image/export", Some("image/")));
        assert!(selected("text-full/export", Some("export")));
        assert!(!selected("text-full/export", Some("image/export")));
    }

    #[test]
    fn help_names_every_comparison() {
        let help = help();
        for comparison in all() {
            assert!(help.contains(&comparison.full_name()), "{}", comparison.full_name());
        }
    }

    #[test]
    fn nobody_is_compared_with_itself_and_every_case_is_compared() {
        let list = all();
        assert!(list.iter().all(|comparison| comparison.subject != comparison.peer));
        assert!(Case::ALL.iter().all(|case| list.iter().any(|comparison| comparison.case == *case)));
    }

    #[test]
    fn aims_are_for_the_size_that_they_are_stated_for() {
        let find = |name: &str| all().into_iter().find(|comparison| comparison.full_name() == name).unwrap();
        let image = find("image/candle-onnxruntime");
        assert_eq!(image.sizes(&[1, 32]), [1, 32]);
        assert_eq!((image.aim_at(32), image.aim_at(1)), (Some(Aim::Ratio(1.25)), None));
        let latency = find("image/candle-onnxruntime-latency");
        assert_eq!((latency.sizes(&[8, 32]), latency.aim_at(1)), (vec![1], Some(Aim::Ratio(1.33))));
        let jpeg = find("jpeg/candle-onnxruntime");
        assert_eq!((jpeg.sizes(&[1]), jpeg.aim_at(128)), (vec![128], Some(Aim::Ratio(1.3))));
        assert_eq!(find("start/candle-pytorch").aim_at(1), Some(Aim::AtMost(0.5)));
    }
}
