//! Operations between layers: their values, and their dimensions against those that `ShapeBackend` infers.

use proptest::prelude::*;

use super::*;

#[test]
fn arithmetic_broadcasts_and_rounds_once() {
    for case in cases() {
        let (a, plain_a) = case.upload(&sample(&[2, 3, 4], 1));
        for dims in [&[2, 3, 4][..], &[4], &[3, 1], &[1, 3, 4], &[1]] {
            let (b, plain_b) = case.upload(&sample(dims, 2));
            type Operation = (BinaryOp, fn(f64, f64) -> f64);
            let operations: [Operation; 4] = [
                (BinaryOp::Add, |a, b| a + b),
                (BinaryOp::Sub, |a, b| a - b),
                (BinaryOp::Mul, |a, b| a * b),
                (BinaryOp::Div, |a, b| a / b),
            ];
            for (op, function) in operations {
                let expected = plain::Array::new(&[2, 3, 4], |at| function(plain_a.at(at), plain_b.at(at)));
                case.compare_rounded(&case.backend.binary(op, &a, &b).unwrap(), &expected, 1.01);
            }
        }
    }
}

#[test]
fn products_and_reductions_sum_in_f32() {
    for case in cases() {
        let (a, plain_a) = case.upload(&sample(&[2, 5, 300], 1));
        let (b, plain_b) = case.upload(&sample(&[2, 300, 4], 2));
        let product = plain::Array::new(&[2, 5, 4], |at| {
            (0..300).map(|k| plain_a.at(&[at[0], at[1], k]) * plain_b.at(&[at[0], k, at[2]])).sum()
        });
        let error = 300.0 * F32_UNIT * 300.0 * 4.0;
        case.compare(&case.backend.matmul(&a, &b).unwrap(), &product, |index| {
            1.01 * case.unit * product.data[index].abs() + error
        });
        let row = |at: &[usize]| (0..300).map(|k| plain_a.at(&[at[0], at[1], k])).collect::<Vec<f64>>();
        let sum = plain::Array::new(&[2, 5], |at| row(at).iter().sum());
        let mean = sum.map(|x| x / 300.0);
        let largest = plain::Array::new(&[2, 5], |at| row(at).into_iter().fold(f64::NEG_INFINITY, f64::max));
        for (op, expected) in [(ReduceOp::Sum, sum), (ReduceOp::Mean, mean), (ReduceOp::Max, largest)] {
            let found = case.backend.reduce(&a, op, 2).unwrap();
            case.compare(&found, &expected, |index| 1.01 * case.unit * expected.data[index].abs() + 1e-4);
        }
    }
}

#[test]
fn movements_put_every_element_in_its_place() {
    for case in cases() {
        let (x, plain) = case.upload(&sample(&[2, 6, 4], 1));
        let at = |a: usize, b: usize, c: usize| plain.at(&[a, b, c]);
        let backend = &case.backend;
        let spatial = backend.rearrange(&x, Rearrange::TokensToSpatial { height: 2, width: 3 }).unwrap();
        let index = TokenBatch::new(1, 2, vec![5, 0]).unwrap();
        let index =
            backend.rearrange(&backend.upload_tokens(&index).unwrap(), Rearrange::Squeeze(0)).unwrap();
        let first = backend.slice(&x, 0, &0.into(), &1.into()).unwrap();
        let found = [
            (
                backend.rearrange(&x, Rearrange::SplitLast { parts: 2 }).unwrap(),
                plain::Array::new(&[2, 6, 2, 2], |i| at(i[0], i[1], 2 * i[2] + i[3])),
            ),
            (
                backend.rearrange(&x, Rearrange::MergeLast).unwrap(),
                plain::Array::new(&[2, 24], |i| at(i[0], i[1] / 4, i[1] % 4)),
            ),
            (
                backend.rearrange(&x, Rearrange::Transpose(0, 2)).unwrap(),
                plain::Array::new(&[4, 6, 2], |i| at(i[2], i[1], i[0])),
            ),
            (
                backend.rearrange(&x, Rearrange::Unsqueeze(3)).unwrap(),
                plain::Array::new(&[2, 6, 4, 1], |i| at(i[0], i[1], i[2])),
            ),
            (spatial.clone(), plain::Array::new(&[2, 4, 2, 3], |i| at(i[0], 3 * i[2] + i[3], i[1]))),
            (backend.rearrange(&spatial, Rearrange::SpatialToTokens).unwrap(), plain.clone()),
            (
                backend.slice(&x, 1, &2.into(), &5.into()).unwrap(),
                plain::Array::new(&[2, 3, 4], |i| at(i[0], i[1] + 2, i[2])),
            ),
            (
                backend.cat(&[&x, &x], 1).unwrap(),
                plain::Array::new(&[2, 12, 4], |i| at(i[0], i[1] % 6, i[2])),
            ),
            (
                backend.take_rows(&x, &index).unwrap(),
                plain::Array::new(&[2, 4], |i| at(i[0], [5, 0][i[0]], i[1])),
            ),
            (backend.expand_batch(&first, &x).unwrap(), plain::Array::new(&[2, 6, 4], |i| at(0, i[1], i[2]))),
        ];
        for (found, expected) in found {
            case.compare(&found, &expected, |_| 0.0);
        }
    }
}

