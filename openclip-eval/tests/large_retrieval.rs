//! Retrieval among so many pairs that a table of their scores would not fit into memory: it takes minutes, so it runs when it is
//! asked for.
//!
//! ```sh
//! cargo test --release -p openclip-eval --test large_retrieval -- --ignored --nocapture
//! ```

#![cfg(target_os = "linux")]

use std::{error::Error, fs, time::Instant};

use openclip_core::HostTensor;
use openclip_eval::metric::retrieval;

const PAIRS: usize = 100_000;
const WIDTH: usize = 512;

/// Most KiB that this process has had resident.
fn peak() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_pairs_take_less_than_a_gibibyte() -> Result<(), Box<dyn Error>> {
    // Knuth's linear congruential generator. A text is its image and noise eight times as strong.
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let images: Vec<f32> = (0..PAIRS * WIDTH).map(|_| draw()).collect();
    let texts: Vec<f32> = images.iter().map(|value| value + 8.0 * draw()).collect();
    let mut pair = [HostTensor::new([PAIRS, WIDTH], images)?, HostTensor::new([PAIRS, WIDTH], texts)?];
    pair.iter_mut().for_each(HostTensor::l2_normalize_rows);
    let [images, texts] = &pair;

    let pairs: Vec<usize> = (0..PAIRS).collect();
    let start = Instant::now();
    let metrics = retrieval(images, texts, &pairs, &[1, 5, 10])?;
    println!(
        "{metrics:?}\n{:.1} s, {:.2} GiB",
        start.elapsed().as_secs_f64(),
        peak()? as f64 / f64::from(1 << 20)
    );

    // Noise of that strength leaves a cosine of 1/8 between a pair, 2.8 deviations of that between others.
    let [first, _, tenth] = metrics.image_retrieval.recall[..] else { return Err("three recalls".into()) };
    assert!(0.0 < first && first < tenth && tenth < 0.5, "{metrics:?}");
    assert!(peak()? < 1 << 20, "{} KiB", peak()?);
    Ok(())
}
