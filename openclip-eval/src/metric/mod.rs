//! Metrics, as functions of features, scores and texts. What each is compared with is said where it stands.

pub mod caption;
mod classification;
pub mod linear_probe;
mod mean;
mod multilabel;
mod retrieval;
mod selection;
pub(crate) mod similarity;
pub mod top;

pub use classification::{ClassFigures, ClassificationMetrics, Confusion, classification};
pub use multilabel::{MultilabelMetrics, multilabel};
pub use retrieval::{DirectionMetrics, RetrievalMetrics, retrieval};
pub use selection::{SelectionMetrics, selection};
