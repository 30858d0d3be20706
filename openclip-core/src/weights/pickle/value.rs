//! What a pickle can make here. Values live in an arena and refer to one another by index, so that cyclic and deeply
//! nested ones cost no more than others.

use std::{borrow::Cow, path::Path, rc::Rc};

use super::{
    super::{WeightsError, bytes::malformed, strided::Strided},
    globals::{ElementType, Global},
};

/// Index of a value in the machine's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// A value of the pickle `'p`.
#[derive(Debug)]
pub(super) enum Value<'p> {
    /// Anything that no tensor depends on: floats, byte strings, `None`, devices, numpy scalars, namespaces.
    Inert,
    Int(i64),
    Str(Cow<'p, str>),
    Tuple(Vec<Id>),
    /// A list or set.
    List(Vec<Id>),
    /// A dictionary's items in the order of insertion; a later one replaces an earlier one of the same key.
    Dict(Vec<(Id, Id)>),
    /// A TorchScript module, with the dictionary of its attributes once that is set.
    Module(Option<Id>),
    Global(Global),
    Storage(Rc<StorageRef>),
    Tensor(Rc<TensorRef>),
}

/// An entry of the archive that holds elements.
#[derive(Clone, Debug)]
pub(super) struct StorageRef {
    /// Name of the entry below `data/`.
    pub(super) key: String,
    pub(super) element: ElementType,
    /// Bytes that the entry must have.
    pub(super) bytes: u64,
}

/// A tensor: a window with strides on a storage, which others may share.
#[derive(Debug)]
pub(super) struct TensorRef {
    pub(super) storage: Rc<StorageRef>,
    pub(super) element: ElementType,
    /// Elements before the first one.
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl TensorRef {
    /// The tensor without its storage.
    pub(super) fn strided(&self) -> Strided {
        Strided {
            size: self.element.size,
            offset: self.offset,
            dims: self.dims.clone(),
            strides: self.strides.clone(),
        }
    }
}

/// Why a pickle is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It asks for the named Python object, which isn't on the list of those that tensors need.
    Unsafe(String),
    /// It is damaged, or makes something else than a checkpoint.
    Malformed(String),
}

impl Fault {
    /// The error for the checkpoint `origin`.
    pub(super) fn at(self, origin: &Path) -> WeightsError {
        match self {
            Self::Unsafe(global) => WeightsError::UnsafePickle { path: origin.to_owned(), global },
            Self::Malformed(message) => malformed(origin, "PyTorch checkpoint", message),
        }
    }
}
