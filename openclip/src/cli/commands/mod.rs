//! One module per command.

pub mod caption;
pub mod classify;
pub mod demo;
pub mod embed;
pub mod export;
pub mod inspect;
pub mod models;
pub mod pull;
pub mod quantize;
mod ranking;
