//! Generation that keeps nothing: what others are compared with.

use openclip_core::{
    CaptionInfo, CaptionSession, Captioner, HostTensor, Result, TextTree, TokenBatch, TreeNode,
};

/// A captioner that keeps nothing of a text from one token to the next, but reads all of it again. Tests and benchmarks
/// compare others with it.
pub struct Rereading<'a>(
    /// What reads.
    pub &'a dyn Captioner,
);

struct RereadingSession<'a> {
    info: &'a CaptionInfo,
    inner: Box<dyn CaptionSession + 'a>,
    tree: TextTree,
}

impl Captioner for Rereading<'_> {
    fn info(&self) -> &CaptionInfo {
        self.0.info()
    }

    fn look(&self, pixels: &HostTensor) -> Result<Box<dyn CaptionSession + '_>> {
        let inner = self.0.look(pixels)?;
        let tree = TextTree::new(inner.tree().images());
        Ok(Box::new(RereadingSession { info: self.0.info(), inner, tree }))
    }
}

impl CaptionSession for RereadingSession<'_> {
    fn tree(&self) -> &TextTree {
        &self.tree
    }

    fn grow(&mut self, nodes: &[Vec<TreeNode>]) -> Result<HostTensor> {
        let first = self.tree.length();
        self.tree.grow(nodes, self.info)?;
        self.tree.read_whole(first, self.info, |image, texts| self.inner.logits(image, texts))
    }

    fn logits(&self, image: usize, texts: &TokenBatch) -> Result<HostTensor> {
        self.inner.logits(image, texts)
    }
}