#[test]
fn token_positions_are_the_first_ones() {
    let ids =
        TokenBatch::new(4, 5, vec![1, 9, 3, 9, 0, 4, 4, 4, 4, 4, 0, 2, 0, 2, 7, 5, 0, 0, 0, 0]).unwrap();
    for case in cases() {
        let backend = &case.backend;
        let ids = backend.upload_tokens(&ids).unwrap();
        for (which, expected) in [
            (TokenPosition::HighestId, [1.0, 0.0, 4.0, 0.0]),
            (TokenPosition::First(0), [4.0, 0.0, 0.0, 1.0]),
            (TokenPosition::First(4), [0.0, 0.0, 0.0, 0.0]),
        ] {
            let found = backend.token_position(&ids, which).unwrap();
            assert_eq!(case.download(&found).data, expected, "{which:?}");
        }
        let bias = backend.padding_bias(&ids, 9).unwrap();
        assert_eq!(case.download(&bias).dims, [4, 1, 1, 5]);
        let hidden = f64::NEG_INFINITY;
        assert_eq!(case.download(&bias).data[..5], [0.0, hidden, 0.0, hidden, 0.0]);
    }
}

#[test]
fn ids_beyond_16_bits_survive() {
    let backend = case(Kind::BFloat16, Kind::BFloat16).backend;
    let ids = backend.upload_tokens(&TokenBatch::new(1, 3, vec![250_001, u32::MAX, 3]).unwrap()).unwrap();
    let bias = backend.download(&backend.padding_bias(&ids, u32::MAX).unwrap()).unwrap();
    assert_eq!(bias.data(), [0.0, f32::NEG_INFINITY, 0.0]);
    let highest = backend.token_position(&ids, TokenPosition::HighestId).unwrap();
    assert_eq!(backend.download(&highest).unwrap().data(), [1.0]);
}

/// A step of a random program.
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
        14 => b.attention(x, x, x, &AttentionSpec::new(2, 4).causal(true), None),
        _ => b.activate(x, Activation::Silu),
    }
}

