//! Matrices of which few rows are needed at a time, such as a vocabulary's embeddings: a mapped checkpoint isn't copied,
//! and only the pages that hold those rows are ever read.

use std::sync::Arc;

use super::{TensorData, WeightSource};
use crate::{Error, Result};

/// A matrix `[count, features]` whose rows are read when they are needed, from the checkpoint if it has them as they are.
///
/// It keeps the checkpoint open. As with every memory map, nobody must write into the file meanwhile; replacing it is fine.
#[derive(Clone)]
pub struct Table {
    dims: [usize; 2],
    place: Place,
}

/// Where a table's values are.
#[derive(Clone)]
pub(super) enum Place {
    /// In the memory of their source.
    Stored { source: Arc<dyn WeightSource>, name: String },
    /// In memory of their own.
    Own(Arc<[f32]>),
}

impl Table {
    pub(super) fn new(dims: [usize; 2], place: Place) -> Self {
        Self { dims, place }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// The rows `ids`, one after the other.
    ///
    /// # Shapes
    /// `ids [N] -> [N, features]`
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such row, and when the source doesn't have the table any more.
    pub fn rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let [count, features] = self.dims;
        let mut rows = Vec::with_capacity(ids.len() * features);
        let missing = |id: u32| Error::InvalidArgument(format!("row {id} of a table of {count}"));
        match &self.place {
            Place::Stored { source, name } => {
                let TensorData { info, bytes } = source.read(name, &self.dims)?;
                let width = features * info.dtype.size();
                for &id in ids {
                    let start = (id as usize).checked_mul(width);
                    let row = start.and_then(|start| bytes.get(start..)?.get(..width));
                    let row = row.ok_or_else(|| missing(id))?;
                    rows.extend(TensorData { info: info.clone(), bytes: row.into() }.to_f32());
                }
            }
            Place::Own(values) => {
                for &id in ids {
                    let start = (id as usize).checked_mul(features);
                    let row = start.and_then(|start| values.get(start..)?.get(..features));
                    rows.extend_from_slice(row.ok_or_else(|| missing(id))?);
                }
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use half::f16;

    use super::*;
    use crate::{
        HostTensor,
        weights::{CountingSource, DType, SafetensorsFile, TensorInfo, Weights, save_safetensors},
    };

    /// A file with a 3x2 matrix in two element types.
    fn weights(folder: &std::path::Path) -> (Weights, Arc<CountingSource>) {
        let values = [0.5_f32, 1.0, 1.5, 2.0, 2.5, 3.0];
        let halves: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        let halves =
            TensorData { info: TensorInfo { dtype: DType::F16, dims: vec![3, 2] }, bytes: halves.into() };
        let tensors =
            [("floats".to_owned(), TensorData::from_f32(&[3, 2], &values)), ("halves".to_owned(), halves)];
        let path = folder.join("tables.safetensors");
        save_safetensors(&path, tensors, None).unwrap();
        let counting = Arc::new(CountingSource::new(Arc::new(SafetensorsFile::open(&path).unwrap())));
        (Weights::new(counting.clone()), counting)
    }

    #[test]
    fn rows_are_read_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let (weights, _) = weights(folder.path());
        let doubled = weights.adapt("floats", |stored| {
            HostTensor::new([2, 3], stored.to_f32().iter().map(|value| 2.0 * value).collect())
        });
        for name in ["floats", "halves"] {
            let table = weights.table(name, [3, 2]).unwrap();
            assert!(matches!(table.place, Place::Stored { .. }));
            assert_eq!(table.rows(&[2, 0, 2]).unwrap(), [2.5, 3.0, 0.5, 1.0, 2.5, 3.0], "{name}");
            assert_eq!(table.rows(&[]).unwrap(), [0.0_f32; 0]);
            for id in [3, u32::MAX] {
                let error = table.rows(&[0, id]).unwrap_err().to_string();
                assert!(error.contains(&id.to_string()), "{error}");
            }
        }
        let adapted = doubled.table("floats", [2, 3]).unwrap();
        assert_eq!(adapted.rows(&[1]).unwrap(), [4.0, 5.0, 6.0]);
        assert!(adapted.rows(&[2]).is_err());
        let error = weights.table("floats", [2, 3]).err().unwrap().to_string();
        assert!(error.contains("`floats` has dimensions [3, 2]"), "{error}");
    }

    #[test]
    fn a_table_counts_as_read_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (weights, counting) = weights(folder.path());
        weights.table("halves", [3, 2]).unwrap();
        assert_eq!(counting.bytes_by_tensor(), BTreeMap::from([("halves".to_owned(), 12)]));
    }
}
