//! A source that counts what is read through it: the proof that one tower reads only its own bytes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{TensorData, TensorInfo, WeightSource, WeightsError};

/// Passes another source through and keeps account of the bytes that are read, tensor by tensor.
pub struct CountingSource {
    source: Arc<dyn WeightSource>,
    read: Mutex<BTreeMap<String, u64>>,
}

impl CountingSource {
    /// Counts what is read from `source`.
    pub fn new(source: Arc<dyn WeightSource>) -> Self {
        Self { source, read: Mutex::default() }
    }

    /// Bytes read so far of every tensor that was read. A tensor that was read twice counts twice.
    pub fn bytes_by_tensor(&self) -> BTreeMap<String, u64> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes read so far of the tensors below `scope`; of all tensors if `scope` is empty.
    pub fn bytes_below(&self, scope: &str) -> u64 {
        let below = |name: &str| {
            scope.is_empty()
                || name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.iter().filter(|(name, _)| below(name)).map(|(_, bytes)| bytes).sum()
    }
}

impl WeightSource for CountingSource {
    fn origin(&self) -> String {
        self.source.origin()
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.source.info(name)
    }

    fn display_name(&self, name: &str) -> String {
        self.source.display_name(name)
    }

    fn is_generative(&self) -> bool {
        self.source.is_generative()
    }

    fn release(&self, name: &str) {
        self.source.release(name);
    }

    fn fingerprint(&self) -> Option<String> {
        self.source.fingerprint()
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        let data = self.source.read(name, dims)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read.entry(name.to_owned()).or_default() += data.bytes.len() as u64;
        Ok(data)
    }
}
