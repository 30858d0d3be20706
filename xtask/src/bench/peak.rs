//! The most f32 arithmetic that the machine does: what a loop of nothing but multiply-adds in registers reaches.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use pulp::{Arch, Simd, WithSimd};

/// Sums that a thread works on at once. Two multiply-adds can begin in each cycle and take four cycles or five, so that
/// eight or ten keep the units busy, and this many fit into sixteen registers.
const SUMS: usize = 12;
/// Steps of a try: some milliseconds.
const STEPS: usize = 2_000_000;
/// Tries. Another process may disturb some, but hardly all.
const TRIES: usize = 12;

/// Operations a second of `threads` threads together, a multiplication and an addition being two.
pub fn measure(threads: usize) -> f64 {
    (0..TRIES).map(|_| attempt(threads.max(1))).fold(0.0, f64::max)
}

fn attempt(threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let run = || {
        barrier.wait();
        let start = Instant::now();
        let operations = Arch::new().dispatch(MultiplyAdd);
        (operations, start.elapsed())
    };
    let results: Vec<(f64, Duration)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let operations: f64 = results.iter().map(|(operations, _)| operations).sum();
    let seconds = results.iter().map(|(_, time)| time.as_secs_f64()).fold(f64::MIN_POSITIVE, f64::max);
    operations / seconds
}

/// The loop, in the widest registers that there are. Gives the number of operations.
struct MultiplyAdd;

impl WithSimd for MultiplyAdd {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (factor, term) = (simd.splat_f32s(black_box(0.5)), simd.splat_f32s(black_box(1.0)));
        let mut sums = [simd.splat_f32s(black_box(0.0)); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, term);
            }
        }
        black_box(sums);
        (2 * S::F32_LANES * SUMS * STEPS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_every_register() {
        let lanes = Arch::new().dispatch(MultiplyAdd) / (2 * SUMS * STEPS) as f64;
        assert!(lanes >= 1.0 && lanes.fract() == 0.0 && (lanes as u32).is_power_of_two(), "{lanes}");
    }
}
