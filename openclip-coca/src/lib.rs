//! CoCa (Yu et al., 2022): models of OpenCLIP that write captions beside embedding images and texts.

mod config;
mod decoder;
mod model;

pub use config::MultimodalConfig;
pub use decoder::MultimodalDecoder;
pub use model::{Coca, CocaFamily};
