//! Recall of synthetic pairs, as `openclip eval retrieval` computes it.

use std::hint::black_box;

use anyhow::Result;
use openclip_core::HostTensor;
use openclip_eval::metric::retrieval;

use super::{Call, Work};

/// Values of a feature.
const WIDTH: usize = 512;
/// Ranks that count.
const KS: [usize; 3] = [1, 5, 10];

/// Pairs that are made up as they are asked for.
pub struct Retrieval;

/// Features of unit length; a text's is that of its image and some noise.
fn features(count: usize) -> Result<[HostTensor; 2]> {
    let mut state = 1_u64;
    let mut draw = || {
        // As in bench_retrieval.py (Knuth's constants for a linear congruential generator).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let images: Vec<f32> = (0..count * WIDTH).map(|_| draw()).collect();
    let texts: Vec<f32> = images.iter().map(|value| value + 8.0 * draw()).collect();
    let mut pair = [HostTensor::new([count, WIDTH], images)?, HostTensor::new([count, WIDTH], texts)?];
    pair.iter_mut().for_each(HostTensor::l2_normalize_rows);
    Ok(pair)
}

fn recall(count: usize) -> Result<Vec<f64>> {
    let [images, texts] = features(count)?;
    let pairs: Vec<usize> = (0..count).collect();
    let found = retrieval(&images, &texts, &pairs, &KS)?;
    Ok([found.image_retrieval.recall, found.text_retrieval.recall].concat())
}

impl Work for Retrieval {
    fn prepare(&self, _first: usize, count: usize) -> Result<Call<'_>> {
        let [images, texts] = features(count)?;
        Ok(Box::new(move || {
            let pairs: Vec<usize> = (0..count).collect();
            black_box(retrieval(&images, &texts, &pairs, &KS)?);
            Ok(())
        }))
    }

    /// The recalls of a few pairs.
    fn first(&self) -> Result<Vec<f32>> {
        Ok(recall(500)?.into_iter().map(|recall| recall as f32).collect())
    }
}
