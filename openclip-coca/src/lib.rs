//! CoCa (Yu et al., 2022): models of OpenCLIP that write captions beside embedding images and texts.
//!
//! [`CocaFamily`] is the model, written over the backend seam of `openclip-core`. [`generate()`] writes captions with any
//! [`Captioner`](openclip_core::Captioner), [`TokenStream`] gives their tokens as they are chosen, and [`perplexities`] says
//! how well given texts fit an image.
//!
//! ```
//! use openclip_coca::{GenerationOptions, Method};
//!
//! let sampled = GenerationOptions { method: Method::TopP { top_p: 0.9 }, seed: 7, ..GenerationOptions::default() };
//! assert!(sampled.check().is_ok());
//! let method = Method::BeamSearch { num_beams: 0, num_beam_groups: 1 };
//! assert_eq!(GenerationOptions { method, ..sampled }.check().unwrap_err().option, "num_beams");
//! ```

mod config;
mod decoder;
mod generate;
mod model;
mod rereading;
mod score;

pub use config::MultimodalConfig;
pub use decoder::MultimodalDecoder;
pub use generate::{
    Caption, GenerationError, GenerationOptions, InvalidOption, Method, TokenStream, generate,
};
pub use model::{Coca, CocaFamily};
pub use rereading::Rereading;
pub use score::perplexities;
