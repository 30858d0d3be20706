//! Synthesised weights: a source that makes any tensor from its name and dimensions, so that full-size architectures
//! are compared with the reference without storing a single weight.
//!
//! Value `i` of a tensor is an integer hash of the tensor's name and of `i`, turned into an `f32` by one multiplication
//! and one addition whose constants follow from the tensor's kind and shape (`synth/rules.rs`). The Python twin
//! `xtask/reference/synth.py` gives the same bits; `conformance/README.md` describes both, and `conformance/synth.json`
//! holds values that the tests here compare with. [`image`] makes inputs in the same way.

use std::{borrow::Cow, collections::HashMap};

use super::{DType, TensorData, TensorInfo, WeightSource, WeightsError};

mod inputs;
mod rules;

pub use inputs::image;

/// Version of the values. References made with another version don't apply.
pub const GENERATOR: u32 = 1;

/// Makes the values of one tensor, in any order and in any number of pieces.
///
/// ```
/// use openclip_core::weights::synth::Generator;
///
/// let generator = Generator::parameter("visual.proj", &[768, 512]);
/// let mut row = vec![0.0; 512];
/// generator.fill(3 * 512, &mut row); // the fourth row
/// assert!(row.iter().all(|value| value.abs() < 0.0625));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generator {
    key0: u32,
    key1: u32,
    offset: f32,
    step: f32,
}

impl Generator {
    /// The generator of parameter `name` in dimensions `dims`. A leading `text.` doesn't count, so that both layouts
    /// of the text tower have the same values.
    pub fn parameter(name: &str, dims: &[usize]) -> Self {
        Self::spread(name, rules::spread(name, dims))
    }

    fn spread(name: &str, rules::Spread { offset, scale }: rules::Spread) -> Self {
        Self::uniform(stem(name), offset, scale)
    }

    /// Values `offset + scale * u` with `u` uniform in `[-1, 1)`.
    fn uniform(name: &str, offset: f32, scale: f32) -> Self {
        // Finaliser of splitmix64 (Steele, Lea and Flood 2014).
        let mut z = fnv1a(name.as_bytes());
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Scaling by a power of two is exact, so one multiplication by `step` rounds as two would.
        let step = scale * (1.0 / (1 << 23) as f32);
        Self { key0: z as u32, key1: (z >> 32) as u32, offset, step }
    }

    /// Value `index`; indices count modulo 2^32.
    #[inline]
    fn value(self, index: u32) -> f32 {
        let mut x = index.wrapping_mul(0x9e37_79b9).wrapping_add(self.key0);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x ^= self.key1;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        // The upper 24 bits as a signed integer are exact in an `f32`.
        self.offset + (x.cast_signed() >> 8) as f32 * self.step
    }

    /// Fills `out` with the values from `start` on, in row-major order of the tensor.
    pub fn fill(&self, start: usize, out: &mut [f32]) {
        let mut index = start as u32;
        for value in out {
            *value = self.value(index);
            index = index.wrapping_add(1);
        }
    }

    /// Appends the tensor's first `count` values as the little-endian bytes that a checkpoint would hold.
    fn append_bytes(&self, count: usize, out: &mut Vec<u8>) {
        let mut values = [0.0; 1024];
        let mut bytes = [0; 4 * 1024];
        for start in (0..count).step_by(values.len()) {
            self.fill(start, &mut values);
            for (value, bytes) in values.iter().zip(bytes.as_chunks_mut::<4>().0) {
                *bytes = value.to_le_bytes();
            }
            let wanted = (count - start).min(values.len());
            out.extend_from_slice(bytes.get(..4 * wanted).unwrap_or(&bytes));
        }
    }
}

/// The name that is hashed.
fn stem(name: &str) -> &str {
    name.strip_prefix("text.").unwrap_or(name)
}

/// The 64-bit FNV-1a hash (Fowler, Noll and Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A checkpoint that has every tensor, in the dimensions that it is asked for.
#[derive(Clone, Debug, Default)]
pub struct SynthesisedWeights {
    /// Tensors that the checkpoint has in dimensions of its own, by [`stem`].
    stored: HashMap<String, Vec<usize>>,
    /// Spreads by the ends of names, which count before the rules.
    spreads: Vec<(String, rules::Spread)>,
}

impl SynthesisedWeights {
    /// A checkpoint in which every tensor fits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same checkpoint with tensor `name` in dimensions `dims` whatever the model asks for, as a checkpoint has that
    /// was made for another image size or context length.
    pub fn with_stored(mut self, name: &str, dims: &[usize]) -> Self {
        self.stored.insert(stem(name).to_owned(), dims.to_vec());
        self
    }

    /// The same checkpoint with values in `offset - scale .. offset + scale` in every tensor whose name ends with `end`: for
    /// models that would amplify rounding with the values that the rules give.
    pub fn with_spread(mut self, end: &str, offset: f32, scale: f32) -> Self {
        self.spreads.push((end.to_owned(), rules::Spread { offset, scale }));
        self
    }

    fn generator(&self, name: &str, dims: &[usize]) -> Generator {
        let own = self.spreads.iter().find(|(end, _)| name.ends_with(end.as_str()));
        own.map_or_else(|| Generator::parameter(name, dims), |(_, spread)| Generator::spread(name, *spread))
    }
}

