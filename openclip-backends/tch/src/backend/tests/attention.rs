//! Attention: its masks, its widths and the element type of its softmax.

use proptest::prelude::*;

use super::*;

/// `q`, `k` and `v` for large scores: a softmax in halves would be far off.
fn inputs(
    batch: usize,
    [queries, keys]: [usize; 2],
    heads: usize,
    [width, value_width]: [usize; 2],
) -> [HostTensor; 3] {
    let mut q = sample(&[batch, queries, heads * width], 1);
    q.data_mut().iter_mut().for_each(|value| *value *= 3.0);
    [q, sample(&[batch, keys, heads * width], 2), sample(&[batch, keys, heads * value_width], 3)]
}

fn compare(case: &Case, inputs: &[HostTensor; 3], spec: &AttentionSpec, bias: Option<&HostTensor>) {
    let [q, k, v] = inputs.each_ref().map(|input| case.upload(input));
    let bias = bias.map(|bias| case.upload(bias));
    let found = case.backend.attention(&q.0, &k.0, &v.0, spec, bias.as_ref().map(|bias| &bias.0)).unwrap();
    let arrays = [&q.1, &k.1, &v.1];
    let scale = f64::from(spec.scale);
    let (expected, magnitude) =
        plain::attention(arrays, spec.heads, scale, spec.causal, bias.as_ref().map(|bias| &bias.1));
    case.compare(&found, &expected, |index| {
        // The result is rounded, and so are the weights before the second product; scores are below 64.
        let weights = 1.1 * case.unit + 64.0 * 8.0 * F32_UNIT;
        1.01 * case.unit * expected.data[index].abs() + weights * magnitude.data[index] + 1e-6
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_is_exact_to_its_roundings(
        batch in 1_usize..4, queries in 1_usize..20, keys in 1_usize..20, heads in 1_usize..4,
        width in 1_usize..9, value_width in prop::option::of(1_usize..9), causal: bool, bias in 0_usize..8,
    ) {
        let value_width = value_width.unwrap_or(width);
        let inputs = inputs(batch, [queries, keys], heads, [width, value_width]);
        let shapes: [&[usize]; 6] = [
            &[1, 1, queries, keys], &[batch, 1, 1, keys], &[1, heads, queries, keys], &[1, 1, 1, 1],
            &[queries, keys], &[batch, heads, queries, 1],
        ];
        let bias = shapes.get(bias).map(|dims| sample(dims, 4));
        let spec = AttentionSpec { heads, scale: 0.7, causal };
        for case in cases() {
            compare(&case, &inputs, &spec, bias.as_ref());
        }
    }
}

#[test]
fn attention_of_a_towers_size_is_exact_to_its_roundings() {
    for case in cases() {
        for (length, causal) in [(50, false), (77, true)] {
            compare(
                &case,
                &inputs(2, [length; 2], 3, [64; 2]),
                &AttentionSpec { heads: 3, scale: 0.05, causal },
                None,
            );
        }
    }
}

#[test]
fn attention_takes_slices_where_they_stand() {
    for case in cases() {
        let packed = sample(&[2, 7, 3 * 12], 5);
        let (x, plain) = case.upload(&packed);
        let part = |index: usize| {
            case.backend.slice(&x, 2, &(12 * index).into(), &(12 * index + 12).into()).unwrap()
        };
        let plain_part =
            |index: usize| plain::Array::new(&[2, 7, 12], |at| plain.at(&[at[0], at[1], 12 * index + at[2]]));
        let spec = AttentionSpec::new(3, 4);
        let found = case.backend.attention(&part(0), &part(1), &part(2), &spec, None).unwrap();
        let [q, k, v] = [0, 1, 2].map(plain_part);
        let (expected, magnitude) = plain::attention([&q, &k, &v], 3, 0.5, false, None);
        case.compare(&found, &expected, |index| 2.1 * case.unit * magnitude.data[index] + 1e-5);
    }
}

#[test]
fn texts_of_padding_alone_leave_others_alone() {
    let ids = TokenBatch::new(3, 4, vec![5, 6, 7, 0, 0, 0, 0, 0, 8, 0, 9, 0]).unwrap();
    for case in cases() {
        let ids = case.backend.upload_tokens(&ids).unwrap();
        let bias = case.backend.padding_bias(&ids, 0).unwrap();
        let plain_bias = case.download(&bias);
        for causal in [false, true] {
            let inputs = inputs(3, [4, 4], 2, [8, 8]);
            let [q, k, v] = inputs.each_ref().map(|input| case.upload(input));
            let spec = AttentionSpec::new(2, 8).causal(causal);
            let found = case.backend.attention(&q.0, &k.0, &v.0, &spec, Some(&bias)).unwrap();
            let (expected, magnitude) =
                plain::attention([&q.1, &k.1, &v.1], 2, f64::from(spec.scale), causal, Some(&plain_bias));
            let found = case.download(&found);
            for (text, rows) in [(0, 0..64), (2, 128..192)] {
                for index in rows {
                    let (a, b) = (found.data[index], expected.data[index]);
                    let tolerance = 2.1 * case.unit * magnitude.data[index] + 1e-5;
                    assert!((a - b).abs() <= tolerance, "text {text}, {:?}: {a}, {b}", case.backend.kinds);
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_a_shape_error() {
    let backend = f32_backend();
    let upload = |dims: &[usize]| backend.upload(&sample(dims, 1)).unwrap();
    let spec = AttentionSpec::new(2, 4);
    let good = upload(&[2, 3, 8]);
    assert!(backend.attention(&good, &good, &good, &spec, None).is_ok());
    type Bad<'a> = (&'a str, [&'a [usize]; 3], Option<&'a [usize]>);
    let bad: [Bad; 9] = [
        ("rank of q", [&[3, 8], &[2, 3, 8], &[2, 3, 8]], None),
        ("batch of k", [&[2, 3, 8], &[1, 3, 8], &[1, 3, 8]], None),
        ("batch of v", [&[2, 3, 8], &[2, 3, 8], &[1, 3, 8]], None),
        ("width of k", [&[2, 3, 8], &[2, 3, 6], &[2, 3, 8]], None),
        ("length of v", [&[2, 3, 8], &[2, 3, 8], &[2, 4, 8]], None),
        ("heads in q", [&[2, 3, 7], &[2, 3, 7], &[2, 3, 8]], None),
        ("heads in v", [&[2, 3, 8], &[2, 3, 8], &[2, 3, 7]], None),
        ("bias", [&[2, 3, 8]; 3], Some(&[2, 1, 1, 4])),
        ("axes of bias", [&[2, 3, 8]; 3], Some(&[1, 2, 2, 3, 3])),
    ];
    for (what, dims, bias) in bad {
        let [q, k, v] = dims.map(upload);
        let result = backend.attention(&q, &k, &v, &spec, bias.map(upload).as_ref());
        assert!(matches!(result, Err(Error::Shape { .. })), "{what}: {result:?}");
    }
}
