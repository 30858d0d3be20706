//! Host-side values that cross the public API: dense `f32` tensors and batches of token ids.

use std::borrow::Cow;

use crate::{Error, Result};

/// A dense row-major `f32` tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl HostTensor {
    /// A tensor of `dims` over `data` in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] when the product of `dims` isn't `data.len()`.
    pub fn new(dims: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let dims = dims.into();
        let count = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        if count != Some(data.len()) {
            return Err(Error::shape(
                "HostTensor::new",
                format!("{dims:?}"),
                format!("{} values", data.len()),
            ));
        }
        Ok(Self { dims, data })
    }

    /// A tensor of `dims` filled with zeros.
    pub fn zeros(dims: impl Into<Vec<usize>>) -> Self {
        let dims = dims.into();
        let count = dims.iter().product();
        Self { dims, data: vec![0.0; count] }
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The values in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values in row-major order, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values, without the dimensions.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The rows of a tensor seen as `[N, rest]`: `dims()[0]` slices of equal length.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        let width = self.dims.iter().skip(1).product::<usize>().max(1);
        self.data.chunks_exact(width)
    }

    /// The same values under other dimensions.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of values differs.
    pub fn reshape(self, dims: impl Into<Vec<usize>>) -> Result<Self> {
        Self::new(dims, self.data)
    }

    /// Scales every row of `[N, D]` to unit Euclidean length, as `torch.nn.functional.normalize(x, dim=-1)` does
    /// (a row shorter than `1e-12` is divided by `1e-12`).
    pub fn l2_normalize_rows(&mut self) {
        let width = self.dims.last().copied().unwrap_or(1).max(1);
        for row in self.data.chunks_exact_mut(width) {
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            let scale = (1.0 / norm.max(1e-12)) as f32;
            row.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// A batch of token ids `[N, L]`, every row padded to the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    rows: usize,
    length: usize,
    ids: Vec<u32>,
}

impl TokenBatch {
    /// A batch of `rows` texts of `length` tokens each, from ids in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] when `rows * length` isn't `ids.len()`.
    pub fn new(rows: usize, length: usize, ids: Vec<u32>) -> Result<Self> {
        if rows.checked_mul(length) != Some(ids.len()) {
            return Err(Error::shape(
                "TokenBatch::new",
                format!("[{rows}, {length}]"),
                format!("{} ids", ids.len()),
            ));
        }
        Ok(Self { rows, length, ids })
    }

    /// Number of texts `N`.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of tokens per text `L`, padding included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids in row-major order.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The first `length` tokens of each text, or the batch as it is where texts are no longer than that.
    pub fn truncated(&self, length: usize) -> Cow<'_, Self> {
        if length >= self.length {
            return Cow::Borrowed(self);
        }
        let ids = self.iter().flat_map(|row| row.iter().take(length)).copied().collect();
        Cow::Owned(Self { rows: self.rows, length, ids })
    }

    /// The texts of these places, in their order. Places that there aren't are left out.
    pub fn select(&self, places: &[usize]) -> Self {
        let rows: Vec<&[u32]> =
            places.iter().filter_map(|&place| self.ids.chunks_exact(self.length.max(1)).nth(place)).collect();
        Self { rows: rows.len(), length: self.length, ids: rows.concat() }
    }

    /// The ids text by text.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u32> {
        self.ids.chunks_exact(self.length.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_must_match_the_values() {
        assert!(HostTensor::new([2, 3], vec![0.0; 6]).is_ok());
        let error = HostTensor::new([2, 3], vec![0.0; 5]).unwrap_err().to_string();
        assert_eq!(error, "HostTensor::new: expected dimensions [2, 3], found 5 values");
        assert!(HostTensor::new([usize::MAX, 2], vec![]).is_err());
        assert!(TokenBatch::new(2, 2, vec![1, 2, 3]).is_err());
    }

    #[test]
    fn parts_of_a_batch() {
        let batch = TokenBatch::new(2, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(*batch.truncated(2), TokenBatch::new(2, 2, vec![1, 2, 4, 5]).unwrap());
        assert_eq!(*batch.truncated(9), batch);
        assert_eq!(batch.select(&[1, 0, 7]).ids(), [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn rows_become_unit_length_and_zero_stays_zero() {
        let mut tensor = HostTensor::new([2, 2], vec![3.0, 4.0, 0.0, 0.0]).unwrap();
        tensor.l2_normalize_rows();
        assert_eq!(tensor.data(), [0.6, 0.8, 0.0, 0.0]);
    }
}
