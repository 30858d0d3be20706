//! Linear layers, convolutions, norms, embeddings, activations and pooling.

use proptest::prelude::*;

use super::*;

const ACTIVATIONS: [Activation; 7] = [
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Tanh,
];

/// Bound on the rounding of a sum of products in `f32`, whose magnitudes sum up to `magnitude`.
fn sum_error(terms: usize, magnitude: f64) -> f64 {
    (terms + 2) as f64 * F32_UNIT * magnitude
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_layers_are_exact_to_a_rounding(
        rows in 1_usize..70, inputs in 1_usize..40, outputs in 1_usize..40, in_out: bool,
        activation in prop::option::of(prop::sample::select(ACTIVATIONS.to_vec())),
    ) {
        let mut spec = match in_out {
            true => LinearSpec::projection("proj", inputs, outputs),
            false => LinearSpec::new(inputs, outputs),
        };
        spec.activation = activation;
        for case in cases() {
            let layer = case.backend.prepare_linear(&weights(), &spec).unwrap();
            let (x, plain) = case.upload(&sample(&[rows, inputs], 1));
            let weight = match in_out {
                true => case.parameter("proj", &[inputs, outputs]),
                false => case.parameter("weight", &[outputs, inputs]),
            };
            let bias = (!in_out).then(|| case.parameter("bias", &[outputs]));
            let at = |output: usize, input: usize| match in_out {
                true => weight.at(&[input, output]),
                false => weight.at(&[output, input]),
            };
            let sum = |x: &plain::Array, at: &dyn Fn(usize, usize) -> f64, bias: &dyn Fn(usize) -> f64| {
                let sum = plain::linear(x, outputs, at);
                plain::Array::new(&sum.dims, |index| sum.at(index) + bias(index[1]))
            };
            let expected = sum(&plain, &at, &|output| bias.as_ref().map_or(0.0, |bias| bias.at(&[output])));
            let magnitude = sum(&plain.map(f64::abs), &|output, input| at(output, input).abs(), &|output| {
                bias.as_ref().map_or(0.0, |bias| bias.at(&[output]).abs())
            });
            // No activation is steeper than 1.2, and in halves the sum is rounded before it.
            let (result, roundings) = match activation {
                Some(activation) => (expected.map(|x| plain::activation(activation, x)), 5.0),
                None => (expected.clone(), 1.01),
            };
            let y = case.backend.linear(&x, &layer).unwrap();
            case.compare(&y, &result, |index| {
                roundings * case.unit * expected.data[index].abs().max(result.data[index].abs())
                    + 2.0 * sum_error(inputs, magnitude.data[index]) + 1e-7
            });
        }
    }

    #[test]
    fn convolutions_are_exact_to_a_rounding(
        batch in 1_usize..3, groups in 1_usize..3, inputs in 1_usize..3, outputs in 1_usize..4,
        kernel in [1_usize..4, 1_usize..4], stride in [1_usize..4, 1_usize..4], padding in [0_usize..2, 0_usize..2],
        size in [4_usize..9, 4_usize..9], patches: bool, bias: bool,
    ) {
        let (groups, stride, padding) = if patches { (1, kernel, [0, 0]) } else { (groups, stride, padding) };
        let (channels, outputs) = (inputs * groups, outputs * groups);
        let spec = Conv2dSpec { stride, padding, groups, bias, ..Conv2dSpec::new(channels, outputs, kernel) };
        let [height, width] = size;
        for case in cases() {
            let layer = case.backend.prepare_conv2d(&weights(), &spec).unwrap();
            let (x, plain) = case.upload(&sample(&[batch, channels, height, width], 2));
            let weight = case.parameter("weight", &[outputs, inputs, kernel[0], kernel[1]]);
            let bias = bias.then(|| case.parameter("bias", &[outputs]));
            let bias = |output: usize| bias.as_ref().map_or(0.0, |bias| bias.at(&[output]));
            let sum = plain::conv2d(&plain, &weight, stride, padding);
            let expected = plain::Array::new(&sum.dims, |at| sum.at(at) + bias(at[1]));
            let magnitude = plain::conv2d(&plain.map(f64::abs), &weight.map(f64::abs), stride, padding);
            let y = case.backend.conv2d(&x, &layer).unwrap();
            prop_assert_eq!(
                case.backend.dims(&y),
                ShapeBackend.conv2d(&shape(&x), &spec).unwrap().0
            );
            case.compare(&y, &expected, |index| {
                2.0 * case.unit * expected.data[index].abs()
                    // A convolution in halves may round before it adds the bias.
                    + case.unit * bias(index / sum.dims[2..].iter().product::<usize>() % outputs).abs()
                    + 2.0 * sum_error(inputs * kernel[0] * kernel[1], magnitude.data[index]) + 1e-7
            });
        }
    }

    #[test]
    fn norms_keep_their_statistics_in_f32(
        rows in 1_usize..5, features in 2_usize..100, weight: bool, bias: bool, mean in 0_u8..3, small_eps: bool,
    ) {
        let eps = if small_eps { 1e-6 } else { 1e-2 };
        let spec = NormSpec { eps, weight, bias, ..NormSpec::new(features) };
        let mut values = sample(&[rows, 1, features], 3);
        let offset = f32::from(mean) * 100.0;
        values.data_mut().iter_mut().for_each(|value| *value += offset);
        for case in cases() {
            let layer = case.backend.prepare_norm(&weights(), &spec).unwrap();
            let (x, plain) = case.upload(&values);
            let parameter = |name, wanted: bool| wanted.then(|| case.parameter(name, &[features]));
            let (weight, bias) = (parameter("weight", weight), parameter("bias", bias));
            let norm = plain::norm(&plain, eps);
            let scaled = plain::Array::new(&norm.dims, |at| norm.at(at) * weight.as_ref().map_or(1.0, |w| w.at(at)));
            let expected = plain::Array::new(&norm.dims, |at| scaled.at(at) + bias.as_ref().map_or(0.0, |b| b.at(at)));
            let deviation = |index: usize| {
                let row = &plain.data[index / features * features..][..features];
                let mean = row.iter().sum::<f64>() / features as f64;
                (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / features as f64 + eps).sqrt()
            };
            let y = case.backend.norm(&x, &layer).unwrap();
            case.compare(&y, &expected, |index| {
                // Beside a large mean, f32 has few digits left for what differs from it.
                let lost = 8.0 * F32_UNIT * f64::from(offset + 3.0) / deviation(index);
                1.01 * case.unit * expected.data[index].abs() + lost * (2.0 + scaled.data[index].abs()) + 1e-6
            });
        }
    }
}

