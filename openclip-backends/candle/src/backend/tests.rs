//! The CPU kernels against candle's own operations and against plain `f64` arithmetic, and every operation's dimensions
//! against those that `ShapeBackend` infers.

use std::sync::Arc;

use openclip_core::{
    backend::{BatchNormSpec, ConvBranch, PoolKind, ShapeBackend, ShapeTensor},
    weights::synth::SynthesisedWeights,
};
use proptest::prelude::*;

use super::*;

fn kernels() -> CandleBackend {
    CandleBackend::new(DeviceSpec::Cpu, Precision::F32).unwrap()
}

fn portable() -> CandleBackend {
    CandleBackend { own_kernels: false, ..kernels() }
}

fn weights() -> Weights {
    Weights::new(Arc::new(SynthesisedWeights::new())).scope("test")
}

/// Values that vary from place to place.
fn sample(dims: &[usize], seed: usize) -> HostTensor {
    let count = dims.iter().product();
    let value = |index: usize| ((index * 2_654_435 + seed * 97) % 1009) as f32 / 200.0 - 2.5;
    HostTensor::new(dims, (0..count).map(value).collect()).unwrap()
}

/// Largest difference of the results of `run` with the kernels and without.
fn difference(
    inputs: &[HostTensor],
    run: impl Fn(&CandleBackend, &[Tensor]) -> Result<Tensor>,
) -> (f32, Vec<usize>) {
    let results = [kernels(), portable()].map(|backend| {
        let inputs: Vec<Tensor> = inputs.iter().map(|input| backend.upload(input).unwrap()).collect();
        backend.download(&run(&backend, &inputs).unwrap()).unwrap()
    });
    let [ours, plain] = &results;
    assert_eq!(ours.dims(), plain.dims());
    let largest =
        ours.data().iter().zip(plain.data()).map(|(a, b)| (a - b).abs()).fold(0.0, |a: f32, b| a.max(b));
    assert!(ours.data().iter().all(|value| value.is_finite()));
    (largest, ours.dims().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_layers_agree(rows in 1_usize..70, inputs in 1_usize..40, outputs in 1_usize..40, in_out: bool) {
        let spec = match in_out {
            true => LinearSpec::projection("proj", inputs, outputs),
            false => LinearSpec::new(inputs, outputs).activated(Activation::QuickGelu),
        };
        let (largest, dims) = difference(&[sample(&[2, rows, inputs], 1)], |backend, x| {
            backend.linear(&x[0], &backend.prepare_linear(&weights(), &spec)?)
        });
        prop_assert!(largest < 1e-5, "{largest}");
        prop_assert_eq!(dims, [2, rows, outputs]);
    }

    #[test]
    fn attention_agrees(
        batch in 1_usize..4, queries in 1_usize..20, keys in 1_usize..20, heads in 1_usize..4,
        width in prop_oneof![1_usize..9, 60_usize..140], causal: bool, bias in 0_usize..4,
    ) {
        let keys = if causal { queries } else { keys };
        // Scores of wide heads are as large as those of narrow ones.
        let mut q = sample(&[batch, queries, heads * width], 1);
        q.data_mut().iter_mut().for_each(|value| *value *= (8.0 / width as f32).min(1.0));
        let inputs = [
            q,
            sample(&[batch, keys, heads * width], 2),
            sample(&[batch, keys, heads * width], 3),
            sample(&[[1, 1, queries, keys], [batch, 1, 1, keys], [1, heads, queries, keys], [1, 1, 1, 1]][bias], 4),
        ];
        let spec = AttentionSpec::new(heads, width).causal(causal);
        let (largest, dims) = difference(&inputs, |backend, x| {
            backend.attention(&x[0], &x[1], &x[2], &spec, (bias < 3).then_some(&x[3]))
        });
        prop_assert!(largest < 1e-5, "{largest}");
        prop_assert_eq!(dims, [batch, queries, heads * width]);
    }
}

#[test]
fn attention_takes_slices_where_they_stand() {
    let packed = sample(&[2, 7, 3 * 12], 5);
    let (largest, _) = difference(&[packed], |backend, x| {
        let part = |index: usize| backend.slice(&x[0], 2, &(12 * index).into(), &(12 * index + 12).into());
        backend.attention(&part(0)?, &part(1)?, &part(2)?, &AttentionSpec::new(3, 4), None)
    });
    assert!(largest < 1e-5, "{largest}");
}

#[test]
fn attention_writes_out_repeated_rows() {
    let (one, all) = (sample(&[2, 1, 12], 5), sample(&[2, 7, 12], 6));
    let (largest, _) = difference(&[one, all], |backend, x| {
        let repeated = x[0].broadcast_as((2, 7, 12)).unwrap();
        backend.attention(&x[1], &repeated, &repeated, &AttentionSpec::new(3, 4), None)
    });
    assert!(largest < 1e-5, "{largest}");
}

#[test]
fn activations_are_the_functions_that_they_are_named_after() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let functions: [(Activation, &dyn Fn(f64) -> f64); 7] = [
        (Activation::GeluErf, &|x| 0.5 * x * (1.0 + libm::erf(x / 2.0_f64.sqrt()))),
        (Activation::GeluTanh, &|x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }),
        (Activation::QuickGelu, &|x| x * sigmoid(1.702 * x)),
        (Activation::Relu, &|x| x.max(0.0)),
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::Sigmoid, &sigmoid),
        (Activation::Tanh, &f64::tanh),
    ];
    let points: Vec<f32> = (-1200..=1200).map(|step| step as f32 / 100.0).collect();
    for backend in [kernels(), portable()] {
        let x = backend.upload(&HostTensor::new([points.len()], points.clone()).unwrap()).unwrap();
        for (activation, function) in functions {
            let y = backend.download(&backend.activate(&x, activation).unwrap()).unwrap();
            for (&x, &y) in points.iter().zip(y.data()) {
                let expected = function(f64::from(x));
                let error = (f64::from(y) - expected).abs();
                assert!(error < 2e-6 * expected.abs().max(1.0), "{activation:?}({x}): {y}, {expected}");
            }
        }
    }
}

