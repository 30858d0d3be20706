//! The backend against plain `f64` arithmetic, in every precision and with products in halves as well as widened.
//!
//! A comparison takes the inputs as the precision rounds them, so that what is left is the rounding of the operation. How
//! much that may be follows from the precision: [`Case::unit`] is the largest relative error of one rounding.

use std::sync::Arc;

use openclip_core::weights::synth::SynthesisedWeights;

use super::*;

mod attention;
mod glue;
mod layers;
mod plain;
mod threads;

/// A backend and what its numbers promise.
struct Case {
    backend: TchBackend,
    /// Largest relative error of rounding to the backend's precision.
    unit: f64,
}

/// Largest relative error of rounding to `f32`, in which sums are kept at every precision.
const F32_UNIT: f64 = 1.0 / (1 << 24) as f64;

fn case(storage: Kind, product: Kind) -> Case {
    let unit = match storage {
        Kind::Half => 1.0 / 2048.0,
        Kind::BFloat16 => 1.0 / 256.0,
        _ => F32_UNIT,
    };
    Case { backend: TchBackend { device: Device::Cpu, kinds: Kinds { storage, product } }, unit }
}

/// All combinations of element types that some CPU uses.
fn cases() -> [Case; 5] {
    [
        case(Kind::Float, Kind::Float),
        case(Kind::Half, Kind::Float),
        case(Kind::Half, Kind::Half),
        case(Kind::BFloat16, Kind::Float),
        case(Kind::BFloat16, Kind::BFloat16),
    ]
}

fn f32_backend() -> TchBackend {
    case(Kind::Float, Kind::Float).backend
}

impl Case {
    /// The backend's own view of `values`, and the same in `f64`.
    fn upload(&self, values: &HostTensor) -> (TchTensor, plain::Array) {
        let tensor = self.backend.upload(values).unwrap();
        let array = self.download(&tensor);
        (tensor, array)
    }

    fn download(&self, x: &TchTensor) -> plain::Array {
        plain::Array::from(&self.backend.download(x).unwrap())
    }

    /// A parameter of the test's weights as the backend rounds it.
    fn parameter(&self, name: &str, dims: &[usize]) -> plain::Array {
        self.download(&self.backend.param(&weights(), name, dims).unwrap())
    }

    /// Panics unless every value of `found` is within its own tolerance of the expected one.
    fn compare(&self, found: &TchTensor, expected: &plain::Array, tolerance: impl Fn(usize) -> f64) {
        assert_eq!(found.inner().f_kind().unwrap(), self.backend.kinds.storage);
        let found = self.download(found);
        assert_eq!(found.dims, expected.dims);
        for (index, (a, b)) in found.data.iter().zip(&expected.data).enumerate() {
            let tolerance = tolerance(index);
            let near = (a - b).abs() <= tolerance;
            assert!(near, "{:?}, value {index}: {a}, expected {b} +- {tolerance}", self.backend.kinds);
        }
    }

    /// As [`Self::compare`], for operations that round their result `roundings` times and are exact otherwise.
    fn compare_rounded(&self, found: &TchTensor, expected: &plain::Array, roundings: f64) {
        self.compare(found, expected, |index| roundings * self.unit * expected.data[index].abs() + 1e-7);
    }
}

fn weights() -> Weights {
    Weights::new(Arc::new(SynthesisedWeights::new())).scope("test")
}

/// Values between -2.5 and 2.5 that vary from place to place.
fn sample(dims: &[usize], seed: usize) -> HostTensor {
    let count = dims.iter().product();
    let value = |index: usize| ((index * 2_654_435 + seed * 97) % 1009) as f32 / 200.0 - 2.5;
    HostTensor::new(dims, (0..count).map(value).collect()).unwrap()
}

#[test]
fn int8_is_refused_with_a_reason() {
    let error = TchBackend::new(DeviceSpec::Cpu, Precision::Int8).unwrap_err();
    assert!(matches!(error, Error::Unsupported { backend: "tch", .. }));
    let error = error.to_string();
    assert!(error.contains("int8") && error.contains("--precision bf16"), "{error}");
}

#[test]
fn values_are_kept_in_the_precision() {
    for (precision, kind) in
        [(Precision::F32, Kind::Float), (Precision::F16, Kind::Half), (Precision::Bf16, Kind::BFloat16)]
    {
        let backend = TchBackend::new(DeviceSpec::Cpu, precision).unwrap();
        let linear = backend.prepare_linear(&weights(), &LinearSpec::new(8, 4)).unwrap();
        let conv = backend.prepare_conv2d(&weights(), &Conv2dSpec::new(3, 4, [2, 2])).unwrap();
        let norm = backend.prepare_norm(&weights(), &NormSpec::new(8)).unwrap();
        let table = backend.prepare_embedding(&weights(), &EmbeddingSpec { count: 9, features: 8 }).unwrap();
        let ids = backend.upload_tokens(&TokenBatch::new(1, 2, vec![3, 8]).unwrap()).unwrap();
        let floats = [
            &linear.weight,
            linear.bias.as_ref().unwrap(),
            &conv.weight,
            conv.bias.as_ref().unwrap(),
            norm.weight.as_ref().unwrap(),
            norm.bias.as_ref().unwrap(),
            &table.weight,
            &backend.param(&weights(), "proj", &[2, 3]).unwrap(),
            &backend.constant(&sample(&[2], 1)).unwrap(),
            &backend.upload(&sample(&[2], 1)).unwrap(),
            &backend.padding_bias(&ids, 3).unwrap(),
        ];
        for (index, tensor) in floats.into_iter().enumerate() {
            assert_eq!(tensor.inner().f_kind().unwrap(), kind, "{precision}, value {index}");
        }
        assert_eq!(ids.inner().f_kind().unwrap(), Kind::Int64);
    }
}
