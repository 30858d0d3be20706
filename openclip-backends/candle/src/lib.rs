//! The candle backend of OpenCLIP in Rust.
//!
//! On a CPU, weights are packed once while the model is built, and linear layers, attention, norms and activations run
//! on vectorised kernels over candle's tensors; candle does the rest. On CUDA and Metal (cargo features `cuda`,
//! `metal`) everything runs on candle's own kernels.
//!
//! ```
//! use openclip_candle::CandleBackend;
//! use openclip_core::{Backend, HostTensor, backend::{Activation, Eager}};
//!
//! # fn main() -> openclip_core::Result<()> {
//! let backend = CandleBackend::new("cpu".parse()?, Default::default())?;
//! let x = backend.upload(&HostTensor::new([1, 2], vec![-1.0, 2.0])?)?;
//! let y = backend.activate(&x, Activation::Relu)?;
//! assert_eq!(backend.download(&y)?.data(), [0.0, 2.0]);
//! # Ok(())
//! # }
//! ```

mod backend;
mod cpu;
mod device;
mod pool;

pub use backend::CandleBackend;