#[test]
fn norms_keep_their_digits_beside_a_large_mean() {
    let features = 96;
    let spec = NormSpec { weight: false, bias: false, ..NormSpec::new(features) };
    let mut x = sample(&[5, features], 3);
    x.data_mut().iter_mut().for_each(|value| *value += 3000.0);
    for backend in [kernels(), portable()] {
        let layer = backend.prepare_norm(&weights(), &spec).unwrap();
        let y = backend.norm(&backend.upload(&x).unwrap(), &layer).unwrap();
        let y = backend.download(&y).unwrap();
        for (x, y) in x.rows().zip(y.rows()) {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / features as f64;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / features as f64;
            for (&x, &y) in x.iter().zip(y) {
                let expected = (f64::from(x) - mean) / (variance + 1e-5).sqrt();
                assert!((f64::from(y) - expected).abs() < 1e-3, "{y}, {expected}");
            }
        }
    }
}

#[test]
fn norms_agree() {
    let specs = [
        NormSpec::new(24),
        NormSpec { bias: false, eps: 1e-3, ..NormSpec::new(24) },
        NormSpec { kind: NormKind::Rms, bias: false, ..NormSpec::new(24) },
    ];
    for spec in specs {
        let (largest, _) = difference(&[sample(&[3, 5, 24], 7)], |backend, x| {
            backend.norm(&x[0], &backend.prepare_norm(&weights(), &spec)?)
        });
        assert!(largest < 1e-5, "{largest}");
    }
}

#[test]
fn a_root_mean_square_leaves_the_mean() {
    let spec = NormSpec { kind: NormKind::Rms, weight: false, bias: false, eps: 0.0, ..NormSpec::new(2) };
    for backend in [kernels(), portable()] {
        let layer = backend.prepare_norm(&weights(), &spec).unwrap();
        let x = backend.upload(&HostTensor::new([1, 2], vec![3.0, 4.0]).unwrap()).unwrap();
        let y = backend.download(&backend.norm(&x, &layer).unwrap()).unwrap();
        let expected = [3.0 / 12.5_f32.sqrt(), 4.0 / 12.5_f32.sqrt()];
        assert!(y.data().iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-6), "{y:?}");
    }
}

