//! Features: what a model makes of a dataset's images and texts, computed once and kept.

mod images;
mod store;
mod texts;

pub(crate) use images::read_images;
pub use images::{Extracted, ExtractionOptions, ImageOutcome, extract};
pub use store::{FeatureStore, Journal, Saved};
pub use texts::embed_texts;

/// Whoever is told how an evaluation goes on.
pub trait Observer: Sync {
    /// Something begins: what, how many there are if that is known, and how many of them were done in an earlier run.
    fn start(&self, what: &str, total: Option<usize>, done: usize);

    /// So many more are done.
    fn advance(&self, count: usize);

    /// An image can't be used, for this reason, which names it.
    fn broken(&self, reason: &str);

    /// What began is done.
    fn finish(&self);
}

/// Nobody is told.
impl Observer for () {
    fn start(&self, _: &str, _: Option<usize>, _: usize) {}

    fn advance(&self, _: usize) {}

    fn broken(&self, _: &str) {}

    fn finish(&self) {}
}
