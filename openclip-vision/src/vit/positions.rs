//! Resizing of position tables to another grid of patches, as the reference does it when a checkpoint is loaded.

use openclip_core::{Error, HostTensor, Result};

use crate::preprocess::{Interpolation, filter::Coefficients};

/// Resizes the position table of a square grid to another grid: bicubic with antialiasing, half-pixel centres, as
/// `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`. The first `prefix` rows, those of class tokens, are kept.
/// `name` is the parameter's.
///
/// # Shapes
/// `[prefix + side * side, width] -> [prefix + rows * columns, width]`.
///
/// # Errors
/// [`Error::Shape`] when the stored grid isn't square.
pub fn resize_positions(
    name: &'static str,
    table: &HostTensor,
    prefix: usize,
    [rows, columns]: [usize; 2],
) -> Result<HostTensor> {
    let not_square = || {
        let expected = match prefix {
            0 => "a square number of rows".to_owned(),
            prefix => format!("{prefix} rows for class tokens and a square number of others"),
        };
        Error::shape(name, expected, format!("{:?}", table.dims()))
    };
    let &[stored, width] = table.dims() else { return Err(not_square()) };
    let patches = stored.checked_sub(prefix).ok_or_else(not_square)?;
    let side = patches.isqrt();
    if side == 0 || side * side != patches {
        return Err(not_square());
    }
    let (class, grid) = table.data().split_at(prefix * width);
    // One axis at a time, columns first. A line is `width` numbers for each of its cells.
    let wide = resize_axis(grid, [side, side, width], columns);
    let resized = resize_axis(&wide, [1, side, columns * width], rows);
    HostTensor::new([prefix + rows * columns, width], [class, &resized].concat())
}

/// Resizes the middle axis of `[outer, size, inner]`. The filter is the one that images are resized with: torch's
/// antialiasing follows Pillow's.
fn resize_axis(values: &[f32], [outer, size, inner]: [usize; 3], target: usize) -> Vec<f32> {
    let filter = Coefficients::new(size, target, 0..target, Interpolation::Bicubic);
    let mut result = vec![0.0; outer * target * inner];
    let lines = result.chunks_exact_mut(target * inner).zip(values.chunks_exact(size * inner));
    for (line, source) in lines {
        let taps = filter.bounds.iter().zip(filter.weights.chunks_exact(filter.taps));
        for (cell, (&(first, count), weights)) in line.chunks_exact_mut(inner).zip(taps) {
            let used = source.chunks_exact(inner).skip(first).take(count);
            for (from, &weight) in used.zip(weights) {
                cell.iter_mut().zip(from).for_each(|(sum, value)| *sum += weight as f32 * value);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_constant_table_stays_constant(side in 1_usize..9, rows in 1_usize..12, columns in 1_usize..12) {
            let table = HostTensor::new([1 + side * side, 2], vec![0.25; 2 * (1 + side * side)]).unwrap();
            let resized = resize_positions("positions", &table, 1, [rows, columns]).unwrap();
            prop_assert_eq!(resized.dims(), [1 + rows * columns, 2]);
            prop_assert!(resized.data().iter().all(|value| (value - 0.25).abs() < 1e-6));
        }
    }

    #[test]
    fn the_same_grid_is_left_alone() {
        let values: Vec<f32> = (0..20).map(|value| value as f32).collect();
        let table = HostTensor::new([10, 2], values).unwrap();
        assert_eq!(resize_positions("positions", &table, 1, [3, 3]).unwrap(), table);
    }

    #[test]
    fn grids_that_are_not_square_are_refused() {
        for dims in [vec![0, 4], vec![1, 4], vec![7, 4], vec![20]] {
            assert!(resize_positions("positions", &HostTensor::zeros(dims), 1, [2, 2]).is_err());
        }
    }
}