impl WeightSource for SynthesisedWeights {
    fn origin(&self) -> String {
        "synthesised weights".to_owned()
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.stored.get(stem(name)).map(|dims| TensorInfo { dtype: DType::F32, dims: dims.clone() })
    }

    fn is_generative(&self) -> bool {
        true
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        let dims = self.stored.get(stem(name)).map_or(dims, Vec::as_slice);
        let info = TensorInfo { dtype: DType::F32, dims: dims.to_vec() };
        let mut bytes = Vec::new();
        let count = info.count().filter(|count| {
            count.checked_mul(DType::F32.size()).is_some_and(|size| bytes.try_reserve_exact(size).is_ok())
        });
        let Some(count) = count else {
            return Err(WeightsError::Malformed {
                path: self.origin().into(),
                format: "tensor",
                message: format!("`{name}` {dims:?} doesn't fit in memory"),
            });
        };
        self.generator(name, dims).append_bytes(count, &mut bytes);
        Ok(TensorData { info, bytes: Cow::Owned(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::Weights;

    #[derive(Deserialize)]
    struct Reference {
        generator: u32,
        parameters: Vec<Sample>,
        images: Vec<Sample>,
    }

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default)]
        name: String,
        dims: Vec<usize>,
        first: Vec<String>,
        last: Vec<String>,
        digest: String,
    }

    impl Sample {
        fn difference(&self, values: &[f32]) -> Option<String> {
            let bits = |values: &[f32]| -> Vec<String> {
                values.iter().map(|value| format!("{:08x}", value.to_bits())).collect()
            };
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let found = (
                bits(&values[..values.len().min(4)]),
                bits(&values[values.len() - 1..]),
                format!("{:016x}", fnv1a(&bytes)),
            );
            let expected = (self.first.clone(), self.last.clone(), self.digest.clone());
            (found != expected)
                .then(|| format!("{} {:?}: expected {expected:?}, found {found:?}", self.name, self.dims))
        }
    }

    fn reference() -> Reference {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/synth.json"));
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn parameters_equal_the_python_twin() {
        let reference = reference();
        assert_eq!(reference.generator, GENERATOR);
        let source = SynthesisedWeights::new();
        let failures: Vec<String> = reference
            .parameters
            .iter()
            .filter_map(|sample| {
                let data = source.read(&sample.name, &sample.dims).unwrap();
                sample.difference(&data.to_f32())
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn images_equal_the_python_twin() {
        let failures: Vec<String> = reference()
            .images
            .iter()
            .filter_map(|sample| {
                let [rows, _, height, width] = sample.dims[..] else { panic!("{:?}", sample.dims) };
                sample.difference(image(rows, height, width).data())
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn layouts_of_the_text_tower_share_their_values() {
        let dims = [8, 8];
        let names = ["token_embedding.weight", "text_projection", "transformer.resblocks.0.mlp.c_fc.weight"];
        for name in names {
            let plain = Generator::parameter(name, &dims);
            assert_eq!(plain, Generator::parameter(&format!("text.{name}"), &dims), "{name}");
            assert_ne!(plain, Generator::parameter(&format!("visual.{name}"), &dims), "{name}");
        }
    }

    #[test]
    fn stored_dimensions_override_those_of_the_model() {
        let source = SynthesisedWeights::new().with_stored("text.positional_embedding", &[4, 2]);
        let weights = Weights::new(Arc::new(source)).adapt("positional_embedding", |data| {
            assert_eq!(data.info.dims, [4, 2]);
            crate::HostTensor::new([1, 2], data.to_f32()[..2].to_vec())
        });
        assert_eq!(weights.stored("positional_embedding").unwrap().dims, [4, 2]);
        let adapted = weights.read("positional_embedding", &[1, 2]).unwrap().to_f32();
        let mut expected = [0.0; 2];
        Generator::parameter("positional_embedding", &[4, 2]).fill(0, &mut expected);
        assert_eq!(adapted, expected);
    }

    #[test]
    fn spreads_count_before_the_rules() {
        let source = SynthesisedWeights::new().with_spread("norm1.weight", 0.05, 0.025);
        let name = "visual.trunk.blocks.0.norm1.weight";
        let values = source.read(name, &[32]).unwrap().to_f32();
        assert!(values.iter().all(|value| (0.025..=0.075).contains(value)), "{values:?}");
        let other = source.read("visual.trunk.norm.weight", &[32]).unwrap().to_f32();
        assert!(other.iter().any(|&value| value > 0.5), "{other:?}");
    }

    #[test]
    fn dimensions_that_overflow_are_an_error() {
        let error = SynthesisedWeights::new().read("visual.proj", &[usize::MAX, 2]).unwrap_err();
        assert!(error.to_string().contains("`visual.proj`"), "{error}");
        assert!(SynthesisedWeights::new().read("visual.proj", &[usize::MAX / 8, 1]).is_err());
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_whole(length in 0_usize..300, cut in 0_usize..300) {
            let generator = Generator::parameter("visual.conv1.weight", &[length]);
            let mut whole = vec![0.0; length];
            generator.fill(0, &mut whole);
            let cut = cut.min(length);
            let mut pieces = vec![0.0; length];
            generator.fill(cut, &mut pieces[cut..]);
            generator.fill(0, &mut pieces[..cut]);
            prop_assert_eq!(whole, pieces);
        }
    }
}
