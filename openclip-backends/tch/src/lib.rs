//! The libtorch backend of OpenCLIP in Rust.
