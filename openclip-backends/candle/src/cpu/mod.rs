//! Kernels for the CPU: products with packed weights, attention without copies of queries, keys and values, layer norm
//! with a two-pass variance, vectorised activations, convolutions, and the branches of a residual block as one operation each.
//!
//! For inference only: nothing here has a backward pass.

mod activation;
mod aligned;
mod attention;
mod cache;
mod conv;
mod gemm;
mod linear;
mod matrix;
mod norm;
pub mod ops;
mod packed;
mod scratch;
mod threads;

pub use cache::PackedCache;
pub use conv::{DenseConv2d, DepthwiseConv2d, Geometry};
pub use linear::PackedLinear;
pub use norm::RowNorm;
