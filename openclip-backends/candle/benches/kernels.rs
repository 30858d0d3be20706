//! The CPU kernels in the sizes of ViT-B-32's image tower: `cargo bench -p openclip-candle`.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openclip_candle::CandleBackend;
use openclip_core::{
    Backend, HostTensor, Precision, Result, Weights,
    backend::{Activation, AttentionBranch, AttentionSpec, DeviceSpec, Eager, LinearSpec, NormSpec},
    weights::synth::SynthesisedWeights,
};

const WIDTH: usize = 768;
const HIDDEN: usize = 3072;
const TOKENS: usize = 50;
const HEADS: usize = 12;

fn weights() -> Weights {
    Weights::new(Arc::new(SynthesisedWeights::new())).scope("bench")
}

fn tokens(backend: &CandleBackend, batch: usize, width: usize) -> Result<<CandleBackend as Backend>::Tensor> {
    let count = batch * TOKENS * width;
    let values = (0..count).map(|index| (index * 7919 % 2003) as f32 / 1000.0 - 1.0).collect();
    backend.upload(&HostTensor::new([batch, TOKENS, width], values)?)
}

/// A fully connected layer in each precision, at a batch of one image and of 32.
fn linear(criterion: &mut Criterion, precision: Precision) -> Result<()> {
    let backend = CandleBackend::new(DeviceSpec::Cpu, precision)?;
    let layer = backend.prepare_linear(&weights(), &LinearSpec::new(WIDTH, HIDDEN))?;
    let mut group = criterion.benchmark_group(format!("linear {precision}"));
    for batch in [1, 32] {
        let x = tokens(&backend, batch, WIDTH)?;
        group.throughput(Throughput::Elements((2 * batch * TOKENS * WIDTH * HIDDEN) as u64));
        group.bench_function(format!("{}x{WIDTH}x{HIDDEN}", batch * TOKENS), |bencher| {
            bencher.iter(|| backend.run(|| backend.linear(black_box(&x), &layer)));
        });
    }
    group.finish();
    Ok(())
}

/// What is not a product with weights.
fn others(criterion: &mut Criterion) -> Result<()> {
    let backend = CandleBackend::new(DeviceSpec::Cpu, Precision::F32)?;
    let spec = AttentionSpec::new(HEADS, WIDTH / HEADS);
    let norm = backend.prepare_norm(&weights(), &NormSpec::new(WIDTH))?;
    let (x, hidden) = (tokens(&backend, 32, WIDTH)?, tokens(&backend, 32, HIDDEN)?);

    let mut group = criterion.benchmark_group("32 images");
    group.bench_function("norm", |bencher| bencher.iter(|| backend.norm(black_box(&x), &norm)));
    for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::QuickGelu] {
        group.bench_function(format!("{activation:?}"), |bencher| {
            bencher.iter(|| backend.activate(black_box(&hidden), activation));
        });
    }
    group.bench_function("attention", |bencher| {
        bencher.iter(|| backend.run(|| backend.attention(black_box(&x), &x, &x, &spec, None)));
    });
    group.finish();
    Ok(())
}

/// The branches of a block in each precision, at a batch of one image and of 32.
fn branches(criterion: &mut Criterion, precision: Precision) -> Result<()> {
    let backend = CandleBackend::new(DeviceSpec::Cpu, precision)?;
    let (w, spec) = (weights(), AttentionSpec::new(HEADS, WIDTH / HEADS));
    let norm = backend.prepare_norm(&w, &NormSpec::new(WIDTH))?;
    let in_proj = backend.prepare_linear(&w.scope("in"), &LinearSpec::new(WIDTH, 3 * WIDTH))?;
    let out_proj = backend.prepare_linear(&w.scope("out"), &LinearSpec::new(WIDTH, WIDTH))?;
    let fc = LinearSpec::new(WIDTH, HIDDEN).activated(Activation::GeluErf);
    let fc = backend.prepare_linear(&w.scope("fc"), &fc)?;
    let proj = backend.prepare_linear(&w.scope("proj"), &LinearSpec::new(HIDDEN, WIDTH))?;

    let mut group = criterion.benchmark_group(format!("branches {precision}"));
    for batch in [1, 32] {
        let x = tokens(&backend, batch, WIDTH)?;
        let attention = AttentionBranch {
            norm: &norm,
            in_proj: &in_proj,
            rotary: None,
            spec: &spec,
            bias: None,
            out_proj: &out_proj,
        };
        group.bench_function(format!("attention {batch}"), |bencher| {
            bencher.iter(|| backend.run(|| backend.residual_attention(black_box(&x), &attention)));
        });
        group.bench_function(format!("MLP {batch}"), |bencher| {
            bencher.iter(|| backend.run(|| backend.residual_mlp(&x, black_box(&x), &norm, &fc, &proj)));
        });
    }
    group.finish();
    Ok(())
}

#[allow(clippy::expect_used, reason = "a benchmark that can't run says why")]
fn kernels(criterion: &mut Criterion) {
    for precision in Precision::ALL {
        linear(criterion, precision).expect("the layer runs");
        branches(criterion, precision).expect("the branches run");
    }
    others(criterion).expect("the layers run");
}

criterion_group!(benches, kernels);
criterion_main!(benches);
