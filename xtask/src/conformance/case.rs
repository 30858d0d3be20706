//! Reference cases as `xtask/reference/towers.py` writes them; `conformance/README.md` describes the files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use openclip_coca::{GenerationOptions, Method};
use openclip_core::{ConfigOverrides, HostTensor, ModelConfig, TokenBatch};
use serde::Deserialize;

/// An architecture or made-up configuration, and what the reference computes for it.
#[derive(Deserialize)]
pub struct Case {
    /// The file's own name.
    pub name: String,
    /// Version of the weight generator that the reference was made with.
    pub generator: u32,
    /// The architecture before `options`.
    pub model_cfg: ModelConfig,
    /// What was forced when the model was created.
    pub options: ConfigOverrides,
    /// Tensors that the checkpoint has in other dimensions than the model needs.
    pub stored_dims: BTreeMap<String, Vec<usize>>,
    /// Offset and scale of tensors whose names end so, where the generator's rules don't do.
    #[serde(default)]
    pub spreads: BTreeMap<String, [f32; 2]>,
    /// The image tower, where the case has one.
    pub image: Option<TowerReference<ImageInput>>,
    /// The text tower, where the case has one.
    pub text: Option<TowerReference<TextInput>>,
    /// The decoder, where the case has one.
    pub caption: Option<CaptionReference>,
    /// What is generated, where that is kept.
    #[serde(skip)]
    pub generation: Option<GenerationReference>,
}

/// Captions that the reference generates, as `xtask/reference/generation.py` writes them.
#[derive(Deserialize)]
pub struct GenerationReference {
    /// Dimensions of the synthesised images.
    pub dims: [usize; 4],
    /// Options and what they give.
    pub runs: Vec<GenerationRun>,
}

/// Captions with some options.
#[derive(Deserialize)]
pub struct GenerationRun {
    /// The options.
    pub options: ReferenceOptions,
    /// Token ids of each image's caption.
    pub tokens: Vec<Vec<u32>>,
}

/// Arguments of the reference's `generate`, beside `prompt` and `seed`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the reference's own names")]
pub struct ReferenceOptions {
    pub generation_type: Option<String>,
    pub num_beams: Option<usize>,
    pub num_beam_groups: Option<usize>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub seq_len: Option<usize>,
    pub min_seq_len: Option<usize>,
    pub max_seq_len: Option<usize>,
    pub temperature: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub fixed_output_length: bool,
    pub prompt: Vec<u32>,
    pub sot_token_id: Option<u32>,
    pub eos_token_id: Option<u32>,
    pub seed: u64,
}

impl ReferenceOptions {
    /// The same options as we have them; what isn't given takes our defaults, which are the reference's.
    ///
    /// # Errors
    /// For a way to choose tokens that isn't known.
    pub fn ours(&self) -> Result<GenerationOptions> {
        let plain = GenerationOptions::default();
        let method = match (self.generation_type.as_deref(), plain.method) {
            (None, Method::BeamSearch { num_beams, num_beam_groups }) => Method::BeamSearch {
                num_beams: self.num_beams.unwrap_or(num_beams),
                num_beam_groups: self.num_beam_groups.unwrap_or(num_beam_groups),
            },
            (Some("top_k"), _) => Method::TopK { top_k: self.top_k.unwrap_or(1) },
            (Some("top_p"), _) => Method::TopP { top_p: self.top_p.unwrap_or(0.1) },
            (other, _) => bail!("unknown generation_type {other:?}"),
        };
        Ok(GenerationOptions {
            method,
            seq_len: self.seq_len.unwrap_or(plain.seq_len),
            min_seq_len: self.min_seq_len.unwrap_or(plain.min_seq_len),
            max_seq_len: self.max_seq_len.unwrap_or(plain.max_seq_len),
            temperature: self.temperature.unwrap_or(plain.temperature),
            repetition_penalty: self.repetition_penalty.unwrap_or(plain.repetition_penalty),
            fixed_output_length: self.fixed_output_length,
            prompt: self.prompt.clone(),
            sot_token_id: self.sot_token_id.unwrap_or(plain.sot_token_id),
            eos_token_id: self.eos_token_id.unwrap_or(plain.eos_token_id),
            seed: self.seed,
            ..plain
        })
    }
}

