//! A source for unit tests: tensors of zeros under given names.

use super::{TensorData, TensorInfo, WeightSource, WeightsError};

pub(super) struct MemorySource {
    origin: String,
    tensors: Vec<(String, Vec<usize>)>,
}

impl MemorySource {
    pub(super) fn new(origin: &str, tensors: &[(&str, &[usize])]) -> Self {
        let tensors = tensors.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec())).collect();
        Self { origin: origin.to_owned(), tensors }
    }

    fn zeros(&self, name: &str) -> Option<TensorData<'static>> {
        let (_, dims) = self.tensors.iter().find(|(known, _)| known == name)?;
        Some(TensorData::from_f32(dims, &vec![0.0; dims.iter().product()]))
    }
}

impl WeightSource for MemorySource {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.iter().map(|(name, _)| name.clone()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.zeros(name).map(|data| data.info)
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        self.zeros(name).ok_or_else(|| WeightsError::missing(self.origin(), name, dims))
    }
}
