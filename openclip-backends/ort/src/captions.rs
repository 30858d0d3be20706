//! Captioners as graphs: one for what is done once per image, one for what is done once per token, and one that reads texts
//! as a whole.

use openclip_core::{
    CaptionFamily, CaptionInfo, Dim, Growth, ModelConfig, Reading, Result, Symbol, Weights,
    nn::{Extended, KeyValues},
};

use crate::{
    INPUT_IDS, OnnxModel, OnnxRecorder, PIXEL_VALUES, RecordOptions, graph::Value, onnx::ElementType,
};

/// Name of the graphs' logits.
pub const LOGITS: &str = "logits";
/// Name of the input that picks each token's position.
pub const POSITIONS: &str = "positions";
/// Name of the input that says who sees whom in the text tower.
pub const TEXT_BIAS: &str = "text_bias";
/// Name of the input that says who sees whom in the decoder.
pub const DECODER_BIAS: &str = "decoder_bias";
/// What keys and values of an image are called, followed by [`layer_names`].
pub const IMAGE: &str = "image";
/// What keys and values of the tokens before are called.
pub const KNOWN: &str = "known";
/// What keys and values of all tokens are called.
pub const GROWN: &str = "grown";

/// Number of tokens that are known already, `P`.
const KNOWN_TOKENS: Symbol = Symbol("known");

/// A graph of a captioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptionGraph {
    /// `pixel_values [batch, 3, H, W]` to keys and values of the image.
    Look,
    /// Tokens `input_ids [batch, sequence]` behind `known` others to logits `[batch, sequence, V]`, and keys and values of
    /// all tokens.
    Grow,
    /// Whole texts `input_ids [batch, sequence]` about one image to logits `[batch, sequence, V]`.
    Read,
}

/// Names of keys and values of block `layer`.
pub fn layer_names(kind: &str, layer: usize) -> [String; 2] {
    ["keys", "values"].map(|part| format!("{kind}.{layer}.{part}"))
}

/// Records a graph of the captioner of `config`. The weights of the model `w` are read when the graph is saved.
///
/// # Errors
/// As [`CaptionFamily::build`], [`OnnxRecorder::new`] and the tower's methods.
pub fn record_captions<F: CaptionFamily>(
    family: &F,
    config: &ModelConfig,
    w: &Weights,
    graph: CaptionGraph,
    options: &RecordOptions,
) -> Result<OnnxModel> {
    let info = family.info(config)?;
    let recorder = OnnxRecorder::new(options.precision)?;
    let tower = family.build(&recorder, config, w)?;
    let float = |name: &str, dims: &[Dim]| recorder.input(name, ElementType::Float, dims.to_vec());
    let layers = |kind: &str, count: usize, dims: &[Dim]| -> Vec<KeyValues<Value>> {
        let layer = |layer: usize| {
            let [keys, values] = layer_names(kind, layer);
            KeyValues { keys: float(&keys, dims), values: float(&values, dims) }
        };
        (0..count).map(layer).collect()
    };
    let [batch, sequence, known] = [Symbol::BATCH, Symbol::SEQUENCE, KNOWN_TOKENS].map(Dim::symbol);
    let image_dims = |images: &Dim| [images.clone(), info.image_tokens.into(), info.width.into()];
    let ids = || recorder.input(INPUT_IDS, ElementType::Int64, vec![batch.clone(), sequence.clone()]);
    match graph {
        CaptionGraph::Look => {
            let [height, width] = info.image.image_size.map(Dim::Fixed);
            let pixels = float(PIXEL_VALUES, &[batch, Dim::Fixed(3), height, width]);
            let mut looked = named(IMAGE, tower.look(&recorder, &pixels)?).into_iter();
            drop(tower);
            let (name, first) = looked.next().ok_or_else(|| no_layers(&info))?;
            Ok(recorder.finish("look", &name, &first, &looked.collect::<Vec<_>>()))
        }
        CaptionGraph::Grow => {
            let positions = match info.reading {
                Reading::Causal { positions, .. } => Dim::Fixed(positions),
                Reading::Whole => Dim::Fixed(0),
            };
            let keys = &known + &sequence;
            let bias_dims = [batch.clone(), Dim::Fixed(1), sequence.clone(), keys];
            let growth = Growth {
                ids: &ids(),
                positions: &float(POSITIONS, &[batch.clone(), sequence.clone(), positions]),
                // The symbol for what is known is the size of an axis of these.
                known: &layers(KNOWN, info.known_layers(), &[batch.clone(), known, info.width.into()]),
                text_bias: &float(TEXT_BIAS, &bias_dims),
                decoder_bias: &float(DECODER_BIAS, &bias_dims),
                image: &layers(IMAGE, info.decoder_layers, &image_dims(&batch)),
            };
            let Extended { output, known } = tower.grow(&recorder, &growth)?;
            drop(tower);
            Ok(recorder.finish("grow", LOGITS, &output, &named(GROWN, known)))
        }
        CaptionGraph::Read => {
            let (ids, image) = (ids(), layers(IMAGE, info.decoder_layers, &image_dims(&Dim::Fixed(1))));
            let logits = tower.read(&recorder, &ids, &image)?;
            drop(tower);
            Ok(recorder.finish("read", LOGITS, &logits, &[]))
        }
    }
}

fn named(kind: &str, layers: Vec<KeyValues<Value>>) -> Vec<(String, Value)> {
    let layers = layers.into_iter().enumerate();
    let pair = |(layer, KeyValues { keys, values }): (usize, KeyValues<Value>)| {
        layer_names(kind, layer).into_iter().zip([keys, values])
    };
    layers.flat_map(pair).collect()
}

fn no_layers(info: &CaptionInfo) -> openclip_core::Error {
    let message = format!("a decoder has layers; this one has {}", info.decoder_layers);
    openclip_core::Error::config("multimodal_cfg", message)
}