#[test]
fn turned_pairs_agree() {
    // A slice of a packed tensor, as queries are one.
    for (start, length) in [(0, 5), (8, 1)] {
        let inputs = [sample(&[3, length, 24], 7), sample(&[length, 8], 8), sample(&[length, 8], 9)];
        let (largest, _) = difference(&inputs, |backend, x| {
            let part = backend.slice(&x[0], 2, &Dim::Fixed(start), &Dim::Fixed(start + 8))?;
            backend.rotate_pairs(&part, &x[1], &x[2])
        });
        assert!(largest < 1e-6, "{largest}");
    }
    let backend = kernels();
    let [x, table] = [[1, 2, 8], [1, 1, 8]].map(|dims| backend.upload(&sample(&dims, 1)).unwrap());
    assert!(backend.rotate_pairs(&x, &table, &table).is_err());
}

#[test]
fn convolutions_are_candles_own() {
    let spec = |channels, outputs, kernel: [usize; 2], stride, padding, groups| Conv2dSpec {
        stride,
        padding,
        groups,
        ..Conv2dSpec::new(channels, outputs, kernel)
    };
    for (spec, dims) in [
        // 2 columns and 3 rows are left over and don't count.
        (spec(3, 5, [4, 4], [4, 4], [0, 0], 1), [2, 3, 15, 18]),
        (spec(3, 20, [3, 3], [2, 2], [1, 1], 1), [2, 3, 9, 12]),
        (spec(40, 7, [1, 1], [1, 1], [0, 0], 1), [3, 40, 5, 4]),
        (spec(10, 6, [2, 2], [2, 2], [0, 0], 1), [2, 10, 7, 6]),
        (spec(10, 6, [3, 5], [1, 1], [1, 2], 1), [2, 10, 3, 2]),
        (spec(80, 80, [7, 7], [1, 1], [3, 3], 80), [2, 80, 11, 19]),
        (spec(5, 5, [3, 3], [1, 1], [1, 1], 5), [1, 5, 2, 1]),
        (spec(35, 70, [7, 7], [2, 2], [3, 3], 35), [2, 35, 12, 9]),
        (spec(16, 16, [5, 3], [2, 2], [0, 2], 16), [1, 16, 30, 6]),
        // Neither over all channels nor channel by channel.
        (spec(8, 4, [3, 3], [1, 1], [1, 1], 2), [2, 8, 6, 5]),
    ] {
        let spec = spec.activated(Activation::Relu);
        let backend = kernels();
        let layer = backend.prepare_conv2d(&weights(), &spec).unwrap();
        let plain = portable().prepare_conv2d(&weights(), &spec).unwrap();
        let planes = backend.upload(&sample(&dims, 2)).unwrap();
        let places =
            planes.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().permute((0, 3, 1, 2)).unwrap();
        let expected = portable().download(&portable().conv2d(&planes, &plain).unwrap()).unwrap();
        for x in [planes, places] {
            let ours = backend.download(&backend.conv2d(&x, &layer).unwrap()).unwrap();
            assert_eq!(ours.dims(), expected.dims(), "{spec:?}");
            let close = ours.data().iter().zip(expected.data()).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{spec:?}");
        }
        let wrong = backend.upload(&sample(&[2, dims[1] + 1, 20, 20], 2)).unwrap();
        assert!(backend.conv2d(&wrong, &layer).is_err());
    }
    let layer = kernels().prepare_conv2d(&weights(), &spec(3, 4, [4, 4], [4, 4], [0, 0], 1)).unwrap();
    assert!(kernels().conv2d(&kernels().upload(&sample(&[1, 3, 3, 8], 2)).unwrap(), &layer).is_err());
}

