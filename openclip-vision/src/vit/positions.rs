//! Resizing of position tables to another grid of patches, as the reference does it when a checkpoint is loaded.

use openclip_core::{Error, HostTensor, Result};

/// Resizes the position table of a square grid to another grid: bicubic with antialiasing, half-pixel centres, as
/// `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`. The first row, the class token's, is kept.
///
/// # Shapes
/// `[1 + side * side, width] -> [1 + rows * columns, width]`.
///
/// # Errors
/// [`Error::Shape`] when the stored grid isn't square.
pub fn resize_positions(table: &HostTensor, [rows, columns]: [usize; 2]) -> Result<HostTensor> {
    let not_square = || {
        Error::shape(
            "positional_embedding",
            "one row for the class token and a square number of others",
            format!("{:?}", table.dims()),
        )
    };
    let &[stored, width] = table.dims() else { return Err(not_square()) };
    let patches = stored.checked_sub(1).ok_or_else(not_square)?;
    let side = patches.isqrt();
    if side == 0 || side * side != patches {
        return Err(not_square());
    }
    let (class, grid) = table.data().split_at(width);
    // One axis at a time, columns first. A line is `width` numbers for each of its cells.
    let wide = resize_axis(grid, [side, side, width], columns);
    let resized = resize_axis(&wide, [1, side, columns * width], rows);
    HostTensor::new([1 + rows * columns, width], [class, &resized].concat())
}

/// Resizes the middle axis of `[outer, size, inner]`.
fn resize_axis(values: &[f32], [outer, size, inner]: [usize; 3], target: usize) -> Vec<f32> {
    let taps: Vec<(usize, Vec<f32>)> = (0..target).map(|index| cubic_taps(index, size, target)).collect();
    let mut result = vec![0.0; outer * target * inner];
    let lines = result.chunks_exact_mut(target * inner).zip(values.chunks_exact(size * inner));
    for (line, source) in lines {
        for (cell, (first, weights)) in line.chunks_exact_mut(inner).zip(&taps) {
            for (offset, weight) in weights.iter().enumerate() {
                let from = &source[(first + offset) * inner..][..inner];
                cell.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight * value);
            }
        }
    }
    result
}

/// The first cell and the weights that make cell `index` of `target` out of `size` cells.
fn cubic_taps(index: usize, size: usize, target: usize) -> (usize, Vec<f32>) {
    let scale = size as f32 / target as f32;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let centre = scale * (index as f32 + 0.5);
    let first = (centre - support + 0.5).max(0.0) as usize;
    let end = ((centre + support + 0.5) as usize).min(size);
    let mut weights: Vec<f32> =
        (first..end).map(|cell| keys_cubic((cell as f32 - centre + 0.5) / stretch)).collect();
    let total: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    (first, weights)
}

/// The cubic convolution kernel with `a = -0.5` (Keys, 1981).
fn keys_cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_sum_to_one_and_stay_inside(index in 0_usize..40, size in 1_usize..40, target in 1_usize..40) {
            prop_assume!(index < target);
            let (first, weights) = cubic_taps(index, size, target);
            prop_assert!(!weights.is_empty() && first + weights.len() <= size);
            prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }

        #[test]
        fn a_constant_table_stays_constant(side in 1_usize..9, rows in 1_usize..12, columns in 1_usize..12) {
            let table = HostTensor::new([1 + side * side, 2], vec![0.25; 2 * (1 + side * side)]).unwrap();
            let resized = resize_positions(&table, [rows, columns]).unwrap();
            prop_assert_eq!(resized.dims(), [1 + rows * columns, 2]);
            prop_assert!(resized.data().iter().all(|value| (value - 0.25).abs() < 1e-6));
        }
    }

    #[test]
    fn the_same_grid_is_left_alone() {
        let values: Vec<f32> = (0..20).map(|value| value as f32).collect();
        let table = HostTensor::new([10, 2], values).unwrap();
        assert_eq!(resize_positions(&table, [3, 3]).unwrap(), table);
    }

    #[test]
    fn grids_that_are_not_square_are_refused() {
        for dims in [vec![0, 4], vec![1, 4], vec![7, 4], vec![20]] {
            assert!(resize_positions(&HostTensor::zeros(dims), [2, 2]).is_err());
        }
    }
}
