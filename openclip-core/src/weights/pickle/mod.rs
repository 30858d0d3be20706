//! Reader of PyTorch checkpoints (`.bin`, `.pt`, `.pth`): zip archives that hold one pickle and one stored entry per
//! storage. The pickle is read by a machine that can make tensors and plain containers and nothing else: no code of
//! a pickle is looked up or run, whatever the file says.
//!
//! Files written by `torch.save` since PyTorch 1.6 are read, and TorchScript archives, of which the attributes are
//! taken and the code is ignored. A `state_dict` entry at the top is unwrapped, as training checkpoints have it.

mod archive;
mod globals;
mod machine;
mod opcodes;
mod state_dict;
mod value;

use std::{collections::HashMap, path::Path, sync::Arc};

use self::{archive::Archive, globals::ElementType};
use super::{
    TensorData, TensorInfo, WeightSource, WeightsError,
    bytes::CheckpointBytes,
    strided::Strided,
    zip::{Entry, ZipFile},
};
use crate::Result;

/// An opened PyTorch checkpoint, or one that lies in memory.
pub struct PickleCheckpoint {
    archive: Archive,
    /// Names in the order of the pickle.
    names: Vec<String>,
    tensors: HashMap<String, Stored>,
}

/// A tensor of the pickle, and the archive entry that holds its elements.
struct Stored {
    element: ElementType,
    strided: Strided,
    entry: Entry,
}

impl PickleCheckpoint {
    /// Maps the file at `path` and reads its pickle, but no tensor.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the file can't be opened, [`WeightsError::UnsafePickle`] when the pickle
    /// asks for anything but tensors and plain containers, [`WeightsError::Malformed`] when the archive or the pickle
    /// is damaged or of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::parse(CheckpointBytes::map(path.as_ref())?)
    }

    /// A file's content in memory. `origin` is what error messages call it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(origin: &str, bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::parse(CheckpointBytes::from_shared(origin, bytes.into()))
    }

    pub(super) fn parse(bytes: CheckpointBytes) -> Result<Self> {
        Self::new(ZipFile::open(bytes)?)
    }

    /// The archive's pickle, and no tensor.
    pub(super) fn new(zip: ZipFile) -> Result<Self> {
        let archive = Archive::new(zip)?;
        let pickled = state_dict::read(archive.pickle()?).map_err(|fault| fault.at(archive.origin()))?;
        let mut names = Vec::with_capacity(pickled.len());
        let mut tensors = HashMap::with_capacity(pickled.len());
        for (name, tensor) in pickled {
            let entry = archive.storage(&tensor.storage.key, tensor.storage.bytes, &name)?;
            let strided = tensor.strided();
            strided
                .check(entry.bytes())
                .map_err(|message| archive.malformed(format!("tensor `{name}` {message}")))?;
            names.push(name.clone());
            tensors.insert(name, Stored { element: tensor.element, strided, entry });
        }
        Ok(Self { archive, names, tensors })
    }
}

impl WeightSource for PickleCheckpoint {
    fn origin(&self) -> String {
        self.archive.origin().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let stored = self.tensors.get(name)?;
        Some(TensorInfo { dtype: stored.element.dtype?, dims: stored.strided.dims.clone() })
    }

    fn read(&self, name: &str, dims: &[usize]) -> Result<TensorData<'_>, WeightsError> {
        let stored =
            self.tensors.get(name).ok_or_else(|| WeightsError::missing(self.origin(), name, dims))?;
        let info = self.info(name).ok_or_else(|| WeightsError::UnsupportedDType {
            origin: self.origin(),
            name: name.to_owned(),
            dtype: stored.element.name.to_owned(),
        })?;
        let storage = self.archive.data(&stored.entry)?;
        let bytes = stored
            .strided
            .elements(storage)
            .map_err(|message| self.archive.malformed(format!("tensor `{name}` {message}")))?;
        Ok(TensorData { info, bytes })
    }

    fn release(&self, name: &str) {
        if let Some(stored) = self.tensors.get(name) {
            self.archive.release(&stored.entry);
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.archive.fingerprint()
    }
}