#[test]
fn branches_are_summed() {
    let backend = kernels();
    let layer =
        |spec: Conv2dSpec, scope: &str| backend.prepare_conv2d(&weights().scope(scope), &spec).unwrap();
    let x = backend.upload(&sample(&[2, 6, 9, 8], 5)).unwrap();
    let apply = |layer: &Conv2d| backend.conv2d(&x, layer).unwrap().contiguous().unwrap();
    for groups in [1, 6] {
        let conv = |kernel: usize| Conv2dSpec {
            stride: [2; 2],
            padding: [kernel / 2; 2],
            groups,
            ..Conv2dSpec::new(6, 6, [kernel; 2])
        };
        let summed = conv(5).summed([
            ConvBranch::conv("large", [5; 2]).biased(),
            ConvBranch::conv("small.conv", [1; 2]).normed("small.bn"),
            ConvBranch::conv("large", [5; 2]).biased().scaled("gamma").negated(),
            ConvBranch::identity(),
        ]);
        let summed = apply(&layer(summed, ""));
        let large = apply(&layer(conv(5), "large"));
        let small = apply(&layer(conv(1).normed(BatchNormSpec::new("bn")), "small.conv"));
        let gamma = backend.param(&weights(), "gamma", &[6, 1, 1]).unwrap();
        // The input itself, in the layer's steps.
        let pick = Pool2dSpec { kind: PoolKind::Max, kernel: [1; 2], stride: [2; 2], padding: [0; 2] };
        let identity = backend.pool2d(&x, &pick).unwrap();
        let expected = (large.broadcast_sub(&large.broadcast_mul(&gamma).unwrap()).unwrap() + small)
            .and_then(|sum| sum + identity)
            .unwrap();
        let [summed, expected] = [summed, expected].map(|x| backend.download(&x).unwrap());
        assert_eq!(summed.dims(), [2, 6, 5, 4]);
        assert!(summed.data().iter().zip(expected.data()).all(|(a, b)| (a - b).abs() < 1e-5), "{groups}");
    }
}

