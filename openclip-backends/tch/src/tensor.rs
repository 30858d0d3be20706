//! The backend's tensor: libtorch's, shared between threads.

use std::{fmt, sync::Arc};

use openclip_core::{Dim, Dims};
use tch::Tensor;

/// A tensor of libtorch. Clones share the values, which never change.
#[derive(Clone)]
pub struct TchTensor(Arc<Shared>);

struct Shared(Tensor);

// SAFETY: `tch::Tensor` is a pointer to libtorch's reference-counted `at::Tensor`, and `Send` already. Several threads may
// use one at the same time as long as none of them changes it: libtorch promises that for the const methods of its
// tensors, and counts references to tensors and their storage atomically. No one changes a tensor that is in here: the
// field is private, only `&Tensor` is handed out, `tch` takes `&mut Tensor` for whatever works in place, and the backend
// calls none of those functions that write through `&Tensor` (`*_out`, `set_data` and the like). Gradients, which hang on
// a tensor and do change, are never recorded.
unsafe impl Sync for Shared {}

impl TchTensor {
    /// libtorch's own tensor.
    pub(crate) fn inner(&self) -> &Tensor {
        &self.0.0
    }

    pub(crate) fn dims(&self) -> Dims {
        self.inner().size().into_iter().map(|size| Dim::Fixed(usize::try_from(size).unwrap_or(0))).collect()
    }
}

impl From<Tensor> for TchTensor {
    fn from(tensor: Tensor) -> Self {
        Self(Arc::new(Shared(tensor)))
    }
}

impl fmt::Debug for TchTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}
