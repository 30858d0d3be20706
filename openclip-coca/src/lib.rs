//! CoCa (Yu et al., 2022): models of OpenCLIP that write captions beside embedding images and texts.
//!
//! [`CocaFamily`] is the model, written over the backend seam of `openclip-core`. [`generate()`] writes captions with any
//! [`Captioner`](openclip_core::Captioner), [`TokenStream`] gives their tokens as they are chosen, and [`perplexities`] says
//! how well given texts fit an image.

mod config;
mod decoder;
mod generate;
mod model;
mod score;

pub use config::MultimodalConfig;
pub use decoder::MultimodalDecoder;
pub use generate::{
    Caption, GenerationError, GenerationOptions, InvalidOption, Method, TokenStream, generate,
};
pub use model::{Coca, CocaFamily};
pub use score::perplexities;