#[test]
fn pooling_counts_places_of_the_map_only() {
    let x = kernels().upload(&sample(&[2, 5, 7, 6], 1)).unwrap();
    for kind in [PoolKind::Max, PoolKind::Average] {
        for padding in [[0, 0], [1, 0], [0, 1], [1, 1]] {
            let spec = Pool2dSpec { kind, kernel: [3, 2], stride: [2, 1], padding };
            let ours = kernels().download(&kernels().pool2d(&x, &spec).unwrap()).unwrap();
            let plain = portable().download(&portable().pool2d(&x, &spec).unwrap()).unwrap();
            assert_eq!(ours.dims(), plain.dims());
            assert!(ours.data().iter().zip(plain.data()).all(|(a, b)| (a - b).abs() < 1e-6), "{spec:?}");
        }
    }
    let ones = kernels().upload(&HostTensor::new([1, 2, 5, 4], vec![1.0; 40]).unwrap()).unwrap();
    let spec = Pool2dSpec { kind: PoolKind::Average, kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    let found = kernels().download(&kernels().pool2d(&ones, &spec).unwrap()).unwrap();
    assert_eq!(found.dims(), [1, 2, 3, 2]);
    assert!(found.data().iter().all(|value| (value - 1.0).abs() < 1e-6), "{found:?}");
    let beyond = Pool2dSpec { padding: [2, 2], ..spec };
    assert!(kernels().pool2d(&ones, &beyond).is_err());
}

#[test]
fn token_positions_are_the_first_ones() {
    let backend = kernels();
    let ids =
        TokenBatch::new(4, 5, vec![1, 9, 3, 9, 0, 4, 4, 4, 4, 4, 0, 2, 0, 2, 7, 5, 0, 0, 0, 0]).unwrap();
    let ids = backend.upload_tokens(&ids).unwrap();
    for (which, expected) in [
        (TokenPosition::HighestId, [1, 0, 4, 0]),
        (TokenPosition::First(0), [4, 0, 0, 1]),
        (TokenPosition::First(4), [0, 0, 0, 0]),
    ] {
        let found: Vec<u32> = backend.token_position(&ids, which).unwrap().to_vec1().unwrap();
        assert_eq!(found, expected, "{which:?}");
    }
    let bias = backend.download(&backend.padding_bias(&ids, 9).unwrap()).unwrap();
    assert_eq!(bias.dims(), [4, 1, 1, 5]);
    assert_eq!(bias.data()[..5], [0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0]);
}

/// A step of a random program; `None` where the operation doesn't apply.
fn step<B: Backend>(b: &B, x: &B::Tensor, kind: usize) -> Result<B::Tensor> {
    let at = |axis: usize| b.dims(x).get(axis).cloned().unwrap_or(Dim::Fixed(0));
    match kind {
        0 => b.rearrange(x, Rearrange::SplitLast { parts: 2 }),
        1 => b.rearrange(x, Rearrange::MergeLast),
        2 => b.rearrange(x, Rearrange::Transpose(0, 1)),
        3 => b.rearrange(x, Rearrange::Unsqueeze(1)),
        4 => b.rearrange(x, Rearrange::Squeeze(1)),
        5 => b.cat(&[x, x], 1),
        6 => b.slice(x, 1, &Dim::Fixed(1), &at(1)),
        7 => b.binary(BinaryOp::Sub, x, x),
        8 => b.reduce(x, ReduceOp::Mean, 1),
        9 => b.rearrange(x, Rearrange::TokensToSpatial { height: 2, width: 3 }),
        10 => b.rearrange(x, Rearrange::SpatialToTokens),
        11 => b.pool2d(
            x,
            &Pool2dSpec { kind: PoolKind::Average, kernel: [2, 2], stride: [1, 2], padding: [0, 0] },
        ),
        12 => b.matmul(x, &b.rearrange(x, Rearrange::Transpose(1, 2))?),
        13 => b.expand_batch(&b.slice(x, 0, &Dim::Fixed(0), &Dim::Fixed(1))?, x),
        _ => b.activate(x, Activation::Silu),
    }
}

proptest! {
    #[test]
    fn dimensions_are_those_that_are_inferred(kinds in prop::collection::vec(0_usize..15, 1..8)) {
        let dims = [4_usize, 6, 8];
        let backend = kernels();
        let mut real = backend.upload(&sample(&dims, 1)).unwrap();
        let mut inferred = ShapeTensor::new(dims);
        for kind in kinds {
            match (step(&backend, &real, kind), step(&ShapeBackend, &inferred, kind)) {
                (Ok(next), Ok(shape)) => {
                    prop_assert_eq!(&backend.dims(&next), &shape.0, "step {}", kind);
                    (real, inferred) = (next, shape);
                }
                (Err(_), Err(_)) => {}
                (real, inferred) => {
                    let message = format!("step {kind}: {:?}, {:?}", real.map(|x| x.dims().to_vec()), inferred);
                    return Err(TestCaseError::fail(message));
                }
            }
        }
    }
}

#[test]
fn what_a_precision_cant_hold_is_refused_with_a_reason() {
    for precision in Precision::ALL {
        CandleBackend::new(DeviceSpec::Cpu, precision).unwrap();
    }
    let backend = CandleBackend::new(DeviceSpec::Cpu, Precision::F16).unwrap();
    let large = HostTensor::new([1, 2], vec![1.0, 1e6]).unwrap();
    let error =
        cpu::PackedLinear::new(&LinearSpec::new(2, 1), large.data(), None, backend.precision).unwrap_err();
    assert!(error.contains("1000000") && error.contains("bf16"), "{error}");
    let damaged = HostTensor::new([1, 2], vec![1.0, f32::NAN]).unwrap();
    for precision in Precision::ALL.into_iter().filter(|&precision| precision != Precision::F32) {
        let error =
            cpu::PackedLinear::new(&LinearSpec::new(2, 1), damaged.data(), None, precision).unwrap_err();
        assert!(error.contains("NaN"), "{precision}: {error}");
    }
}
