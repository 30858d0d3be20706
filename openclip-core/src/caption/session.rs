//! What sessions of all backends have in common: trees of texts, and what is asked of whoever reads them.

use super::{CaptionInfo, CaptionSession, Reading, TextTree, TreeNode, TreeStep};
use crate::{Error, HostTensor, Result, TokenBatch};

/// Reads texts about images that it has looked at, on some backend. What it is asked has been checked.
pub trait TextReader: Send {
    /// Logits `[N, S, V]` of what follows each new token of `step`, whose keys and values are known from then on. Texts are
    /// [read causally](Reading::Causal).
    ///
    /// # Errors
    /// Those of the backend.
    fn extend(&mut self, step: &TreeStep) -> Result<HostTensor>;

    /// Logits `[T, L, V]` of whole texts `[T, L]` about the image at place `image`.
    ///
    /// # Errors
    /// Those of the backend.
    fn read(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor>;
}

/// A session whose texts `R` reads.
pub struct ReaderSession<'a, R> {
    info: &'a CaptionInfo,
    reader: R,
    tree: TextTree,
}

impl<'a, R: TextReader> ReaderSession<'a, R> {
    /// A session about as many images as `reader` has looked at.
    pub fn new(info: &'a CaptionInfo, images: usize, reader: R) -> Self {
        Self { info, reader, tree: TextTree::new(images) }
    }
}

impl<R: TextReader> CaptionSession for ReaderSession<'_, R> {
    fn tree(&self) -> &TextTree {
        &self.tree
    }

    fn grow(&mut self, nodes: &[Vec<TreeNode>]) -> Result<HostTensor> {
        let Self { info, reader, tree } = self;
        let first = tree.length();
        tree.grow(nodes, info)?;
        if tree.length() == first {
            return Ok(HostTensor::zeros([nodes.len(), 0, info.logits]));
        }
        match info.reading {
            Reading::Causal { .. } => reader.extend(&tree.step(first, info)?),
            Reading::Whole => tree.read_whole(first, info, |image, texts| reader.read(image, texts)),
        }
    }

    fn logits(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor> {
        self.info.check(texts)?;
        if image >= self.tree.images() {
            return Err(Error::InvalidArgument(format!("there is no image {image}")));
        }
        if texts.rows() == 0 {
            return Ok(HostTensor::zeros([0, texts.length(), self.info.logits]));
        }
        self.reader.read(image, texts)
    }
}
