//! Tasks: what is done with a dataset and a model to get figures.

mod captioning;
mod linear_probe;
mod retrieval;
mod selection;
mod zero_shot;

pub use captioning::{CaptionScores, Captioning};
pub use linear_probe::{LinearProbe, Validation};
pub use retrieval::{Pairs, Recall, Retrieval};
pub use selection::{Choice, Instances, Selection};
pub use zero_shot::{Accuracy, AveragePrecision, Classified, ZeroShot};

use crate::{
    dataset::{Dataset, Wanted},
    error::{Error, Result},
    features::{Extracted, Observer},
    metric::Confusion,
    model::Model,
};

/// Figures by CLIP_benchmark's names, in order. One that isn't defined is not a number.
pub type Figures = Vec<(String, f64)>;

/// A kind of figures, computed of what a task has prepared. To add one, implement this and hand it to the task.
pub trait Metric<Input: ?Sized>: Sync {
    /// The figures.
    ///
    /// # Errors
    /// [`Error::Undefined`] for an input of which the metric isn't defined.
    fn compute(&self, input: &Input) -> Result<Figures>;
}

/// Something that a model is evaluated by.
pub trait Task {
    /// What CLIP_benchmark calls it.
    fn name(&self) -> &'static str;

    /// What the dataset has to give.
    fn wanted(&self) -> Wanted;

    /// Runs the model on the dataset.
    ///
    /// # Errors
    /// Errors of the dataset and the model; [`Error::Undefined`] when no image can be read.
    fn run(&self, dataset: &dyn Dataset, model: &dyn Model, observer: &dyn Observer) -> Result<Evaluation>;
}

/// What a task found.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The figures.
    pub figures: Figures,
    /// How many samples there are and how many the figures are of.
    pub counts: Counts,
    /// How often images of a class were taken for another, where there are classes.
    pub confusion: Option<Confusion>,
    /// The class that each evaluated sample was taken for, where there are classes.
    pub predictions: Vec<usize>,
    /// Options that CLIP_benchmark writes among the figures.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// How many samples there are and how many the figures are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples of the dataset.
    pub total: usize,
    /// Samples that the figures are of: those all of whose images can be read.
    pub evaluated: usize,
    /// Why the others aren't among them.
    pub broken: Vec<String>,
    /// Images that were computed in this run, rather than an earlier one.
    pub computed: usize,
}

impl Counts {
    /// Counts samples, at least one of which has to be whole.
    fn of(extracted: &Extracted) -> Result<Self> {
        let counts = Self {
            total: extracted.samples.len(),
            evaluated: extracted.whole().count(),
            broken: extracted.broken().cloned().collect(),
            computed: extracted.computed,
        };
        match (counts.evaluated, counts.broken.first()) {
            (0, Some(reason)) => {
                Err(Error::Undefined(format!("none of the {} samples can be read: {reason}", counts.total)))
            }
            _ => Ok(counts),
        }
    }
}
