//! Products of features, a few rows at a time on all cores, so that a table of all pairs is never in memory.

use ndarray::{Array2, ArrayView2};
use openclip_core::HostTensor;
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Scores that a thread holds at once: 64 MiB.
const SCORES_AT_ONCE: usize = 1 << 24;
/// Rows that are multiplied together at most: more gain nothing.
const MOST_ROWS: usize = 128;

/// Two sets of features `[N, D]` and `[M, D]` as matrices.
///
/// # Errors
/// [`Error::Undefined`] for tensors of other axes, different widths, and values that aren't finite.
pub(crate) fn matrices<'a>(left: &'a HostTensor, right: &'a HostTensor) -> Result<[ArrayView2<'a, f32>; 2]> {
    let [left, right] = [matrix(left)?, matrix(right)?];
    match left.ncols() == right.ncols() {
        true => Ok([left, right]),
        false => Err(Error::Undefined(format!(
            "features of {} and of {} values don't compare: they are of different models",
            left.ncols(),
            right.ncols()
        ))),
    }
}

fn matrix(features: &HostTensor) -> Result<ArrayView2<'_, f32>> {
    let &[rows, width] = features.dims() else {
        return Err(Error::Undefined(format!("features must be [N, D], found {:?}", features.dims())));
    };
    if let Some(place) = features.data().iter().position(|value| !value.is_finite()) {
        let message = format!(
            "features of row {} aren't finite numbers: try a precision of a wider range, such as f32",
            place / width.max(1)
        );
        return Err(Error::Undefined(message));
    }
    ArrayView2::from_shape((rows, width), features.data())
        .map_err(|error| Error::Undefined(format!("features {:?}: {error}", features.dims())))
}

/// What `each` makes of the products of every row of `queries` with all of `candidates`, in order. `each` is given the row's
/// number and its scores, and room of its thread's own.
pub(crate) fn map_scores<T: Send, Room: Default>(
    queries: &ArrayView2<'_, f32>,
    candidates: &ArrayView2<'_, f32>,
    each: impl Fn(usize, &[f32], &mut Room) -> T + Sync,
) -> Vec<T> {
    let rows = (SCORES_AT_ONCE / candidates.nrows().max(1)).clamp(1, MOST_ROWS);
    let starts: Vec<usize> = (0..queries.nrows()).step_by(rows).collect();
    let blocks: Vec<Vec<T>> = starts
        .into_par_iter()
        .map_init(
            || (Array2::zeros((0, 0)), Room::default()),
            |(scores, room), start| {
                let block = queries.slice(ndarray::s![start..(start + rows).min(queries.nrows()), ..]);
                if scores.dim() != (block.nrows(), candidates.nrows()) {
                    *scores = Array2::zeros((block.nrows(), candidates.nrows()));
                }
                ndarray::linalg::general_mat_mul(1.0, &block, &candidates.t(), 0.0, scores);
                let rows = scores.rows().into_iter().enumerate();
                rows.map(|(row, scores)| each(start + row, scores.as_slice().unwrap_or_default(), room))
                    .collect()
            },
        )
        .collect();
    blocks.into_iter().flatten().collect()
}
