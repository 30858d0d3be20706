//! Pooling over the windows of a feature map.

use std::ops::Range;

use openclip_core::backend::PoolKind;
use rayon::prelude::*;

use super::Geometry;

/// `x [N, H, W, channels]` to `target [N, windows, channels]`. Only places of the map count.
pub fn pool(
    kind: PoolKind,
    geometry: &Geometry,
    channels: usize,
    (x, size): (&[f32], [usize; 2]),
    (target, windows): (&mut [f32], [usize; 2]),
) {
    let row = windows[1] * channels;
    if row == 0 {
        return;
    }
    // The places of window `index` along an axis that are on the map.
    let places = |axis: usize, index: usize| -> Range<usize> {
        let start = index * geometry.stride[axis];
        let on_map = |place: usize| place.saturating_sub(geometry.padding[axis]).min(size[axis]);
        on_map(start)..on_map(start + geometry.kernel[axis])
    };
    target.par_chunks_exact_mut(row).enumerate().for_each(|(index, target)| {
        let (input, lines) = (index / windows[0], places(0, index % windows[0]));
        for (column, target) in target.chunks_exact_mut(channels).enumerate() {
            let columns = places(1, column);
            target.fill(match kind {
                PoolKind::Max => f32::NEG_INFINITY,
                PoolKind::Average => 0.0,
            });
            for line in lines.clone() {
                for column in columns.clone() {
                    let start = ((input * size[0] + line) * size[1] + column) * channels;
                    let place = target.iter_mut().zip(&x[start..start + channels]);
                    match kind {
                        PoolKind::Max => place.for_each(|(sum, &value)| *sum = sum.max(value)),
                        PoolKind::Average => place.for_each(|(sum, &value)| *sum += value),
                    }
                }
            }
            if kind == PoolKind::Average {
                let factor = ((lines.len() * columns.len()) as f32).recip();
                target.iter_mut().for_each(|sum| *sum *= factor);
            }
        }
    });
}
