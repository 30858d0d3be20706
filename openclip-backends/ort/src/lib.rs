//! ONNX for OpenCLIP in Rust. [`OnnxRecorder`] implements the backend trait by recording: a tower that runs on it once,
//! with symbols for the batch size and the text length, leaves as an ONNX graph that takes any of both. No tower needs
//! code of its own for that.
//!
//! Recording and writing are pure Rust and need no native library. With the cargo feature `runtime`, towers and ONNX files
//! run on ONNX Runtime, which is loaded while the program runs.

mod attributes;
mod captions;
mod compose;
mod graph;
mod model;
pub mod onnx;
mod quantize;
mod recorder;
#[cfg(feature = "runtime")]
pub mod runtime;
mod values;

pub use captions::{CaptionGraph, record_captions};
pub use graph::Value;
pub use model::{OnnxModel, WeightStorage};
use openclip_core::{
    Dim, HostTensor, ImageFamily, ModelConfig, Precision, Result, Symbol, Taps, TextFamily, Weights,
};
pub use recorder::{Conv2d, Embedding, Linear, Norm, OnnxRecorder};

use crate::onnx::ElementType;

/// Name of the image graph's input.
pub const PIXEL_VALUES: &str = "pixel_values";
/// Name of the image graph's output.
pub const IMAGE_EMBEDS: &str = "image_embeds";
/// Name of the text graph's input.
pub const INPUT_IDS: &str = "input_ids";
/// Name of the text graph's output.
pub const TEXT_EMBEDS: &str = "text_embeds";

/// How a tower is recorded.
#[derive(Clone, Copy, Default)]
pub struct RecordOptions<'a> {
    /// Element type of weights and arithmetic. Input and output are in `f32` at every precision.
    pub precision: Precision,
    /// Intermediate activations that the graph gives beside the embedding, in the order in which they are computed.
    pub taps: Option<&'a Taps<HostTensor>>,
}

impl RecordOptions<'_> {
    fn taps(&self) -> Taps<Value> {
        self.taps.map_or_else(Taps::none, Taps::like)
    }
}

/// Records the image tower of `config`: `pixel_values [batch, 3, H, W]` to `image_embeds [batch, D]`, not normalised to
/// unit length. The weights below the scope of `w` are read when the model is saved.
///
/// # Errors
/// As [`ImageFamily::build`], [`OnnxRecorder::new`] and the tower's forward pass.
pub fn record_image<F: ImageFamily>(
    family: &F,
    config: &ModelConfig,
    w: &Weights,
    options: &RecordOptions,
) -> Result<OnnxModel> {
    let recorder = OnnxRecorder::new(options.precision)?;
    let [height, width] = family.info(config)?.image_size;
    let tower = family.build(&recorder, config, w)?;
    let dims = vec![Dim::symbol(Symbol::BATCH), Dim::Fixed(3), Dim::Fixed(height), Dim::Fixed(width)];
    let pixels = recorder.input(PIXEL_VALUES, ElementType::Float, dims);
    let mut taps = options.taps();
    let output = tower.forward(&recorder, &pixels, &mut taps)?;
    drop(tower);
    Ok(recorder.finish("image", IMAGE_EMBEDS, &output.pooled, &taps.into_found()?))
}

/// Records the text tower of `config`: `input_ids [batch, sequence]` in 64-bit integers to `text_embeds [batch, D]`, not
/// normalised to unit length. The weights below the scope of `w` are read when the model is saved.
///
/// # Errors
/// As [`TextFamily::build`], [`OnnxRecorder::new`] and the tower's forward pass.
pub fn record_text<F: TextFamily>(
    family: &F,
    config: &ModelConfig,
    w: &Weights,
    options: &RecordOptions,
) -> Result<OnnxModel> {
    let recorder = OnnxRecorder::new(options.precision)?;
    let tower = family.build(&recorder, config, w)?;
    let dims = vec![Dim::symbol(Symbol::BATCH), Dim::symbol(Symbol::SEQUENCE)];
    let ids = recorder.input(INPUT_IDS, ElementType::Int64, dims);
    let mut taps = options.taps();
    let output = tower.forward(&recorder, &ids, &mut taps)?;
    drop(tower);
    Ok(recorder.finish("text", TEXT_EMBEDS, &output.pooled, &taps.into_found()?))
}
