//! The figures that people compare image-text models by, computed as CLIP_benchmark 1.6.2 computes them.
//!
//! A [`Task`](task::Task) runs a [`Model`] on a [`Dataset`](dataset::Dataset) and gives figures, which a [`Record`] writes to a
//! file. [`features`] are computed once and kept; [`metric`]s are functions of them, to be used by themselves, too:
//!
//! ```
//! use openclip_core::HostTensor;
//! use openclip_eval::metric::retrieval;
//!
//! let images = HostTensor::new([2, 2], vec![1.0, 0.0, 0.0, 1.0])?;
//! let texts = HostTensor::new([3, 2], vec![0.9, 0.1, 0.1, 0.9, 0.8, 0.2])?;
//! let found = retrieval(&images, &texts, &[0, 1, 1], &[1])?;
//! assert_eq!(found.image_retrieval.recall, [f64::from(2.0_f32 / 3.0)]);
//! assert_eq!(found.text_retrieval.recall, [1.0]);
//! # Ok::<(), openclip_eval::Error>(())
//! ```

mod classifier;
pub mod dataset;
mod error;
pub mod features;
pub mod metric;
mod model;
mod record;
pub mod report;
pub mod task;
#[cfg(test)]
mod testing;

pub use classifier::Classifier;
pub use error::{Error, ModelError, Result};
pub use model::Model;
pub use record::{Details, Record};