/// A decoder's reference: logits of what follows each token of a text about an image.
#[derive(Deserialize)]
pub struct CaptionReference {
    /// The decoder's parameters.
    pub parameters: Parameters,
    /// What the model was given.
    pub input: CaptionInput,
    /// How many tokens of each text count.
    pub lengths: Vec<usize>,
    /// The tokens of the vocabulary whose logits are kept.
    pub picked: Vec<usize>,
    /// Their logits `[N, L - 1, picked]`.
    pub logits: StoredTensor,
    /// The tokens with the highest logits: `[N, L - 1]`.
    pub best: Vec<Vec<usize>>,
}

/// Texts and the images that they are about.
#[derive(Deserialize)]
pub struct CaptionInput {
    /// Dimensions of the synthesised images.
    pub dims: [usize; 4],
    /// The image of each text.
    pub images: Vec<usize>,
    /// Token ids `[N, L]`.
    #[serde(flatten)]
    pub texts: TextInput,
}

/// One tower's reference.
#[derive(Deserialize)]
pub struct TowerReference<I> {
    /// The tower's parameters.
    pub parameters: Parameters,
    /// What the tower was given.
    pub input: I,
    /// What it computed, not normalised.
    pub embedding: StoredTensor,
    /// Samples of intermediate activations, in the order of computation.
    pub activations: Vec<Activation>,
    /// Its stages and the tokens beside them, where they are recorded.
    #[serde(default)]
    pub stages: Vec<Activation>,
}

/// The parameters of a tower as a whole.
#[derive(Deserialize)]
pub struct Parameters {
    /// Number of tensors.
    pub count: usize,
    /// Number of values.
    pub elements: usize,
}

/// Synthesised images `[N, 3, H, W]`.
#[derive(Deserialize)]
pub struct ImageInput {
    /// The dimensions.
    pub dims: [usize; 4],
}

/// Token ids `[N, L]`.
#[derive(Deserialize)]
pub struct TextInput {
    /// Row by row.
    pub ids: Vec<Vec<u32>>,
}

impl TextInput {
    /// The ids as a batch.
    ///
    /// # Errors
    /// When rows differ in length.
    pub fn batch(&self) -> Result<TokenBatch> {
        let length = self.ids.first().map_or(0, Vec::len);
        Ok(TokenBatch::new(self.ids.len(), length, self.ids.concat())?)
    }
}

/// A tensor as base64 of little-endian `f32`.
#[derive(Deserialize)]
pub struct StoredTensor {
    dims: Vec<usize>,
    f32: String,
}

impl StoredTensor {
    /// The values.
    ///
    /// # Errors
    /// When the text isn't what the dimensions promise.
    pub fn tensor(&self) -> Result<HostTensor> {
        let bytes = BASE64_STANDARD.decode(&self.f32)?;
        let (chunks, rest) = bytes.as_chunks::<4>();
        ensure!(rest.is_empty(), "not a whole number of f32 values");
        Ok(HostTensor::new(self.dims.clone(), chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())?)
    }
}

/// Samples of one activation.
#[derive(Deserialize)]
pub struct Activation {
    /// The module that made it.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Indices and value, so many of each.
    pub probes: Vec<Vec<f64>>,
    /// Mean and deviation per input.
    pub rows: Vec<RowStatistics>,
}

/// Mean and deviation of one input's activation over positions `positions[0]..positions[1]`.
#[derive(Deserialize)]
pub struct RowStatistics {
    /// Standard deviation.
    pub std: f64,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// When the file isn't a case or was made with another generator.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut case: Self = serde_json::from_str(&fs::read_to_string(path)?)?;
            let generation = path.with_file_name("../generation").join(path.file_name().unwrap_or_default());
            if case.caption.is_some() && generation.exists() {
                case.generation = Some(serde_json::from_str(&fs::read_to_string(generation)?)?);
            }
            let generator = openclip_core::weights::synth::GENERATOR;
            ensure!(case.generator == generator, "made with generator {}, not {generator}", case.generator);
            Ok(case)
        };
        read().with_context(|| format!("reference {}", path.display()))
    }

    /// The configuration that runs.
    pub fn config(&self) -> ModelConfig {
        let mut config = self.model_cfg.clone();
        self.options.apply(&mut config);
        config
    }
}
