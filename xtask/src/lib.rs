//! The project's tasks as a library, so that commands and tests run the same code.

pub mod bench;
pub mod conformance;
pub mod every_backend;
pub mod native;
pub mod project;
pub mod python;
