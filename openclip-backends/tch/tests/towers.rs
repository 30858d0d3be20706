//! Small towers as a whole, against embeddings that the Python reference computed. `conformance/README.md` describes the
//! files; `cargo xtask conformance` compares all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use openclip_core::{
    ConfigOverrides, EagerImageEncoder, EagerTextEncoder, HostTensor, ImageEncoder, ImageFamily, ModelConfig,
    Precision, TextEncoder, TextFamily, TokenBatch, Weights,
    backend::DeviceSpec,
    weights::synth::{self, SynthesisedWeights},
};
use openclip_tch::TchBackend;
use openclip_text::TextTransformerFamily;
use openclip_vision::VisionTransformerFamily;
use serde::Deserialize;

/// Between them: patches, every kind of mask, attentional pooling, all optional norms and scales, three activations.
const CASES: [&str; 5] =
    ["made-plain", "made-block-all", "made-quick-gelu", "made-attn-pool-cascade", "made-embed-cls-pad-id"];

/// Precision, largest difference of a component and smallest cosine of unit-length embeddings. Small towers leave less
/// room for rounding, so that in `f32` a quarter of the contract has to do.
const CONTRACT: [(Precision, f64, f64); 3] = [
    (Precision::F32, 2e-5 / 4.0, 0.999_999),
    (Precision::F16, f64::INFINITY, 0.9999),
    (Precision::Bf16, f64::INFINITY, 0.999),
];

#[derive(Deserialize)]
struct Case {
    model_cfg: ModelConfig,
    options: ConfigOverrides,
    stored_dims: BTreeMap<String, Vec<usize>>,
    image: Option<Reference<ImageInput>>,
    text: Option<Reference<TextInput>>,
}

#[derive(Deserialize)]
struct Reference<I> {
    input: I,
    embedding: StoredTensor,
}

#[derive(Deserialize)]
struct ImageInput {
    dims: [usize; 4],
}

#[derive(Deserialize)]
struct TextInput {
    ids: Vec<Vec<u32>>,
}

/// Little-endian `f32` in base64.
#[derive(Deserialize)]
struct StoredTensor {
    dims: Vec<usize>,
    f32: String,
}

impl StoredTensor {
    fn tensor(&self) -> HostTensor {
        let bytes = BASE64_STANDARD.decode(&self.f32).unwrap();
        let (values, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        HostTensor::new(self.dims.clone(), values.iter().map(|&b| f32::from_le_bytes(b)).collect()).unwrap()
    }
}

impl Case {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/towers");
        serde_json::from_str(&fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()).unwrap()
    }

    fn config(&self) -> ModelConfig {
        let mut config = self.model_cfg.clone();
        self.options.apply(&mut config);
        config
    }

    fn weights(&self, scope: &str) -> Weights {
        let source = self
            .stored_dims
            .iter()
            .fold(SynthesisedWeights::new(), |source, (name, dims)| source.with_stored(name, dims));
        Weights::new(Arc::new(source)).scope(scope)
    }

    /// What the image tower computes, and the reference.
    fn image(&self, backend: &TchBackend) -> Option<(HostTensor, HostTensor)> {
        let reference = self.image.as_ref()?;
        let (family, config) = (VisionTransformerFamily, self.config());
        let tower = family.build(backend, &config, &self.weights("visual")).unwrap();
        let encoder = EagerImageEncoder::new(backend.clone(), tower, family.info(&config).unwrap());
        let [rows, _, height, width] = reference.input.dims;
        let found = encoder.encode(&synth::image(rows, height, width)).unwrap();
        Some((found, reference.embedding.tensor()))
    }

    /// What the text tower computes, and the reference.
    fn text(&self, backend: &TchBackend) -> Option<(HostTensor, HostTensor)> {
        let reference = self.text.as_ref()?;
        let (family, config) = (TextTransformerFamily, self.config());
        let tower = family.build(backend, &config, &self.weights("text")).unwrap();
        let encoder = EagerTextEncoder::new(backend.clone(), tower, family.info(&config).unwrap());
        let ids = &reference.input.ids;
        let tokens = TokenBatch::new(ids.len(), ids[0].len(), ids.concat()).unwrap();
        Some((encoder.encode(&tokens).unwrap(), reference.embedding.tensor()))
    }
}

/// Largest difference and smallest cosine of rows at unit length.
fn distance(a: &HostTensor, b: &HostTensor) -> (f64, f64) {
    let width = *b.dims().last().unwrap();
    let unit = |row: &[f32]| {
        let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&x| f64::from(x) / length).collect::<Vec<f64>>()
    };
    let rows = a.data().chunks(width).zip(b.data().chunks(width)).map(|(a, b)| (unit(a), unit(b)));
    rows.fold((0.0, 1.0), |(difference, cosine): (f64, f64), (a, b)| {
        let furthest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(difference, f64::max);
        let product: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        assert!(product.is_finite());
        (furthest, cosine.min(product))
    })
}

#[test]
fn towers_equal_the_reference_in_every_precision() {
    let mut failures = Vec::new();
    for name in CASES {
        let case = Case::read(name);
        let mut towers = 0;
        for (precision, largest, smallest) in CONTRACT {
            let backend = TchBackend::new(DeviceSpec::Cpu, precision).unwrap();
            for (tower, results) in [("image", case.image(&backend)), ("text", case.text(&backend))] {
                let Some((found, expected)) = results else { continue };
                assert_eq!(found.dims(), expected.dims(), "{name}, {tower}");
                let (difference, cosine) = distance(&found, &expected);
                towers += 1;
                if difference > largest || cosine < smallest {
                    failures.push(format!("{name}, {tower}, {precision}: {difference:e}, cosine {cosine}"));
                }
            }
        }
        assert!(towers >= 3, "{name} has no tower");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
