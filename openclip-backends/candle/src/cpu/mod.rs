//! Kernels for the CPU, where candle's own are slow or lose accuracy: linear layers on packed weights, attention
//! without copies of queries, keys and values, layer norm with a two-pass variance, vectorised activations.
//!
//! Each is a candle custom op without a backward pass, for inference only.

mod attention;
mod linear;
mod rows;

pub use attention::Attention;
pub use linear::PackedLinear;
pub use rows::{Activate, LayerNorm};

use candle_core::{CpuStorage, Error, Layout, Result};

/// The values of a contiguous `f32` tensor.
fn contiguous<'a>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        return Err(Error::UnsupportedDTypeForOp(storage.dtype(), op).bt());
    };
    match layout.contiguous_offsets().and_then(|(start, end)| values.get(start..end)) {
        Some(values) => Ok(values),
        None => Err(Error::RequiresContiguous { op }.bt()),
    }
}

trait StorageDType {
    fn dtype(&self) -> candle_core::DType;
}

impl StorageDType for CpuStorage {
    fn dtype(&self) -> candle_core::DType {
        candle_core::backend::BackendStorage::dtype(self)
    }
}