proptest! {
    #[test]
    fn dimensions_are_those_that_are_inferred(kinds in prop::collection::vec(0_usize..16, 1..8)) {
        let dims = [4_usize, 6, 8];
        let backend = f32_backend();
        let mut real = backend.upload(&sample(&dims, 1)).unwrap();
        let mut inferred = ShapeTensor::new(dims);
        for kind in kinds {
            match (step(&backend, &real, kind), step(&ShapeBackend, &inferred, kind)) {
                (Ok(next), Ok(shape)) => {
                    prop_assert_eq!(&backend.dims(&next), &shape.0, "step {}", kind);
                    (real, inferred) = (next, shape);
                    // libtorch refuses to pool a tensor without channels.
                    if real.inner().numel() == 0 {
                        break;
                    }
                }
                (Err(Error::Shape { .. }), Err(_)) => {}
                (real, inferred) => {
                    let message = format!("step {kind}: {:?}, {inferred:?}", real.map(|x| x.dims()));
                    return Err(TestCaseError::fail(message));
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_a_shape_error() {
    let backend = f32_backend();
    let upload = |dims: &[usize]| backend.upload(&sample(dims, 1)).unwrap();
    let x = upload(&[2, 6, 4]);
    let image = upload(&[2, 3, 5, 5]);
    let linear = backend.prepare_linear(&weights(), &LinearSpec::new(8, 4)).unwrap();
    let conv = backend.prepare_conv2d(&weights(), &Conv2dSpec::patches(3, 4, [8, 8])).unwrap();
    let norm = backend.prepare_norm(&weights(), &NormSpec::new(8)).unwrap();
    let ids = backend.upload_tokens(&TokenBatch::new(1, 3, vec![1, 2, 3]).unwrap()).unwrap();
    let row = backend.rearrange(&ids, Rearrange::Squeeze(0)).unwrap();
    let window = Pool2dSpec { kind: PoolKind::Max, kernel: [6, 6], stride: [1, 1], padding: [0, 0] };
    let failures = [
        ("linear", backend.linear(&x, &linear)),
        ("conv2d", backend.conv2d(&image, &conv)),
        ("conv2d of tokens", backend.conv2d(&x, &conv)),
        ("norm", backend.norm(&x, &norm)),
        ("pool2d", backend.pool2d(&image, &window)),
        ("rearrange", backend.rearrange(&x, Rearrange::SplitLast { parts: 3 })),
        ("rearrange", backend.rearrange(&x, Rearrange::SplitLast { parts: 0 })),
        ("binary", backend.binary(BinaryOp::Add, &x, &image)),
        ("matmul", backend.matmul(&x, &x)),
        ("reduce", backend.reduce(&x, ReduceOp::Mean, 3)),
        ("cat", backend.cat(&[&x, &image], 0)),
        ("cat", backend.cat(&[], 0)),
        ("slice", backend.slice(&x, 1, &4.into(), &2.into())),
        ("slice", backend.slice(&x, 1, &4.into(), &7.into())),
        ("slice", backend.slice(&x, 3, &0.into(), &1.into())),
        ("slice", backend.slice(&x, 1, &0.into(), &Dim::symbol(openclip_core::Symbol::BATCH))),
        ("take_rows", backend.take_rows(&x, &row)),
        ("expand_batch", backend.expand_batch(&x, &x)),
        ("token_position", backend.token_position(&row, TokenPosition::HighestId)),
        ("padding_bias", backend.padding_bias(&row, 0)),
    ];
    for (what, result) in failures {
        assert!(matches!(result, Err(Error::Shape { .. })), "{what}: {result:?}");
    }
    let far = backend.rearrange(
        &backend.upload_tokens(&TokenBatch::new(1, 2, vec![1, 6]).unwrap()).unwrap(),
        Rearrange::Squeeze(0),
    );
    let outside = backend.take_rows(&x, &far.unwrap());
    assert!(matches!(outside, Err(Error::Backend { .. })), "{outside:?}");
}

#[test]
fn empty_batches_pass() {
    for case in cases() {
        let backend = &case.backend;
        let x = backend.upload(&HostTensor::zeros([0, 6, 8])).unwrap();
        let linear = backend.prepare_linear(&weights(), &LinearSpec::new(8, 4)).unwrap();
        let y = backend.linear(&x, &linear).unwrap();
        assert_eq!(backend.download(&y).unwrap().dims(), [0, 6, 4]);
        let merged = backend.rearrange(&y, Rearrange::MergeLast).unwrap();
        assert_eq!(backend.download(&merged).unwrap().dims(), [0, 24]);
    }
}