#[test]
fn norms_keep_their_digits_beside_a_large_mean() {
    let features = 96;
    let spec = NormSpec { weight: false, bias: false, ..NormSpec::new(features) };
    let mut values = sample(&[5, features], 3);
    values.data_mut().iter_mut().for_each(|value| *value += 3000.0);
    let case = case(Kind::Float, Kind::Float);
    let layer = case.backend.prepare_norm(&weights(), &spec).unwrap();
    let (x, plain) = case.upload(&values);
    case.compare(&case.backend.norm(&x, &layer).unwrap(), &plain::norm(&plain, 1e-5), |_| 1e-3);
}

#[test]
fn activations_are_the_functions_that_they_are_named_after() {
    let points: Vec<f32> = (-1200..=1200).map(|step| step as f32 / 100.0).collect();
    let points = HostTensor::new([points.len()], points).unwrap();
    for case in cases() {
        let (x, plain) = case.upload(&points);
        for activation in ACTIVATIONS {
            let y = case.backend.activate(&x, activation).unwrap();
            let expected = plain.map(|x| plain::activation(activation, x));
            let quick = activation == Activation::QuickGelu;
            case.compare(&y, &expected, |index| {
                let x = plain.data[index].abs();
                // A sigmoid whose argument is off by a rounding of 1.702 x is off by a 1.702 x-th of that, relatively.
                let roundings = if quick { 3.0 + 1.702 * x } else { 1.0 };
                let zero = if case.unit > F32_UNIT && quick { 1e-4 } else { 2e-6 };
                roundings * case.unit * expected.data[index].abs() + zero
            });
        }
    }
}

#[test]
fn pooling_covers_whole_windows() {
    for case in cases() {
        let (x, plain) = case.upload(&sample(&[2, 3, 7, 9], 6));
        for (kernel, stride) in [([2, 2], [2, 2]), ([3, 2], [1, 2]), ([7, 9], [7, 9])] {
            let windows = |at: &[usize]| {
                let (at, plain) = (at.to_vec(), &plain);
                (0..kernel[0]).flat_map(move |y| {
                    let at = at.clone();
                    (0..kernel[1])
                        .map(move |z| plain.at(&[at[0], at[1], at[2] * stride[0] + y, at[3] * stride[1] + z]))
                })
            };
            let dims = [2, 3, (7 - kernel[0]) / stride[0] + 1, (9 - kernel[1]) / stride[1] + 1];
            let count = (kernel[0] * kernel[1]) as f64;
            let average = plain::Array::new(&dims, |at| windows(at).sum::<f64>() / count);
            let largest = plain::Array::new(&dims, |at| windows(at).fold(f64::NEG_INFINITY, f64::max));
            for (kind, expected, roundings) in
                [(PoolKind::Average, average, 1.01), (PoolKind::Max, largest, 0.0)]
            {
                let y =
                    case.backend.pool2d(&x, &Pool2dSpec { kind, kernel, stride, padding: [0, 0] }).unwrap();
                case.compare(&y, &expected, |index| {
                    roundings * case.unit * expected.data[index].abs() + roundings * 4e-6
                });
            }
        }
    }
}

#[test]
fn embeddings_are_rows_of_the_table() {
    for case in cases() {
        let spec = EmbeddingSpec { count: 9, features: 5 };
        let table = case.backend.prepare_embedding(&weights(), &spec).unwrap();
        let rows = case.parameter("weight", &[9, 5]);
        let ids = [3_u32, 8, 0, 3, 3, 1];
        let batch = case.backend.upload_tokens(&TokenBatch::new(2, 3, ids.to_vec()).unwrap()).unwrap();
        let y = case.backend.embed(&batch, &table).unwrap();
        let expected = plain::Array::new(&[2, 3, 5], |at| rows.at(&[ids[at[0] * 3 + at[1]] as usize, at[2]]));
        case.compare(&y, &expected, |_| 0.0);
        let outside = case.backend.upload_tokens(&TokenBatch::new(1, 1, vec![9]).unwrap()).unwrap();
        let error = case.backend.embed(&outside, &table).unwrap_err();
        assert!(matches!(error, Error::Backend { .. }), "{error}");
    }
}
