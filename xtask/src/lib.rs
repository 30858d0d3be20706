//! The conformance suite as a library, so that the command and the tests run the same code.

pub mod conformance;
pub mod project;
