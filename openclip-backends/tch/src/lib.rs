//! The libtorch backend of OpenCLIP in Rust.
//!
//! Towers run on libtorch 2.13.0 through the crate `tch`: in `f32`, `f16` or `bf16`, on a CPU, and on CUDA and Apple GPUs
//! where the installed libtorch has them. CUDA's part of libtorch is loaded when a CUDA device is asked for, not before.
//!
//! Building needs libtorch's headers and libraries, at `LIBTORCH`; the built program finds the libraries by the system's
//! own rules, on Linux in `LD_LIBRARY_PATH`.
//!
//! ```
//! use openclip_core::{Backend, HostTensor, Precision, backend::{Activation, Eager}};
//! use openclip_tch::TchBackend;
//!
//! # fn main() -> openclip_core::Result<()> {
//! let backend = TchBackend::new("cpu".parse()?, Precision::F32)?;
//! let x = backend.upload(&HostTensor::new([1, 2], vec![-1.0, 2.0])?)?;
//! let y = backend.activate(&x, Activation::Relu)?;
//! assert_eq!(backend.download(&y)?.data(), [0.0, 2.0]);
//! # Ok(())
//! # }
//! ```

mod backend;
mod device;
mod error;
mod kinds;
mod tensor;
mod threads;

pub use backend::TchBackend;
pub use error::LibtorchError;
pub use tensor::TchTensor;
pub use threads::set_threads;
