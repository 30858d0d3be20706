//! Many threads on one backend.

use std::thread;

use super::*;

#[test]
fn eight_threads_get_the_same_bits() {
    for case in cases() {
        let backend = &case.backend;
        let spec = LinearSpec::new(96, 192).activated(Activation::QuickGelu);
        let linear = backend.prepare_linear(&weights(), &spec).unwrap();
        let norm = backend.prepare_norm(&weights(), &NormSpec::new(192)).unwrap();
        let x = backend.upload(&sample(&[4, 33, 96], 1)).unwrap();
        let run = || {
            let y = backend.norm(&backend.linear(&x, &linear).unwrap(), &norm).unwrap();
            let z = backend.attention(&y, &y, &y, &AttentionSpec::new(4, 48).causal(true), None).unwrap();
            backend.download(&z).unwrap()
        };
        let alone = run();
        thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| [run(), run(), run()])).collect();
            for caller in callers {
                for together in caller.join().unwrap() {
                    assert_eq!(together, alone);
                }
            }
        });
    }
}

#[test]
fn no_thread_records_gradients() {
    let backend = f32_backend();
    let linear = backend.prepare_linear(&weights(), &LinearSpec::new(8, 4)).unwrap();
    let x = backend.upload(&sample(&[2, 8], 1)).unwrap();
    let check = || {
        let y = backend.linear(&x, &linear).unwrap();
        assert!(!y.inner().requires_grad());
        // Whoever calls keeps its own setting.
        let trainable = Tensor::f_ones([1], (Kind::Float, Device::Cpu)).unwrap().set_requires_grad(true);
        assert!(trainable.f_mul_scalar(2.0).unwrap().requires_grad());
        let recorded = run("test", || trainable.f_mul_scalar(2.0)).unwrap();
        assert!(!recorded.inner().requires_grad());
    };
    check();
    thread::scope(|scope| {
        scope.spawn(check);
    });
}
